"""Whether two records are the same up to identity: objects that compare by identity are exchanged one for one."""

from __future__ import annotations

import dataclasses

import numpy as np


def same(a: object, b: object, paired: dict[object, object] | None = None) -> bool:
    """Whether `a` is `b` when its objects without an equality of their own are exchanged as in `paired`."""
    paired = {} if paired is None else paired
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray)
        return a is b or (a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(same(x, y, paired) for x, y in zip(a, b, strict=True))  # type: ignore[arg-type]
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()), paired)  # type: ignore[attr-defined]
    if isinstance(a, frozenset):
        return frozenset(paired.get(x, x) for x in a) == b
    if isinstance(a, float):
        return repr(a) == repr(b)
    if not dataclasses.is_dataclass(a):
        return a == b
    if type(a).__eq__ is object.__eq__:
        if a in paired:
            return paired[a] is b
        paired[a] = b
    return all(same(getattr(a, f.name), getattr(b, f.name), paired) for f in dataclasses.fields(a))
