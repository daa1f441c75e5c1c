"""What makes two kernels the same for search: their structure, without names and numbers."""

from __future__ import annotations

from typing import assert_never

from tapeout.ir import kernel as k

_ROLES = {"constant": "constant", "temporary": "temporary"}
"""Of buffers, as far as search looks at them."""


def signature(kernel: k.KernelSpec) -> tuple[object, ...]:
    """Equal for kernels whose schedules can be exchanged axis by axis in layout order."""
    axis = {a: n for n, a in enumerate(kernel.layout)}
    tile: dict[k.Tile, int] = {}

    def of_index(index: tuple[k.DimIndex, ...]) -> tuple[object, ...]:
        return tuple((tuple((axis[a], coef) for a, coef in i.terms), i.offset) for i in index)

    def of_tile(t: k.Tile | float) -> object:
        return tile.setdefault(t, len(tile)) if isinstance(t, k.Tile) else "number"

    def of_access(access: k.Access) -> tuple[object, ...]:
        listed = access.gather and (access.gather[0], of_tile(access.gather[1]))
        kind = (_ROLES.get(access.buffer.role, ""), access.buffer.space, access.dtype)
        return (kind, access.extents, access.strides, of_index(access.index), listed)

    def of_op(op: k.KernelOp) -> tuple[object, ...]:
        match op:
            case k.LoadTile():
                return ("load", of_tile(op.out), of_access(op.access))
            case k.StoreTile():
                return ("store", of_tile(op.src), of_access(op.access), op.add)
            case k.Contract():
                pairs = tuple((of_tile(a), of_tile(b)) for a, b in op.pairs)
                return (
                    "contract",
                    of_tile(op.out),
                    op.out.dtype,
                    of_index(op.out.index),
                    pairs,
                    op.vector,
                    tuple(axis[a] for a in op.reduce),
                )
            case k.Map():
                return (
                    "map",
                    of_tile(op.out),
                    op.out.dtype,
                    of_index(op.out.index),
                    op.fn,
                    tuple(of_tile(s) for s in op.srcs),
                    axis.get(op.along) if op.along else None,
                )
            case k.Fold():
                return (
                    "fold",
                    of_tile(op.out),
                    op.out.dtype,
                    op.fn,
                    of_tile(op.src),
                    tuple(axis[a] for a in op.reduce),
                )
            case _:
                assert_never(op)

    classes = tuple(
        (a.extent, a in kernel.resident, a in kernel.sequential, a in kernel.ordered) for a in kernel.layout
    )
    return (classes, tuple(of_op(op) for op in kernel.ops))
