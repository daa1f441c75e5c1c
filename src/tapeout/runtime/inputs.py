"""Inputs for a model that none were given for: seeded, of sensible size, within what gathers may reach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeout.errors import UserError
from tapeout.ir import graph as g
from tapeout.ir.bind import infer_binding

Array = npt.NDArray[Any]

_FOLLOWED = g.Reshape | g.Transpose | g.Broadcast | g.Slice | g.Convert | g.Select


def make_inputs(graph: g.Graph, seed: int = 0) -> dict[str, Array]:
    """Arrays for every input of a graph without symbols: floats are unit normals, integers are indices that the
    tables they select from have (else 0 or 1), booleans fair coins."""
    rng = np.random.default_rng(seed)
    readers = g.users(graph)
    made: dict[str, Array] = {}
    for value in graph.inputs:
        shape, dtype = value.type.static_shape, value.type.dtype
        if dtype.is_float:
            made[value.name] = rng.standard_normal(shape, np.float32).astype(dtype.numpy)
        else:
            high = index_limit(value, readers) if dtype.is_int else 2
            made[value.name] = np.asarray(
                rng.integers(0, min(high, np.iinfo(np.int8).max + 1) if dtype.bytes == 1 else high, shape)
            ).astype(dtype.numpy)
    return made


def index_limit(value: g.Value, readers: Mapping[g.Value, list[g.Op]]) -> int:
    """One more than the largest index inside everything that `value` selects from; 2 where it selects nothing."""
    limits: list[int] = []
    waiting, seen = [value], {value}
    while waiting:
        for op in readers.get(waiting.pop(), []):
            if isinstance(op, g.Gather | g.Scatter) and op.indices in seen:
                limits.append(op.x.type.static_shape[op.axis])
            elif isinstance(op, g.DynamicSlice | g.DynamicUpdate):
                sizes = op.sizes if isinstance(op, g.DynamicSlice) else op.update.type.static_shape
                room = zip(op.x.type.static_shape, sizes, op.starts, strict=True)
                limits += [n - int(size) + 1 for n, size, start in room if start in seen]
            elif isinstance(op, _FOLLOWED) and op.out not in seen:
                seen.add(op.out)
                waiting.append(op.out)
    return max(1, min(limits, default=2))


def fit_inputs(graph: g.Graph, given: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, int]]:
    """Given arrays checked against a graph, and the binding of its symbols that their shapes mean.

    Floats may be given in any float type and integers in any integer type that holds them; `UserError` otherwise.
    """
    known = {v.name: v.type.dtype for v in graph.inputs}
    for name in given:
        if name not in known:
            raise UserError(f"there is no input '{name}'", graph.name, f"give {', '.join(known) or 'none'}")
    for name in known:
        if name not in given:
            raise UserError(f"input '{name}' is missing", graph.name, f"give {', '.join(known)}")
    arrays: dict[str, Array] = {}
    for name, dtype in known.items():
        array = given[name]
        kind = "f" if array.dtype.kind == "V" else array.dtype.kind.replace("u", "i")
        wanted = "f" if dtype.is_float else "i" if dtype.is_int else "b"
        if kind != wanted:
            raise UserError(f"input is {array.dtype}", name, f"give {dtype.value}")
        arrays[name] = array.astype(dtype.numpy)
        if wanted == "i" and not np.array_equal(arrays[name], array):
            raise UserError(f"input has numbers that {dtype.value} cannot hold", name, f"give {dtype.value}")
    return arrays, infer_binding(graph, {name: a.shape for name, a in arrays.items()})
