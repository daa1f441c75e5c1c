"""Moves: every tile lies in one local memory; a reader that does not reach it reads a copy that the mover makes.

The memory is chosen for who writes the tile; it serves as many of the readers as it can. Accumulators of a matrix unit
that nothing but the mover reaches are drained so, computed operands are moved in front of the array.
"""

from __future__ import annotations

from dataclasses import replace

from tapeout.chip.spec import Chip
from tapeout.compiler.roles import memory_of, touches
from tapeout.ir import kernel as k
from tapeout.ir.types import DType

Copies = dict[tuple[k.Tile, str], k.Tile]
"""The copy of a tile that a role reads."""


def _serve(chip: Chip, first: set[str], roles: list[str]) -> set[str]:
    """`first` and those of `roles` that one memory serves with it."""
    served = set(first)
    for role in roles:
        if memory_of(chip, served | {role}) is not None:
            served.add(role)
    return served


def _copies(tile: k.Tile, roles: list[str], chip: Chip) -> Copies:
    """The copies of a tile that `roles` need (the first of them writes it); none where one memory serves them all."""
    if memory_of(chip, set(roles)) is not None:
        return {}
    found: Copies = {}
    writer, *left = roles
    served = _serve(chip, {writer, "mv"}, left)
    while left := [role for role in left if role not in served]:
        copy = k.Tile(f"{tile.name}.{left[0]}", tile.dtype, tile.index)
        served = _serve(chip, {"mv"}, left)
        if left[0] not in served:
            break  # nothing reaches it: the schedule search says so
        found.update({(tile, role): copy for role in left if role in served})
    return found


def _redirect(op: k.KernelOp, copies: Copies) -> k.KernelOp:
    """The op with its sources replaced by the copies that it reaches."""

    def at(tile: k.Tile, role: str) -> k.Tile:
        return copies.get((tile, role), tile)

    match op:
        case k.LoadTile() | k.StoreTile():
            gather = op.access.gather and (op.access.gather[0], at(op.access.gather[1], "ve"))
            access = replace(op.access, gather=gather)
            if isinstance(op, k.LoadTile):
                return replace(op, access=access)
            return replace(op, src=at(op.src, "st"), access=access)
        case k.Contract():
            a, b = ("ve", "ve") if op.vector else ("a", "b")
            return replace(op, pairs=tuple((at(x, a), at(y, b)) for x, y in op.pairs))
        case k.Map():
            role = "mv" if op.fn in ("move", "drain") else "ve"
            return replace(op, srcs=tuple(at(s, role) if isinstance(s, k.Tile) else s for s in op.srcs))
        case k.Fold():
            return replace(op, src=at(op.src, "ve"))


def insert_moves(ops: list[k.KernelOp], chip: Chip) -> list[k.KernelOp]:
    """The same ops with a `Map` of the mover behind each op whose result some reader cannot reach."""
    roles: dict[k.Tile, list[str]] = {}
    for op in ops:
        for tile, role in touches(op):
            held = roles.setdefault(tile, [])
            if role not in held:
                held.append(role)
    copies: Copies = {}
    for tile, wanted in roles.items():
        copies.update(_copies(tile, wanted, chip))
    if not copies:
        return ops
    drained = {op.out for op in ops if isinstance(op, k.Contract) and not op.vector and op.out.dtype is DType.f32}
    out: list[k.KernelOp] = []
    for op in ops:
        out.append(_redirect(op, copies))
        if not isinstance(op, k.StoreTile):
            made = dict.fromkeys(copy for (tile, _), copy in copies.items() if tile is op.out)
            out += [k.Map(copy, "drain" if op.out in drained else "move", (op.out,)) for copy in made]
    return out
