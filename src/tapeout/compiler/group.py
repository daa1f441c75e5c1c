"""Groups of ops that share a kernel, as data: the axes that their values vary along."""

from __future__ import annotations

from dataclasses import dataclass, field

from tapeout.ir import graph as g

Dims = tuple[int | None, ...]
"""The axis of each dimension of a value inside a group; None where it does not vary."""


class Axes:
    """Axis numbers with their extents; equal ones are united. An axis may have two parts, `outer * extent(inner) +
    inner`: the channels of a grouped convolution are its groups and the channels of each."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self.extent: list[int] = []
        self._parts: dict[int, tuple[int, int]] = {}

    def new(self, extent: int) -> int:
        self._parent.append(len(self._parent))
        self.extent.append(extent)
        return len(self._parent) - 1

    def find(self, a: int) -> int:
        while self._parent[a] != a:
            a = self._parent[a]
        return a

    def unite(self, a: int, b: int) -> None:
        a, b = self.find(a), self.find(b)
        if b in self._parts and a != b:
            assert a not in self._parts, "two axes of a group are divided"
            self._parts[a] = self._parts.pop(b)
        self._parent[b] = a

    def of_parts(self, outer: int, inner: int | None) -> int:
        """The axis that has these parts."""
        if inner is None:
            return outer
        whole = self.new(self.extent[outer] * self.extent[inner])
        self._parts[whole] = (outer, inner)
        return whole

    def parts(self, a: int) -> tuple[int, ...]:
        """The parts of an axis, outer one first; itself where it has none."""
        root = self.find(a)
        return tuple(map(self.find, self._parts.get(root, (root,))))


@dataclass(eq=False, slots=True)
class Group:
    """Ops of one kernel under construction."""

    number: int
    ops: list[g.Op] = field(default_factory=list[g.Op])
    dims: dict[g.Value, Dims] = field(default_factory=dict[g.Value, Dims])
    operand_dims: dict[tuple[g.Op, int], Dims] = field(default_factory=dict[tuple[g.Op, int], Dims])
    reduce: dict[g.Op, tuple[int, ...]] = field(default_factory=dict[g.Op, tuple[int, ...]])
    resident: set[int] = field(default_factory=set[int])
    needs: int = 0
    """Bit set of the groups that must run before."""
    external: dict[g.Value, Dims] = field(default_factory=dict[g.Value, Dims])
    """Dims of what elementwise ops and reductions read from memory: read again, it has the same axes."""
    copy_of: g.Value | None = None
    piece: int = 0
    """Which operand of a concatenation this group moves."""


def unit_reshape(dims: Dims, old: tuple[int, ...], new: tuple[int, ...]) -> Dims | None:
    """Dims behind a reshape that only adds or drops dimensions of extent 1."""
    if [n for n in old if n != 1] != [n for n in new if n != 1]:
        return None
    kept = [a for a, n in zip(dims, old, strict=True) if n != 1]
    out: list[int | None] = []
    for n in new:
        out.append(None if n == 1 else kept.pop(0))
    return tuple(out)
