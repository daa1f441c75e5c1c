"""Chip files: presets load with every leaf sourced; each mistake gets one line: what, where, what to do."""

import re

import pytest

from tapeout.chip.load import PRESETS, load_chip, parse_chip, presets
from tapeout.errors import InvalidChip

GOOD = (PRESETS / "systolic-128.toml").read_text(encoding="utf-8")


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


@pytest.mark.parametrize("name", presets())
def test_presets_reproduce_their_advertised_peaks(name: str) -> None:
    chip = load_chip(name)
    for dtype, tops in chip.advertised_tops.items():
        derived = 2 * chip.cores * chip.matrix.geometry[dtype].macs * chip.topology.clock_hz / 1e12
        assert abs(derived - tops) <= 0.03 * tops or chip.why_not_advertised


def test_units_are_converted() -> None:
    chip = load_chip("systolic-128")
    assert chip.memories[0].bytes == 24 * 2**20
    assert chip.topology.clock_hz == 1e9
    assert chip.dram_bytes_per_cycle == 1024


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed("cores = 1\n", "cores = 0\n"), r"topology.cores.*0 must be positive"),
        (changed("cores = 1\n", "cores = -3\n"), r"topology.cores.*-3 must be positive"),
        (changed("cores = 1\n", "cores = 1.5\n"), r"topology.cores.*whole number"),
        (changed('"24 MiB"', '"24 MiX"'), r"memories.sram.bytes.*bad unit.*use one of B, KiB"),
        (changed('"24 MiB"', "nan"), r"memories.sram.bytes.*not a number"),
        (changed('"1.0 GHz"', '"1.0 s"'), r"topology.clock_hz.*bad unit"),
        (changed("clock_hz", "clock_khz"), r"unknown key `clock_khz`; did you mean `clock_hz`"),
        (changed("[vector]", "[vektor]"), r"unknown key `vektor`; did you mean `vector`"),
        (changed('"a", "b"', '"a", "bee"'), r"unknown role `bee`"),
        (changed('"a", "b"', '"a"'), r"no memory serves role `b`"),
        (changed('stationary = "weight"', 'stationary = "heavy"'), r"unknown stationary operand `heavy`"),
        (changed("f32 = 256, ", ""), r"vector.lanes.*no lanes for f32"),
        (changed("bf16 = {", "bf17 = {"), r"unknown element type `bf17`"),
        (changed("granule_bytes = 64", "granule_bytes = true"), r"dram.granule_bytes.*not a number"),
        (changed("[sources]", "[advertised_tops]\ni8 = 99\n\n[sources]"), r"i8 peak is 32.77 TOPS.*99"),
        (changed("[dram]", "[dram"), r"not a TOML file"),
        (GOOD[: GOOD.index("[dram]")], r"missing key `dram`"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(InvalidChip) as caught:
        parse_chip(text, "mine.toml")
    assert re.search(message, str(caught.value)), str(caught.value)
    assert "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_wrong_comes_before_what_is_missing() -> None:
    with pytest.raises(InvalidChip, match="-1 must be positive"):
        parse_chip('[topology]\ncores = -1\nclock_hz = "1 GHz"\n', "mine.toml")
