"""Control flow: `torch.cond`, `while_loop`, `scan`, `map` become ops with regions; wrappers are imported in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tapeout.frontend.torch_ops.lowering import Handler, Lowering
from tapeout.ir import graph as g
from tapeout.ir.build import Builder
from tapeout.ir.types import TensorType


def _region(t: Lowering, types: Sequence[TensorType], body: Callable[..., Sequence[Any]]) -> g.Region:
    def results(inner: Builder, *params: g.Value) -> tuple[g.Value, ...]:
        return tuple(body(inner, *params))

    return t.b.region(types, results)


def _split(t: Lowering, operands: Sequence[Any]) -> tuple[list[g.Value], Callable[[Sequence[g.Value]], list[Any]]]:
    """The tensors among operands, and how to put others of them in their places."""
    tensors = [o for o in operands if isinstance(o, g.Value)]

    def join(params: Sequence[g.Value]) -> list[Any]:
        left = iter(params)
        return [next(left) if isinstance(o, g.Value) else o for o in operands]

    return tensors, join


def _cond(t: Lowering, pred: Any, then: Any, orelse: Any, operands: Sequence[Any] = ()) -> tuple[g.Value, ...]:
    if isinstance(pred, bool):
        return t.run_graph(t.b, then if pred else orelse, operands)
    tensors, join = _split(t, operands)
    types = [v.type for v in tensors]

    def branch(module: Any) -> g.Region:
        def body(b: Builder, *params: g.Value) -> Sequence[Any]:
            return t.run_graph(b, module, join(params))

        return _region(t, types, body)

    return t.b.emit(g.If(t.b.reshape(pred, ()), tuple(tensors), branch(then), branch(orelse)))


def _while_loop(
    t: Lowering, cond: Any, body: Any, carried: Sequence[Any], additional: Sequence[Any] = ()
) -> tuple[g.Value, ...]:
    """What the loop only reads is carried along unchanged."""
    carried = [o if isinstance(o, g.Value) else t.cast(o, t.promote(o)) for o in carried]
    tensors, join = _split(t, [*carried, *additional])
    types = [v.type for v in tensors]

    def test(b: Builder, *params: g.Value) -> Sequence[g.Value]:
        (result,) = t.run_graph(b, cond, join(params))
        return [b.reshape(result, ())]

    def step(b: Builder, *params: g.Value) -> Sequence[g.Value]:
        return [*t.run_graph(b, body, join(params)), *params[len(carried) :]]

    outs = t.b.emit(g.While(tuple(tensors), _region(t, types, test), _region(t, types, step)))
    return outs[: len(carried)]


def _scan(
    t: Lowering, body: Any, init: Sequence[g.Value], xs: Sequence[g.Value], additional: Sequence[Any] = ()
) -> tuple[g.Value, ...]:
    """What the body only reads is carried along unchanged."""
    extra, join = _split(t, additional)
    carries = [*init, *extra]
    length = t.static(xs[0].type.shape[0], "the length of a scan")
    types = [v.type for v in carries] + [x.type.with_shape(x.type.shape[1:]) for x in xs]

    def step(b: Builder, *params: g.Value) -> Sequence[g.Value]:
        carry, kept, items = (
            params[: len(init)],
            params[len(init) : len(carries)],
            params[len(carries) :],
        )
        results = t.run_graph(b, body, [*carry, *items, *join(kept)])
        return [*results[: len(init)], *kept, *results[len(init) :]]

    outs = t.b.emit(g.Scan(tuple(carries), tuple(xs), _region(t, types, step), length))
    return outs[: len(init)] + outs[len(carries) :]


def _map(t: Lowering, body: Any, xs: Sequence[g.Value], additional: Sequence[Any] = ()) -> tuple[g.Value, ...]:
    return _scan(t, body, [], xs, additional)


def _in_place(skip: int) -> Handler:
    """A call of a submodule after `skip` settings that do not concern inference."""

    def handle(t: Lowering, *args: Any, **_: Any) -> tuple[Any, ...]:
        return t.run_graph(t.b, args[skip], args[skip + 1 :])

    return handle


def _invoke_subgraph(t: Lowering, module: Any, _name: Any, *args: Any) -> tuple[Any, ...]:
    return t.run_graph(t.b, module, args)


TABLE: Mapping[str, Handler] = {
    "cond": _cond,
    "while_loop": _while_loop,
    "scan": _scan,
    "map_impl": _map,
    "wrap_with_set_grad_enabled": _in_place(1),
    "wrap_with_autocast": _in_place(4),
    "invoke_subgraph": _invoke_subgraph,
}
"""By the name of the higher-order operator."""
