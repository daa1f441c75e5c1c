"""Control flow: branches known during the import are lowered in place, the rest becomes regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tapeout.frontend.onnx_ops.call import Call, Handler, Item, NeedsConstant, NotTensorsError, TensorSequence, table
from tapeout.frontend.onnx_ops.reduce import reversed_along
from tapeout.frontend.onnx_proto import GraphView
from tapeout.ir import graph as g
from tapeout.ir.build import Builder
from tapeout.ir.types import DType, TensorType

UNROLL_LIMIT = 256
"""Loops whose values change shape are unrolled up to this many turns."""


def if_(c: Call) -> Sequence[Item]:
    known = c.known(0)
    then, orelse = c.body("then_branch"), c.body("else_branch")
    if known is not None:
        return c.scope.inline(then if bool(known.reshape(())) else orelse, [])
    try:
        regions, captured = c.scope.region((then, orelse), [], 0)
    except NotTensorsError:
        raise c.needs_constant(0) from None
    cond = c.b.reshape(c.x(), ())
    return c.b.emit(g.If(cond, tuple(captured), regions[0], regions[1]))


# ---- Loop(trip count, condition, carries..), body(turn, condition, carries..) -> condition, carries.., scanned..


def loop(c: Call) -> Sequence[Item]:
    body = c.body("body")
    carries = list(c.items[2:])
    turns = _turns(c)
    scanned = len(body.outputs) - 1 - len(carries)
    if turns is not None and _always_true(body):
        if turns and not any(isinstance(v, TensorSequence) or v is None for v in carries):
            result = _counted(c, body, turns, [v for v in carries if isinstance(v, g.Value)])
            if result is not None:
                return result
        return _unrolled(c, body, turns, carries, scanned)
    if turns is not None and _decides(c, body, carries):
        return _unrolled(c, body, turns, carries, scanned)
    if scanned or any(not isinstance(v, g.Value) for v in carries):
        raise c.needs_constant(0 if c.has(0) and c.known(0) is None else 1)
    return _while(c, body, [v for v in carries if isinstance(v, g.Value)])


def _turns(c: Call) -> int | None:
    """The trip count where it is known; 0 when the condition is known to fail at once."""
    cond = c.known(1) if c.has(1) else np.array(True)
    if cond is not None and not bool(cond.reshape(())):
        return 0
    count = c.known(0) if c.has(0) else None
    return None if count is None or cond is None else int(count.reshape(()))


def _always_true(body: GraphView) -> bool:
    """Whether the body passes its condition on, or returns a constant true."""
    name = body.outputs[0]
    while True:
        if name == body.parameters[1]:
            return True
        if name in body.weights:
            return bool(np.all(body.weights[name]()))
        producer = next((n for n in body.nodes if name in n.outputs), None)
        if producer is not None and producer.op == "Constant":
            return bool(np.all(producer.attributes.get("value", False)))
        if producer is None or producer.op != "Identity":
            return False
        name = producer.inputs[0]


def _counted(c: Call, body: GraphView, turns: int, carries: list[g.Value]) -> Sequence[Item] | None:
    """The loop as a scan over its turn number, or None where it has to be unrolled.

    That is when a carry changes its type on the way, or a shape depends on the turn.
    """
    carry_types = [v.type for v in carries]
    types = [*carry_types, TensorType(DType.i64, ())]
    # The region's parameters are carries, captured values, turn; the body wants turn, condition, carries.
    wanted = _reordered(body, len(carries))
    try:
        (region,), captured = c.scope.region((wanted,), types, len(carries))
    except (NeedsConstant, NotTensorsError):
        return None
    results = region.results[1:]
    if [r.type for r in results[: len(carries)]] != carry_types:
        return None
    kept = region.params[len(carries) : len(carries) + len(captured)]
    region = g.Region(region.params, region.ops, (*results[: len(carries)], *kept, *results[len(carries) :]))
    turn = c.b.iota(TensorType(DType.i64, (turns,)), 0)
    outs = c.b.emit(g.Scan((*carries, *captured), (turn,), region, turns))
    return [*outs[: len(carries)], *outs[len(carries) + len(captured) :]]


def _reordered(body: GraphView, carries: int) -> GraphView:
    """The body with its parameters as carries, turn; its condition is true."""
    turn, cond, *rest = body.parameters
    assert len(rest) == carries
    weights = {**body.weights, cond: lambda: np.array(True)}
    return GraphView(body.name, (*rest, turn), body.inputs, body.outputs, body.nodes, weights)


def _unrolled(c: Call, body: GraphView, turns: int, carries: Sequence[Item], scanned: int) -> Sequence[Item]:
    if turns > UNROLL_LIMIT:
        raise c.unsupported(f"of {turns} turns changes the shape of what it carries", "pad it to a fixed shape")
    stacks: list[list[g.Value]] = [[] for _ in range(scanned)]
    for turn in range(turns):
        given = [c.b.scalar(turn, DType.i64), c.b.constant(np.array(True)), *carries]
        cond, *results = c.scope.inline(body, given)
        carries = results[: len(carries)]
        for stack, value in zip(stacks, results[len(carries) :], strict=True):
            if not isinstance(value, g.Value):
                raise c.unsupported("stacks what is not a tensor")
            stack.append(c.b.reshape(value, (1, *value.type.shape)))
        if not bool(c.b.known[cond] if isinstance(cond, g.Value) and cond in c.b.known else True):
            break
    if any(not s for s in stacks):
        raise c.unsupported("of no turns stacks results of unknown shape", "remove it")
    return [*carries, *(c.b.concat(s, 0) for s in stacks)]


def _decides(c: Call, body: GraphView, carries: Sequence[Item]) -> bool:
    """Whether the condition after one turn is known during the import."""
    given = [c.b.scalar(0, DType.i64), c.b.constant(np.array(True)), *carries]
    cond = c.scope.inline(body, given)[0]
    return isinstance(cond, g.Value) and cond in c.b.known


def _while(c: Call, body: GraphView, carries: list[g.Value]) -> Sequence[Item]:
    """Carries turn, condition, the loop's carries and what it captures, until the condition or the count ends it."""
    turn = c.b.scalar(0, DType.i64)
    cond = c.b.reshape(c.x(1), ()) if c.has(1) else c.b.constant(np.array(True))
    limit = c.b.reshape(c.x(0), ()) if c.has(0) else c.b.scalar(np.iinfo(np.int64).max, DType.i64)
    lead = [turn, cond, *carries]
    (inner,), captured = c.scope.region((body,), [v.type for v in lead], len(lead))
    given = [*lead, *captured, limit]
    types = [v.type for v in given]
    step = _with_turn(c, inner, types)
    test = c.b.region(types, _goes_on)
    outs = c.b.emit(g.While(tuple(given), test, step))
    return outs[2 : 2 + len(carries)]


