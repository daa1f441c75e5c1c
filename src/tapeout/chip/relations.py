"""What has to hold between the leaves of a chip. Each problem is told once: where a leaf is wrong by itself, relations
that depend on it are not looked at."""

from __future__ import annotations

from collections.abc import Iterator, Set

from tapeout.chip import spec

Problem = tuple[str, str, str]
"""What is wrong, the leaf, what to do."""

MOST_CORES = 65536
"""Every core's state is held by the simulator."""


def problems(chip: spec.Chip, wrong: Set[str]) -> Iterator[Problem]:
    """Relations that do not hold, of a chip whose leaves below `wrong` are placeholders."""

    def sound(*paths: str) -> bool:
        return not any(w == p or w.startswith(f"{p}.") or p.startswith(f"{w}.") for w in wrong for p in paths)

    if sound("topology") and chip.cores > MOST_CORES:
        yield f"{chip.cores} cores", "topology", f"dies x clusters x cores may be {MOST_CORES} at most"
    yield from _memories(chip, sound("memories"), sound("matrix.geometry"))
    yield from _units(chip, sound("vector.lanes"))
    for s in chip.shared:
        if s.scope not in spec.SCOPES:
            yield f"unknown scope `{s.scope}`", f"shared.{s.name}.scope", f"use one of {', '.join(spec.SCOPES)}"
        if s.managed not in ("software", "hardware"):
            yield f"unknown management `{s.managed}`", f"shared.{s.name}.managed", "use software or hardware"
        elif s.managed == "hardware" and s.scope == "distributed":
            yield "a cache is not distributed", f"shared.{s.name}.scope", "use chip, with the rate of all its slices"
    if not sound("topology") or chip.why_not_advertised:
        return
    for dtype, tops in chip.advertised_tops.items():
        if not sound(f"advertised_tops.{dtype}", f"matrix.geometry.{dtype}"):
            continue
        derived = chip.peak_ops_per_s(dtype) / 1e12
        if abs(derived - tops) > 0.03 * tops:
            what = f"{dtype} peak is {derived:.4g} TOPS by its parts but {tops} advertised"
            yield what, "advertised_tops", "correct one or say `why_not_advertised`"


def _memories(chip: spec.Chip, sound: bool, sound_geometry: bool) -> Iterator[Problem]:
    for m in chip.memories:
        place = f"memories.{m.name}"
        for role in dict.fromkeys(m.reach):
            if role not in spec.ROLES:
                sound = False
                yield f"unknown role `{role}`", f"{place}.reach", f"roles are {', '.join(spec.ROLES)}"
        if m.alignment_bytes & (m.alignment_bytes - 1):
            yield f"{m.alignment_bytes} is not a power of two", f"{place}.alignment_bytes", "use 1, 2, 4, ..."
    if not sound:
        return
    if not chip.memories:
        yield "no local memory", "memories", "add [memories.NAME]"
        return
    needed = spec.ROLES if chip.matrix.geometry or not sound_geometry else ("ld", "st", "mv", "ve")
    lacking = [role for role in needed if not any(role in m.reach for m in chip.memories)]
    for role in lacking:
        yield f"no memory serves role `{role}`", "memories", f'add "{role}" to the reach of one'
    together = {"ld", "st", "ve"}
    if not together & set(lacking) and not any(together <= set(m.reach) for m in chip.memories):
        yield "no memory serves ld, st and ve together", "memories", "the vector unit's memory needs all three"


def _units(chip: spec.Chip, sound_lanes: bool) -> Iterator[Problem]:
    for name in chip.matrix.geometry:
        if name not in spec.ELEMENT_TYPES:
            known = ", ".join(spec.ELEMENT_TYPES)
            yield f"unknown element type `{name}`", "matrix.geometry", f"use one of {known}"
    if chip.matrix.stationary not in spec.STATIONARY:
        what = f"unknown stationary operand `{chip.matrix.stationary}`"
        yield what, "matrix.stationary", f"use one of {', '.join(spec.STATIONARY)}"
    for compute in ("f32", "i32") if sound_lanes else ():
        if compute not in chip.vector.lanes:
            yield f"no lanes for {compute}", "vector.lanes", "the vector unit computes at least f32 and i32"
