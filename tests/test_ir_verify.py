"""The verifier accepts every random graph and rejects each way of breaking one, naming the value."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings

from strategies import graphs
from tapeout.errors import VerifyError
from tapeout.ir import Builder, DType, Graph, Op, Region, State, Symbol, TensorType, Value, infer, symbol, verify
from tapeout.ir import graph as g

F32 = DType.f32
SCALAR = TensorType(F32, ())
VECTOR = TensorType(F32, (4,))


@given(graphs(control=True, states=True, symbols=True, dtypes=(DType.f16, DType.f32)))
@settings(max_examples=100)
def test_random_graphs_are_valid(graph: Graph) -> None:
    verify(graph)


def small() -> Graph:
    """x, its negation %v0, a state, a branch %v1 and the output y."""
    b = Builder("small")
    b.symbol("n", 1, 8)
    x = b.input("x", VECTOR)
    held = b.state("s", np.zeros(4, np.float32))
    y = b.unary("neg", x)
    then = b.region([VECTOR], lambda inner, p: (inner.unary("abs", p),))
    orelse = b.region([VECTOR], lambda inner, p: (p,))
    cond = b.input("c", TensorType(DType.b1, ()))
    z = b.emit(g.If(cond, (y,), then, orelse))[0]
    b.set_state("s", b.add(held, z))
    b.output("y", z)
    return b.finish()


Change = Callable[[Graph], Graph]


def with_ops(change: Callable[[list[Op]], Sequence[Op]]) -> Change:
    return lambda graph: dataclasses.replace(graph, ops=tuple(change(list(graph.ops))))


def with_op(index: int, **fields: object) -> Change:
    def change(ops: list[Op]) -> list[Op]:
        ops[index] = dataclasses.replace(ops[index], **fields)
        return ops

    return with_ops(change)


def with_state(**fields: object) -> Change:
    return lambda graph: dataclasses.replace(graph, states=(dataclasses.replace(graph.states[0], **fields),))


def retyped(type_: TensorType) -> Change:
    """Declares another type for the result of the negation, everywhere it is used."""

    def change(graph: Graph) -> Graph:
        old = graph.ops[0].out
        new = Value(old.name, type_)
        first = dataclasses.replace(graph.ops[0], outs=(new,))
        return dataclasses.replace(graph, ops=(first, *(g.substitute(op, {old: new}) for op in graph.ops[1:])))

    return change


def open_region(graph: Graph) -> Graph:
    """A region that uses a value from outside."""
    branch = graph.ops[1]
    assert isinstance(branch, g.If)
    leak = Region(branch.orelse.params, (), (graph.inputs[0],))
    return with_op(1, orelse=leak)(graph)


def leaking_op(graph: Graph) -> Graph:
    branch = graph.ops[1]
    assert isinstance(branch, g.If)
    inner = dataclasses.replace(branch.then.ops[0], x=graph.inputs[0])
    return with_op(1, then=Region(branch.then.params, (inner,), branch.then.results))(graph)


def escaping(graph: Graph) -> Graph:
    """A region's value used outside of it."""
    branch = graph.ops[1]
    assert isinstance(branch, g.If)
    return dataclasses.replace(graph, outputs=(("y", branch.then.results[0]),))


