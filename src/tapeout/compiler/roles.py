"""Facts about a kernel that search, lowering and moves share: neutral elements, who touches which tile, and where tiles
can lie."""

from __future__ import annotations

from tapeout.chip.spec import Chip
from tapeout.ir import kernel as k
from tapeout.ir.types import DType

IDENTITY = {"sum": 0.0, "prod": 1.0, "max": float("-inf"), "min": float("inf"), "and": -1.0, "or": 0.0}
MULTICAST_BYTES = 2048
"""Smaller tiles are loaded by each core for itself."""


def identity_of(fn: str, dtype: DType) -> float:
    """The value that leaves a reduction unchanged."""
    value = IDENTITY[fn]
    if dtype.is_float or abs(value) != float("inf"):
        return value
    bits = dtype.bytes * 8
    low = -(2 ** (bits - 1)) if dtype.is_signed else 0
    high = 2 ** (bits - 1) - 1 if dtype.is_signed else 2**bits - 1
    return float(low if value < 0 else high)


def neutral_outside(kernel: k.KernelSpec, axis: k.Axis) -> bool:
    """Whether what a ragged chunk reads behind the end of the axis leaves every reduction over it unchanged."""
    fills = {op.out: op.access.fill for op in kernel.ops if isinstance(op, k.LoadTile)}
    for op in kernel.ops:
        if isinstance(op, k.Fold) and axis in op.reduce and fills.get(op.src) != identity_of(op.fn, op.out.dtype):
            return False
        if not isinstance(op, k.Contract) or axis not in op.reduce:
            continue
        if any(fills.get(a, 0.0) * fills.get(b, 0.0) != 0.0 for a, b in op.pairs):
            return False
    return True


def touches(op: k.KernelOp) -> list[tuple[k.Tile, str]]:
    """The tiles that an op touches and by which role, what it writes first."""
    match op:
        case k.LoadTile():
            listed = [(op.access.gather[1], "ve")] if op.access.gather else []
            return [(op.out, "ld"), *listed]
        case k.StoreTile():
            listed = [(op.access.gather[1], "ve")] if op.access.gather else []
            return [(op.src, "st"), *listed]
        case k.Contract():
            a, b, out = ("ve", "ve", "ve") if op.vector else ("a", "b", "c")
            return [(op.out, out), *((x, a) for x, _ in op.pairs), *((y, b) for _, y in op.pairs)]
        case k.Map() | k.Fold():
            role = "mv" if isinstance(op, k.Map) and op.fn in ("move", "drain") else "ve"
            return [(tile, role) for tile in (op.out, *k.sources_of(op))]


def roles_of(kernel: k.KernelSpec) -> dict[k.Tile, set[str]]:
    """What reaches each tile; decides the memory it lies in."""
    roles: dict[k.Tile, set[str]] = {}
    for op in kernel.ops:
        for tile, role in touches(op):
            roles.setdefault(tile, set()).add(role)
    return roles


def memory_of(chip: Chip, roles: set[str]) -> int | None:
    """The largest local memory that all `roles` reach."""
    able = [i for i, m in enumerate(chip.memories) if roles <= set(m.reach)]
    return max(able, key=lambda i: chip.memories[i].bytes, default=None)


def split_sums(chip: Chip, op: k.Contract, roles: dict[k.Tile, set[str]]) -> bool:
    """Whether a contraction of split operands that comes in chunks sums the products of the leading parts and the rest
    apart, so that the many small ones are not each rounded to the last place of the total. The vector unit adds the two
    in the end, where it reaches them."""
    memory = memory_of(chip, roles[op.out])
    return len(op.pairs) > 1 and memory is not None and "ve" in chip.memories[memory].reach


def by_steps(kernel: k.KernelSpec, op: k.Fold) -> bool:
    """Whether a fold walks its axes step by step: windows must, and so does what does not lie innermost."""
    if op.fn.startswith("arg_"):
        return False
    windows = any(len(i.terms) > 1 for i in op.src.index)
    last = next((a for a in reversed(kernel.layout) if a in op.src.axes), None)
    return windows or last not in op.reduce
