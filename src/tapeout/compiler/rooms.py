"""Rooms: tiles that only the vector unit touches take over the room of one that is dead.

The vector queue works in order, so nothing has to be synchronised; an elementwise result may even lie where its source
was. Rooms are shared only between tiles of the same axes, element size and memory, which have the same size in every
schedule: search can count them without knowing one.
"""

from __future__ import annotations

from tapeout.ir import kernel as k

Key = tuple[frozenset[k.Axis], int]


def rooms_of(kernel: k.KernelSpec, roles: dict[k.Tile, set[str]]) -> dict[k.Tile, int]:
    """The room number of every tile that only the vector unit touches."""
    readers: dict[k.Tile, list[k.KernelOp]] = {}
    for op in kernel.ops:
        for tile in k.sources_of(op):
            readers.setdefault(tile, []).append(op)
    rooms: dict[k.Tile, int] = {}
    free: dict[Key, list[int]] = {}
    count = 0
    for op in kernel.ops:
        if isinstance(op, k.StoreTile):
            continue
        dying = [t for t in dict.fromkeys(k.sources_of(op)) if t in rooms and _dies(t, op, readers)]
        if isinstance(op, k.Map):
            _release(dying, rooms, free)
        if roles[op.out] == {"ve"} and isinstance(op, k.Map | k.Fold):
            pool = free.setdefault(_key(op.out), [])
            if not pool:
                pool.append(count)
                count += 1
            rooms[op.out] = pool.pop()
        if not isinstance(op, k.Map):
            _release(dying, rooms, free)
    return rooms


def _key(tile: k.Tile) -> Key:
    windowed = any(len(i.terms) > 1 for i in tile.index)
    return frozenset(tile.axes), -tile.dtype.bytes if windowed else tile.dtype.bytes


def _release(tiles: list[k.Tile], rooms: dict[k.Tile, int], free: dict[Key, list[int]]) -> None:
    for tile in tiles:
        free.setdefault(_key(tile), []).append(rooms[tile])


def _dies(tile: k.Tile, op: k.KernelOp, readers: dict[k.Tile, list[k.KernelOp]]) -> bool:
    """Whether `op` is the last reader, at the loop level of the tile itself (a wider reader may run again)."""
    if readers[tile][-1] is not op:
        return False
    return all(isinstance(r, k.Map | k.Fold) and set(r.out.axes) <= set(tile.axes) for r in readers[tile])
