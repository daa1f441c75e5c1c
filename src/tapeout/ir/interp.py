"""The executable meaning of the graph IR in NumPy.

A normal run rounds the result of every op to its type: floats of 16 and 8 bits are computed in f32,
contractions are summed in f32 (i32 for integers). A wide run computes every float in float64 and never
rounds it: the reference that errors are measured against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np

from tapeout.errors import UserError, VerifyError
from tapeout.ir import graph as g
from tapeout.ir import interp_index as index
from tapeout.ir import interp_math as m
from tapeout.ir import interp_window as window
from tapeout.ir.bind import bind_graph, check_arrays, infer_binding
from tapeout.ir.infer import describe, infer
from tapeout.ir.mapped import let_go, reshaped, without_repeats
from tapeout.ir.special import Array, random_words
from tapeout.ir.types import DType

Observer = Callable[[str, Array], None]
Function = Callable[[Array], Array]
Step = Callable[[str, Function, Array], Array]
"""Given the name of a result, the function that jumps and its argument: what it gives, by default `fn(x)`."""

JUMPS = frozenset(("floor", "ceil", "round"))
ELEMENTWISE = g.Unary | g.Binary | g.Compare | g.Select | g.Convert


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gives: outputs and states by name; `values` by value name when asked for, else empty."""

    outputs: dict[str, Array]
    states: dict[str, Array]
    values: dict[str, Array] = field(default_factory=dict[str, Array])


def interpret(
    graph: g.Graph,
    inputs: Mapping[str, Array],
    states: Mapping[str, Array] | None = None,
    wide: bool = False,
    values: bool = False,
    observe: Observer | None = None,
    step: Step | None = None,
) -> Result:
    """Runs `graph` on `inputs`; states that `states` leaves out have their initial contents.

    Arrays must have the declared element types (a wide run takes float64 too) and shapes that some binding
    of the symbols explains, else `UserError`. Results of a wide run hold float64 for every float. `values`
    returns all values outside regions too, so that the first wrong one can be found; `observe` is shown each of them,
    with its name, as soon as it is known, and none is kept for it. `step` decides what roundings of floats to whole
    numbers give.
    """
    check_arrays({v.name: v.type for v in graph.inputs}, inputs, "input", wide)
    binding = infer_binding(graph, {name: array.shape for name, array in inputs.items()})
    bound = bind_graph(graph, binding)
    for value in (v for op in g.walk(bound.ops) for v in op.outs):
        if not all(isinstance(d, int) for d in value.type.shape):
            what = f"no input decides the shape of {value.type}"
            raise UserError(what, str(value), "bind its symbols with bind_graph first")
    given = [inputs[v.name] for v in bound.inputs] + _entering_states(bound, states or {}, wide)
    record: dict[str, Array] = {}
    observe = record.__setitem__ if values else observe
    machine = _Machine(wide, step)
    with np.errstate(all="ignore"):  # infinities and NaN are values like others
        entered = [
            np.asarray(a).astype(m.storage(v.type.dtype, wide), copy=False)
            for v, a in zip(bound.entries, given, strict=True)
        ]
        body = g.Region(bound.entries, bound.ops, bound.exits)
        if observe is not None and not values:
            for value, array in zip(bound.entries, entered, strict=True):
                observe(value.name, array)
        results = [np.array(r) for r in machine.run(body, entered, observe)]
    names = [name for name, _ in bound.outputs]
    outputs = dict(zip(names, results, strict=False))
    left = {s.name: r for s, r in zip(bound.states, results[len(names) :], strict=True)}
    return Result(outputs, left, record)


def _entering_states(graph: g.Graph, states: Mapping[str, Array], wide: bool) -> list[Array]:
    held = {s.name: states.get(s.name, s.initial) for s in graph.states}
    check_arrays({s.name: s.entry.type for s in graph.states}, {**held, **states}, "state", wide)
    for s in graph.states:
        if held[s.name].shape != s.entry.type.shape:
            raise UserError(f"state has shape {list(held[s.name].shape)}", s.name, f"give {s.entry.type}")
    return list(held.values())