STRAY = Value("stray", VECTOR)
CORRUPTIONS: dict[str, tuple[Change, str]] = {
    "same name twice": (with_op(0, outs=(Value("x", VECTOR),)), r"%x: two values have this name"),
    "no name": (with_op(0, outs=(Value("", VECTOR),)), "has no name"),
    "defined twice": (with_ops(lambda ops: [ops[0], *ops]), r"%v0: defined twice"),
    "used before": (with_ops(lambda ops: [ops[1], ops[0], *ops[2:]]), r"%v0: used by If .* not defined before"),
    "never defined": (with_op(0, x=STRAY), r"%stray: used by Unary"),
    "wrong shape": (retyped(SCALAR), r"Unary %v0: results are declared f32\[\] but inferred f32\[4\]"),
    "wrong type": (retyped(TensorType(DType.f16, (4,))), r"declared f16\[4\] but inferred f32\[4\]"),
    "missing result": (with_op(0, outs=()), "Unary: results are declared none but inferred"),
    "unknown function": (with_op(0, fn="cube"), "no function 'cube'"),
    "float only": (with_op(0, fn="not"), "not of f32"),
    "region result from outside": (open_region, r"%x: result of a region .* not defined in it"),
    "region op reads outside": (leaking_op, r"%x: used by Unary"),
    "region value escapes": (escaping, "output 'y' is not defined"),
    "unlike branches": (
        lambda graph: with_op(1, orelse=_region_of(SCALAR))(graph),
        "region takes other types",
    ),
    "undeclared symbol": (retyped(TensorType(F32, (symbol("q"),))), r"symbol q is not declared|inferred"),
    "undeclared input symbol": (
        lambda graph: dataclasses.replace(graph, inputs=(*graph.inputs, Value("w", TensorType(F32, (symbol("q"),))))),
        r"%w: symbol q is not declared",
    ),
    "negative extent": (
        lambda graph: dataclasses.replace(graph, inputs=(*graph.inputs, Value("w", TensorType(F32, (g_sub("n", 2),))))),
        r"%w: dimension n-2 of f32\[n-2\] can be negative",
    ),
    "symbol twice": (
        lambda graph: dataclasses.replace(graph, symbols=graph.symbols * 2),
        "n: symbol declared twice",
    ),
    "symbol bounds": (
        lambda graph: dataclasses.replace(graph, symbols=(Symbol("n", 3, 2),)),
        r"n: symbol has the bounds \[3, 2\]",
    ),
    "symbol name": (
        lambda graph: dataclasses.replace(graph, symbols=(Symbol("n-1", 1, 2),)),
        "must be an identifier",
    ),
    "state contents": (with_state(initial=np.zeros(3, np.float32)), r"state 's' is f32\[4\] but its initial"),
    "state exit type": (
        lambda graph: with_state(exit=graph.inputs[1])(graph),
        r"state 's' is f32\[4\] but its exit b1\[\]",
    ),
    "state exit": (with_state(exit=STRAY), r"%stray: exit of state 's' is not defined"),
    "state name": (with_state(name=""), "state name '' is empty or taken"),
    "output value": (
        lambda graph: dataclasses.replace(graph, outputs=(("y", STRAY),)),
        r"%stray: output 'y' is not defined",
    ),
    "output name": (
        lambda graph: dataclasses.replace(graph, outputs=graph.outputs * 2),
        "two outputs are named 'y'",
    ),
    "host types": (
        lambda graph: with_op(0)(dataclasses.replace(graph, ops=(_host(graph, SCALAR, "f"), *graph.ops[1:]))),
        r"HostCall %v0: results are declared f32\[4\] but inferred f32\[\]",
    ),
    "host kind": (
        lambda graph: dataclasses.replace(graph, ops=(_host(graph, VECTOR, ""), *graph.ops[1:])),
        "a host call needs a kind",
    ),
}


def g_sub(name: str, n: int):
    return dataclasses.replace(symbol(name), const=-n)


def _region_of(type_: TensorType) -> Region:
    p = Value("q", type_)
    return Region((p,), (), (p,))


def _host(graph: Graph, type_: TensorType, kind: str) -> Op:
    return g.HostCall(kind, (), (type_,), lambda: (np.zeros(()),), outs=graph.ops[0].outs)


def test_the_graph_itself_is_valid() -> None:
    verify(small())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_are_found(name: str) -> None:
    change, message = CORRUPTIONS[name]
    with pytest.raises(VerifyError, match=message) as caught:
        verify(change(small()), stage="fuse")
    assert caught.value.stage == "fuse"


def value(dtype: DType, *shape: int) -> Value:
    return Value("v", TensorType(dtype, shape))


