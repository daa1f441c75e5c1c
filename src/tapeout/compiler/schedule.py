"""The schedule record: all that search decides about one kernel. Lowering is a function of kernel, record and chip."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

from tapeout.ir.kernel import Axis, DimIndex


@dataclass(frozen=True)
class Schedule:
    """`tile[a]`: elements of axis a in one tile (a chunk for sequential axes). `spread`: axes dealt out over the cores,
    innermost digit of the core number first, with the number of parts. `order`: loops over tiles, outermost first.
    `depth`: turns that streamed tiles are buffered for. `cycles` is what search expects."""

    tile: dict[Axis, int]
    spread: tuple[tuple[Axis, int], ...]
    order: tuple[Axis, ...]
    depth: int = 2
    cycles: float = 0.0

    @cached_property
    def factor(self) -> dict[Axis, int]:
        return dict(self.spread)

    def tiles(self, axis: Axis) -> int:
        """Tiles of an axis on the whole chip."""
        return -(-axis.extent // self.tile[axis])

    def trip(self, axis: Axis) -> int:
        """Tiles of an axis on one core."""
        return -(-self.tiles(axis) // self.factor.get(axis, 1))

    def shares(self, axes: frozenset[Axis] | set[Axis], cluster: int) -> bool:
        """Whether all cores of a cluster work on the same part of each of `axes`: their digits of the core number
        change at whole clusters only."""
        div = 1
        for axis, parts in self.spread:
            if axis in axes and div % cluster:
                return False
            div *= parts
        return div % cluster == 0

    @property
    def cores(self) -> int:
        """Cores that get work."""
        return prod(n for _, n in self.spread)

    def extent(self, index: DimIndex) -> int:
        """Elements of a dimension that one tile covers."""
        return 1 + sum(coef * (self.tile[axis] - 1) for axis, coef in index.terms)