class _Machine:
    """Runs regions; remembers for each where its values die."""

    def __init__(self, wide: bool, step: Step | None) -> None:
        self.wide = wide
        self.step = step
        self._deaths: dict[g.Region, list[list[g.Value]]] = {}

    def run(self, region: g.Region, given: list[Array], observe: Observer | None = None) -> tuple[Array, ...]:
        """The results of `region` for its parameters; `observe` is shown every value."""
        values = dict(zip(region.params, given, strict=True))
        given.clear()  # so that they die with their last use
        stored = {op.out: op.data for op in region.ops if isinstance(op, g.Constant)}
        for op, dead in zip(region.ops, self._dying(region), strict=True):
            for value, result in zip(op.outs, self._op(op, values), strict=True):
                _check(op, value, result, self.wide)
                values[value] = result
                if observe is not None:
                    observe(value.name, result)
            for value in dead:
                del values[value]
                if value in stored:
                    let_go(stored[value])
        return tuple(values[r] for r in region.results)

    def _dying(self, region: g.Region) -> list[list[g.Value]]:
        """For each op the values that nothing needs after it."""
        if region not in self._deaths:
            needed = set(region.results)
            deaths: list[list[g.Value]] = []
            for op in reversed(region.ops):
                dead = [v for v in dict.fromkeys((*op.outs, *g.operands(op))) if v not in needed]
                needed.update(dead)
                deaths.append(dead)
            self._deaths[region] = deaths[::-1]
        return self._deaths[region]

    def _op(self, op: g.Op, at: dict[g.Value, Array]) -> tuple[Array, ...]:
        """The results of one op; `at` has its operands."""
        match op:
            case g.If():
                chosen = op.then if at[op.cond] else op.orelse
                return self.run(chosen, [at[v] for v in op.operands])
            case g.While():
                carry = tuple(at[v] for v in op.operands)
                while self.run(op.cond, list(carry))[0]:
                    carry = self.run(op.body, list(carry))
                return carry
            case g.Scan():
                return self._scan(op, at)
            case g.HostCall():
                return _host_call(op, [at[v] for v in op.operands], self.wide)
            case g.Sort():
                return index.sort(at[op.x], op.axis, op.descending)
            case g.Unary() | g.Convert() if self.step is not None and _jumps(op):
                return (self.step(op.out.name, lambda x: np.asarray(_evaluate(op, {op.x: x}, self.wide)), at[op.x]),)
            case _:
                return (np.asarray(_evaluate(op, at, self.wide)),)

    def _scan(self, op: g.Scan, at: dict[g.Value, Array]) -> tuple[Array, ...]:
        kept = len(op.carries)
        carry = tuple(at[v] for v in op.carries)
        stacks = [np.empty(v.type.static_shape, m.storage(v.type.dtype, self.wide)) for v in op.outs[kept:]]
        for i in reversed(range(op.length)) if op.reverse else range(op.length):
            results = self.run(op.body, [*carry, *(at[x][i, ...] for x in op.xs)])
            carry = results[:kept]
            for stack, result in zip(stacks, results[kept:], strict=True):
                stack[i] = result
        return (*carry, *stacks)


def _jumps(op: g.Unary | g.Convert) -> bool:
    """Whether values that hardly differ may give whole numbers that do."""
    if isinstance(op, g.Unary):
        return op.fn in JUMPS
    return op.x.type.dtype.is_float and not op.dtype.is_float and op.dtype is not DType.b1


_Simple = (
    g.Constant | g.Iota | g.RandomBits | g.Unary | g.Binary | g.Compare | g.Select | g.Convert | g.Bitcast
    | g.Reduce | g.ArgReduce | g.Cumulate | g.Dot | g.Conv | g.Pool | g.Reshape | g.Transpose | g.Broadcast
    | g.Slice | g.Pad | g.Concat | g.Gather | g.Scatter | g.DynamicSlice | g.DynamicUpdate
)  # fmt: skip


def evaluate(op: _Simple, given: Sequence[Array]) -> tuple[Array, ...]:
    """The result of one op that has no region, from its operands in field order. What repeats along a dimension of all
    operands of an elementwise op is computed once, and repeats."""
    if isinstance(op, g.Reshape):
        return (reshaped(given[0], op.shape),)
    once = without_repeats(*given) if isinstance(op, ELEMENTWISE) else given
    with np.errstate(all="ignore"):
        result = _evaluate(op, dict(zip(g.operands(op), once, strict=False)), False)
    made = np.asarray(result).astype(infer(op)[0].dtype.numpy, copy=False)
    return (made if once is given else np.broadcast_to(made, given[0].shape),)