X, Y, M = value(F32, 2, 3), value(F32, 3, 2), value(F32, 1, 4, 5, 5)
I32 = value(DType.i32, 2, 3)
START, FLAGS = value(DType.i32), value(DType.b1, 2, 3)
ONES = (1, 1)
BAD_OPS: list[tuple[Op, str]] = [
    (g.Iota(VECTOR, 1), "axes"),
    (g.Iota(TensorType(DType.b1, (2,)), 0), "positions as b1"),
    (g.RandomBits(X, START, TensorType(DType.u32, (4,))), "key is"),
    (g.Unary("exp", I32), "exp of i32"),
    (g.Unary("neg", FLAGS), "neg of b1"),
    (g.Binary("add", X, Y), "shapes differ"),
    (g.Binary("add", X, I32), "types differ"),
    (g.Binary("xor", X, X), "xor of f32"),
    (g.Binary("atan2", I32, I32), "atan2 of i32"),
    (g.Compare("near", X, X), "no function"),
    (g.Select(X, X, X), "condition is"),
    (g.Select(FLAGS, X, I32), "types differ"),
    (g.Bitcast(X, DType.f16), "changes the size"),
    (g.Reduce("sum", X, (2,)), "axes"),
    (g.Reduce("sum", X, (1, 1)), "repeat"),
    (g.Reduce("sum", FLAGS, (1,)), "sum of b1"),
    (g.ArgReduce("sum", X, 0), "no function"),
    (g.Cumulate("and", I32, 0), "no function"),
    (g.Dot(X, X, (1,), (0,), (), (), F32), "dimension 1 of"),
    (g.Dot(X, I32, (1,), (1,), (), (), F32), "f32 times i32"),
    (g.Dot(X, Y, (1,), (0,), (1,), (0,), F32), "repeat"),
    (g.Dot(X, Y, (1,), (), (), (), F32), "shorter"),
    (g.Conv(M, value(F32, 4, 3, 3, 3), ONES, ((0, 0),) * 2, ONES, ONES, 1, F32), "channels are not"),
    (g.Conv(M, value(F32, 3, 2, 3, 3), ONES, ((0, 0),) * 2, ONES, ONES, 2, F32), "do not divide"),
    (g.Conv(M, value(F32, 4, 4, 6, 6), ONES, ((0, 0),) * 2, ONES, ONES, 1, F32), "larger than the padded"),
    (g.Conv(M, value(F32, 4, 4, 3, 3), (0, 1), ((0, 0),) * 2, ONES, ONES, 1, F32), "below 1"),
    (g.Conv(M, X, (), (), (), (), 1, F32), "ranks differ"),
    (g.Pool("mean", M, ONES, ONES, ((0, 0),) * 2, ONES), "no function"),
    (g.Pool("max", START, (1,), (1,), ((0, 0),), (1,)), "window"),
    (g.Reshape(X, (4,)), "changes the count"),
    (g.Transpose(X, (0, 0)), "permutation"),
    (g.Broadcast(X, (2, 4), (0, 1)), "does not broadcast"),
    (g.Broadcast(X, (2, 3), (0, 2)), "axes"),
    (g.Slice(X, (0, 2), (2, 2), ONES), "leaves"),
    (g.Slice(X, (0, 0), (2, 2), (1, -1)), "leaves"),
    (g.Slice(X, (0, 0), (1, 1), (1, 0)), "step 0"),
    (g.Pad(X, X, (0, 0), (0, 0)), "fill value"),
    (g.Pad(X, value(F32), (0,), (0,)), "shorter"),
    (g.Concat((X, Y), 0), "does not continue"),
    (g.Concat((X, value(F32, 2)), 0), "does not continue"),
    (g.Gather(X, X, 0), "indices are"),
    (g.Gather(X, I32, 1, 2), "axis 1"),
    (g.Gather(X, START, 1, 1), "batch 1"),
    (g.Scatter("set", X, START, X, 0), "updates are"),
    (g.Scatter("sub", X, START, value(F32, 3), 0), "no function"),
    (g.DynamicSlice(X, (START,), (1, 1)), "one start"),
    (g.DynamicSlice(X, (START, X), (1, 1)), "start %v is"),
    (g.DynamicSlice(X, (START, START), (1, 4)), "4 elements of an extent 3"),
    (g.DynamicUpdate(X, I32, (START, START)), "into"),
    (g.Sort(X, 2), "axes"),
    (g.Scan((), (X,), Region((value(F32, 3),), (), ()), 3), "is not 3 long"),
    (g.While((X,), _region_of(X.type), _region_of(X.type)), "condition is not"),
    (g.If(X, (), Region((), (), ()), Region((), (), ())), "condition is"),
]


@pytest.mark.parametrize(("op", "message"), BAD_OPS, ids=lambda p: type(p).__name__ if isinstance(p, g.OpBase) else "")
def test_ops_that_do_not_fit(op: Op, message: str) -> None:
    with pytest.raises(VerifyError, match=message):
        infer(op)


def test_two_states_of_one_name() -> None:
    graph = small()
    entry = Value("s2", VECTOR)
    twin = State("s", entry, entry, np.zeros(4, np.float32))
    with pytest.raises(VerifyError, match="'s' is empty or taken"):
        verify(dataclasses.replace(graph, states=(*graph.states, twin)))


def test_reshape_cancels_symbols() -> None:
    b = Builder()
    b.symbol("n", 1, 4)
    b.symbol("m", 1, 4)
    x = b.input("x", TensorType(F32, (symbol("n"), symbol("m"), 6)))
    b.output("y", b.reshape(x, (symbol("m"), 2, symbol("n"), 3)))
    verify(b.finish())
    with pytest.raises(VerifyError, match="changes the count"):
        b.reshape(x, (symbol("m"), 5, symbol("n"), 3))
