"""The bytes that a DMA command moves (rule 9 of `docs/timing.md`), walked run by run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from tapeout.isa import commands as c
from tapeout.isa.commands import ceil_div
from tapeout.isa.operands import Tensor


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a box touches: the address of its first element, its bytes as they are, those charged by granule, and the
    addresses of its runs, all of `run` bytes."""

    first: int
    bytes: int
    charged: int
    runs: tuple[int, ...]
    run: int


def footprint(command: c.Load | c.Store, tensor: Tensor, granule: int, slots: Sequence[int]) -> Footprint | None:
    """The box clipped to the tensor and walked run by run; None where it lies wholly outside."""
    base, dims = tensor.base + command.offset.value(slots), list[tuple[int, int]]()  # (elements, stride)
    unit = len(dims)  # dimensions up to here never join a run
    for d, origin in enumerate(command.origin):
        if command.index is not None and d == command.index.dim:
            dims.append((command.extents[d], 0))
            unit = d + 1
            continue
        low = max(origin.value(slots), 0)
        high = min(origin.value(slots) + command.extents[d], tensor.extents[d])
        base += low * tensor.strides[d]
        dims.append((high - low, tensor.strides[d]))
    if any(count <= 0 for count, _ in dims):
        return None
    size = tensor.dtype.bytes
    payload = prod(count for count, _ in dims) * size
    run = size
    while len(dims) > unit and (dims[-1][0] == 1 or dims[-1][1] == run):
        run *= dims.pop()[0]
    runs = [base]
    for count, stride in dims:
        runs = [at + i * stride for at in runs for i in range(count)]
    charged = sum(_granules(at, run, granule, command) for at in runs) * granule
    return Footprint(base, payload, charged, tuple(runs), run)


def _granules(address: int, size: int, granule: int, command: c.Load | c.Store) -> int:
    end = address + size
    touched = range(address // granule, ceil_div(end, granule))
    if isinstance(command, c.Load):
        return len(touched)
    partly = [g for g in touched if command.add or g * granule < address or (g + 1) * granule > end]
    return len(touched) + len(partly)