def _goes_on(b: Builder, *params: g.Value) -> tuple[g.Value, ...]:
    """The condition holds and the turn is below the limit."""
    return (b.binary("and", params[1], b.compare("lt", params[0], params[-1])),)


def _with_turn(c: Call, inner: g.Region, types: Sequence[TensorType]) -> g.Region:
    """The body's region, returning the next turn and everything that it only reads."""

    def body(b: Builder, *params: g.Value) -> tuple[g.Value, ...]:
        mapping = dict(zip(inner.params, params, strict=False))
        for op in inner.ops:
            outs = b.emit(g.substitute(op, mapping))
            mapping.update(zip(op.outs, outs, strict=True))
        cond, *carries = (mapping[r] for r in inner.results)
        turn = b.binary_scalar("add", params[0], 1)
        return (turn, b.reshape(cond, ()), *carries, *params[2 + len(carries) :])

    return c.b.region(types, body)


# ---- Scan(states..., scanned...) with body(states..., slices...) -> states..., slices...


def scan(c: Call) -> Sequence[Item]:
    if c.opset < 9:
        raise c.unsupported("of opset 8 has a batch dimension", "export with opset 9 or newer")
    body, count = c.body("body"), c.attr_int("num_scan_inputs", 1)
    values = c.xs()
    states, xs = values[: len(values) - count], values[len(values) - count :]
    in_axes, in_back = c.attr_ints("scan_input_axes") or [0] * count, c.attr_ints("scan_input_directions")
    xs = [_front(c, x, a, bool(in_back and in_back[i])) for i, (x, a) in enumerate(zip(xs, in_axes, strict=True))]
    types = [v.type for v in states] + [x.type.with_shape(x.type.shape[1:]) for x in xs]
    (region,), captured = c.scope.region((body,), types, len(states))
    kept = region.params[len(states) : len(states) + len(captured)]
    results = (*region.results[: len(states)], *kept, *region.results[len(states) :])
    length = xs[0].type.static_shape[0]
    closed = g.Region(region.params, region.ops, results)
    outs = c.b.emit(g.Scan((*states, *captured), tuple(xs), closed, length))
    ys = outs[len(states) + len(captured) :]
    out_axes, out_back = c.attr_ints("scan_output_axes") or [0] * len(ys), c.attr_ints("scan_output_directions")
    stacked = [
        _back(c, y, a, bool(out_back and out_back[i])) for i, (y, a) in enumerate(zip(ys, out_axes, strict=True))
    ]
    return [*outs[: len(states)], *stacked]


def _front(c: Call, x: g.Value, axis: int, backward: bool) -> g.Value:
    axis = c.wrap(axis, x.type.rank)
    x = c.b.transpose(x, [axis, *(i for i in range(x.type.rank) if i != axis)])
    return reversed_along(c, x, 0) if backward else x


def _back(c: Call, y: g.Value, axis: int, backward: bool) -> g.Value:
    y = reversed_along(c, y, 0) if backward else y
    order = list(range(1, y.type.rank))
    order.insert(c.wrap(axis, y.type.rank), 0)
    return c.b.transpose(y, order)


OPS: Mapping[tuple[str, str], Handler] = table(If=if_, Loop=loop, Scan=scan)