def _evaluate(op: _Simple, at: dict[g.Value, Array], wide: bool) -> Array:
    """The only result of an op that has no region."""
    match op:
        case g.Constant():
            return op.data.astype(m.storage(op.out.type.dtype, wide), copy=False)
        case g.Iota():
            shape = op.type.static_shape
            line = m.convert(np.arange(shape[op.axis]), m.storage(op.type.dtype, wide))
            return index.broadcast(line, shape, (op.axis,))
        case g.RandomBits():
            key = [int(k) for k in at[op.key]]
            return random_words(key, int(at[op.offset]), op.type.elements).reshape(op.type.static_shape)
        case g.Unary():
            return m.unary(op.fn, at[op.x])
        case g.Binary():
            return m.binary(op.fn, at[op.x], at[op.y])
        case g.Compare():
            return m.compare(op.fn, at[op.x], at[op.y])
        case g.Select():
            return np.where(at[op.cond], at[op.x], at[op.y])
        case g.Convert():
            return m.convert(at[op.x], m.storage(op.dtype, wide))
        case g.Bitcast():
            return m.bitcast(at[op.x], op.x.type.dtype, op.dtype, wide)
        case g.Reduce():
            return m.reduce(op.fn, at[op.x], op.axes)
        case g.ArgReduce():
            return m.arg_reduce(op.fn, at[op.x], op.axis)
        case g.Cumulate():
            return m.cumulate(op.fn, at[op.x], op.axis, op.exclusive, op.reverse)
        case g.Dot():
            return window.dot(op, at[op.lhs], at[op.rhs], wide)
        case g.Conv():
            return window.conv(op, at[op.x], at[op.w], wide)
        case g.Pool():
            return window.pool(op, at[op.x])
        case g.Reshape():
            return at[op.x].reshape(op.shape)
        case g.Transpose():
            return at[op.x].transpose(op.perm)
        case g.Broadcast():
            return index.broadcast(at[op.x], op.shape, op.dims)
        case g.Slice():
            return index.strided(at[op.x], op.starts, op.sizes, op.steps)
        case g.Pad():
            return window.padded(at[op.x], list(zip(op.lo, op.hi, strict=True)), at[op.value])
        case g.Concat():
            return np.concatenate([at[x] for x in op.xs], axis=op.axis)
        case g.Gather():
            return index.gather(at[op.x], at[op.indices], op.axis, op.batch)
        case g.Scatter():
            return index.scatter(op.fn, at[op.x], at[op.indices], at[op.updates], op.axis)
        case g.DynamicSlice():
            return index.dynamic_slice(at[op.x], [at[s] for s in op.starts], op.sizes)
        case g.DynamicUpdate():
            return index.dynamic_update(at[op.x], at[op.update], [at[s] for s in op.starts])
        case _:
            assert_never(op)


def _host_call(op: g.HostCall, given: list[Array], wide: bool) -> tuple[Array, ...]:
    """Host functions see and return the declared types, in a wide run too."""
    rounded = [m.settle(a, v.type.dtype.numpy) for a, v in zip(given, op.operands, strict=True)]
    made = op.fn(*rounded)
    for result, type_ in zip(made, op.types, strict=True):
        if result.dtype != type_.dtype.numpy:
            what = f"{op.kind} returned {result.dtype} for {type_}"
            raise VerifyError("interpretation", describe(op), what)
    return tuple(r.astype(m.storage(t.dtype, wide), copy=False) for r, t in zip(made, op.types, strict=True))


def _check(op: g.Op, value: g.Value, result: Array, wide: bool) -> None:
    wanted = m.storage(value.type.dtype, wide)
    if result.shape != value.type.shape or result.dtype != wanted:
        found = f"{result.dtype}{list(result.shape)}"
        raise VerifyError("interpretation", describe(op), f"the value is {found}, not {wanted} {value.type}")
