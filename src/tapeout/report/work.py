"""The work that a source graph demands, counted so that no legal schedule needs less (`docs/bounds.md`).

Nothing of the compiler is used. Ops that are equal are counted once and ops on constants not at all; elements that no
result depends on, that repeat others by a broadcast or that a constant mask blots out do not count. What remains is
counted by definition: a contraction is its multiply-accumulates, and of element-by-element ops only special functions
count, since the rest may ride along in drains, transfers and weights.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from tapeout.errors import UserError
from tapeout.ir import graph as g
from tapeout.ir.graph import operands, substitute
from tapeout.ir.mapped import is_stand_in, let_go
from tapeout.ir.unroll import unroll_scans
from tapeout.report import demand
from tapeout.report.facts import SPECIAL, Facts, facts_of


@dataclass(frozen=True, slots=True)
class Carrier:
    """What an operand's elements need: significand bits, and whether they are integers or floats of `range_bits`."""

    bits: int
    integer: bool
    range_bits: int


@dataclass(frozen=True, slots=True)
class Contraction:
    """`batch` products m x k by k x n as written, and the multiply-accumulates of them that count.

    `reuse` is how often a window lets an element serve (1 for matrix products).
    """

    name: str
    batch: int
    m: int
    n: int
    k: int
    macs: int
    a: Carrier
    b: Carrier
    bytes_touched: int
    element_bytes: int
    reuse: float


@dataclass(frozen=True, slots=True)
class Work:
    """What has to be done. Bytes are those that cross DRAM at least once, where no cache keeps what is written;
    `written_state_bytes` are part of `state_bytes`; `chain` lists the contractions of the longest path of dependent
    ones; `special` is element-ops of special functions on floats as (f32, narrower)."""

    contractions: tuple[Contraction, ...]
    special: tuple[int, int]
    input_bytes: int
    weight_bytes: int
    state_bytes: int
    output_bytes: int
    chain: int
    written_state_bytes: int

    @property
    def macs(self) -> int:
        return sum(c.macs for c in self.contractions)

    @property
    def dram_bytes(self) -> int:
        return self.input_bytes + self.weight_bytes + self.state_bytes + self.output_bytes


def count(graph: g.Graph) -> Work:
    """The work of a graph without symbols. `UserError` where one is left."""
    if graph.symbols:
        names = ", ".join(s.name for s in graph.symbols)
        raise UserError(f"symbols without a value: {names}", graph.name, "give them with --set or bind_graph")
    plain = _unique(unroll_scans(graph))
    facts = facts_of(plain)
    need = demand.spread(plain, facts)
    contractions: list[Contraction] = []
    depth: dict[g.Value, int] = {}
    for op in plain.ops:
        inputs = operands(op)
        level = max((depth.get(v, 0) for v in inputs if v in need.masks), default=0)
        if isinstance(op, g.Dot | g.Conv) and not facts[op.out].constant:
            found = _contraction(op, facts, need)
            if found.macs:
                contractions.append(found)
                level += 1
        for out in op.outs:
            depth[out] = level
    chain = max((depth.get(root, 0) for root in need.masks), default=0)
    inputs = sum(_read(v, need) for v in plain.inputs)
    states = sum(_read(s.entry, need) for s in plain.states)
    return Work(
        tuple(contractions), _special(plain, facts, need), inputs, sum(need.stored.values()),
        states + need.state_bytes, need.output_bytes, chain, need.state_bytes,
    )  # fmt: skip


def _read(value: g.Value, need: demand.Demand) -> int:
    """Bytes of an input or a state that are read."""
    return max(need.elements(value) * value.type.dtype.bytes, need.rows.get(value, 0))


# ---- equal ops once


def _unique(graph: g.Graph) -> g.Graph:
    """The graph with equal ops and equal constants merged."""
    known: dict[Hashable, tuple[g.Value, ...]] = {}
    same: dict[g.Value, g.Value] = {}
    ops: list[g.Op] = []
    for op in graph.ops:
        op = substitute(op, same)
        key = _key(op)
        if key is not None and key in known:
            same.update(zip(op.outs, known[key], strict=True))
            continue
        if key is not None:
            known[key] = op.outs
        ops.append(op)
    outputs = tuple((name, same.get(v, v)) for name, v in graph.outputs)
    states = tuple(replace(s, exit=same.get(s.exit, s.exit)) for s in graph.states)
    return replace(graph, ops=tuple(ops), outputs=outputs, states=states)


