"""What passes that change how contractions compute have in common: their operands, weights among them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from tapeout.ir import graph as g
from tapeout.ir.build import Builder
from tapeout.ir.mapped import reshaped

Contraction = g.Dot | g.Conv


def sides(op: Contraction) -> tuple[g.Value, g.Value]:
    """The operand, and what it is multiplied with: the weights, where there are any."""
    return (op.lhs, op.rhs) if isinstance(op, g.Dot) else (op.x, op.w)


def float_contractions(graph: g.Graph) -> Iterator[Contraction]:
    """The contractions of floats outside regions."""
    for op in graph.ops:
        if isinstance(op, g.Dot | g.Conv) and op.dtype.is_float and sides(op)[0].type.dtype.is_float:
            yield op


def channel(op: Contraction) -> tuple[int, int]:
    """The dimension of the weights that holds output channels (-1: none), and that of the result."""
    if isinstance(op, g.Conv):
        return 0, 1
    free = [d for d in range(op.rhs.type.rank) if d not in (*op.rhs_batch, *op.rhs_contract)]
    return (free[-1] if free else -1), op.lhs.type.rank - len(op.lhs_contract) + len(free) - 1


def weights(graph: g.Graph) -> dict[g.Value, np.ndarray]:
    """Constants, also reshaped and transposed ones; views, but for what is reshaped after it was transposed."""
    found: dict[g.Value, np.ndarray] = {}
    for op in graph.ops:
        match op:
            case g.Constant():
                found[op.out] = op.data
            case g.Transpose() if op.x in found:
                found[op.out] = found[op.x].transpose(op.perm)
            case g.Reshape() if op.x in found:
                found[op.out] = reshaped(found[op.x], op.shape)
            case _:
                pass
    return found


def split(op: g.Dot) -> g.Dot:
    """The same contraction of operands whose last contracted dimension n is two, [.., n / group, group, ..]."""

    def renumbered(dims: tuple[int, ...], at: int) -> tuple[int, ...]:
        return tuple(d + (d > at) for d in dims)

    def apart(contract: tuple[int, ...]) -> tuple[int, ...]:
        at = contract[-1]
        return (*renumbered(contract, at), at + 1)

    left, right = op.lhs_contract[-1], op.rhs_contract[-1]
    return dataclasses.replace(
        op,
        lhs_contract=apart(op.lhs_contract),
        rhs_contract=apart(op.rhs_contract),
        lhs_batch=renumbered(op.lhs_batch, left),
        rhs_batch=renumbered(op.rhs_batch, right),
    )


def origin(value: g.Value, producer: Mapping[g.Value, g.Op]) -> g.Value:
    """What `value` is in another shape or order."""
    while isinstance(op := producer.get(value), g.Reshape | g.Transpose):
        value = op.x
    return value


def producers(graph: g.Graph) -> dict[g.Value, g.Op]:
    return {out: op for op in graph.ops for out in op.outs}


def rebuilt(
    graph: g.Graph,
    rewritten: Callable[[Builder, g.Op, Mapping[g.Value, g.Value]], g.Op],
    after: Callable[[Builder, g.Value, g.Value], g.Value] = lambda b, old, new: new,
) -> g.Graph:
    """The graph anew: `rewritten` gives what to emit for an op, on what stands for its operands; `after` what stands
    for a value from now on."""
    b = Builder(graph.name)
    for s in graph.symbols:
        b.symbol(s.name, s.lo, s.hi)
    made = {v: b.input(v.name, v.type) for v in graph.inputs}
    made |= {s.entry: b.state(s.name, s.initial) for s in graph.states}
    made = {old: after(b, old, new) for old, new in made.items()}
    for op in graph.ops:
        b.source = op.source
        for old, new in zip(op.outs, b.emit(rewritten(b, op, made)), strict=True):
            made[old] = after(b, old, new)
    for name, value in graph.outputs:
        b.output(name, made[value])
    for state in graph.states:
        b.set_state(state.name, made[state.exit])
    return g.drop_dead(b.finish())