def _key(op: g.Op) -> Hashable | None:
    """Equal for ops of equal results; None for those that are never merged. Large arrays go by a sample."""
    if isinstance(op, g.If | g.While | g.Scan | g.HostCall):
        return None
    if isinstance(op, g.Constant) and is_stand_in(op.data):
        return ("stand-in", op.data.dtype.str, op.data.shape, op.data.ctypes.data)
    if isinstance(op, g.Constant):
        sample = op.data.flat[:: max(1, op.data.size // 4096)]
        let_go(op.data)
        return ("constant", op.data.dtype.str, op.data.shape, sample.tobytes())
    return (type(op), *(getattr(op, name) for name in g.op_fields(type(op))))


# ---- contractions


def _contraction(op: g.Dot | g.Conv, facts: Facts, need: demand.Demand) -> Contraction:
    a, b = (op.lhs, op.rhs) if isinstance(op, g.Dot) else (op.x, op.w)
    if isinstance(op, g.Dot):
        shape = op.lhs.type.static_shape
        batch = prod(shape[i] for i in op.lhs_batch)
        k = prod(shape[i] for i in op.lhs_contract)
        m, n, reuse = _share(a.type.elements, batch * k), _share(b.type.elements, batch * k), 1.0
    else:
        batch, n = op.groups, op.w.type.static_shape[0] // op.groups
        k = prod(op.w.type.static_shape[1:])
        m = _share(op.out.type.elements, batch * n)
        reuse = max(1.0, prod(op.w.type.static_shape[2:]) / prod(op.strides))
    macs = demand.macs(op, need.elements(op.out))
    for operand in (a, b):  # repeated and blotted-out elements need no product of their own
        known = facts[operand]
        total = operand.type.elements
        macs = macs * min(known.distinct, known.active) // total if total else 0
    return Contraction(
        op.source or op.out.name, batch, m, n, k, macs, _carrier(a, facts), _carrier(b, facts),
        a.type.bytes + b.type.bytes + op.out.type.bytes, max(a.type.dtype.bytes, b.type.dtype.bytes), reuse,
    )  # fmt: skip


def _share(total: int, parts: int) -> int:
    return total // parts if parts else 0


def _carrier(value: g.Value, facts: Facts) -> Carrier:
    known = facts[value]
    return Carrier(known.bits, known.integer, known.range_bits)


# ---- special functions


def _special(graph: g.Graph, facts: Facts, need: demand.Demand) -> tuple[int, int]:
    """Element-ops of special functions as (f32, narrower).

    Several of them on one element can often be had from one (1/sqrt, the logistic function by tanh), so each
    connected piece of element-by-element ops and moves counts as its single largest one.
    """
    parent: dict[g.Value, g.Value] = {}

    def find(v: g.Value) -> g.Value:
        while (up := parent.get(v, v)) is not v:
            v = up
        return v

    largest: dict[g.Value, tuple[int, bool]] = {}
    found: list[tuple[g.Value, int, bool]] = []
    for op in graph.ops:
        if not isinstance(op, demand.ELEMENTWISE | demand.MOVES):
            continue
        for v in operands(op):
            if not facts[v].constant:
                parent[find(v)] = find(op.out)
        if isinstance(op, g.Unary) and op.fn in SPECIAL and not facts[op.out].constant:
            total = op.out.type.elements
            known = min(facts[op.out].distinct, facts[op.out].active)
            unique = max(0, need.elements(op.out) + known - total)
            found.append((op.out, unique, op.out.type.dtype.bytes >= 4))
    for value, unique, wide in found:
        root = find(value)
        largest[root] = max(largest.get(root, (0, False)), (unique, wide))
    return _sum(n for n, wide in largest.values() if wide), _sum(n for n, wide in largest.values() if not wide)


def _sum(numbers: Iterable[Any]) -> int:
    return int(sum(numbers))
