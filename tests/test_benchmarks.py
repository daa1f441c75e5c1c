"""The recorded side-by-side results still hold: shapes, the peers' mappings under the peers' rules, our attribution."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tapeout.chip.load import load_chip
from tapeout.sim import reference, timing

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import own_schedule  # noqa: E402  the benchmarks are scripts, not a package
import peer_programs  # noqa: E402
import workloads  # noqa: E402


def recorded(name: str) -> dict:
    return json.loads((BENCHMARKS / "results" / f"{name}.json").read_text())


def test_shapes_are_those_of_the_architectures() -> None:
    """Multiply-accumulates: ResNet-50 4.089e9 with its classifier; a BERT-base layer 12 d^2 s + 2 s^2 d."""
    macs = {name: workloads.ideal(name) * 128 * 128 for name in workloads.WORKLOADS}
    assert macs["gemm1024"] == 2**30
    assert macs["bert-layer"] == 12 * 768**2 * 128 + 2 * 128**2 * 768
    assert macs["resnet50"] == 4_089_184_256
    assert len(workloads.resnet50()) == 54


@pytest.mark.parametrize("workload", workloads.WORKLOADS)
def test_zigzag_mappings_take_zigzag_cycles(workload: str) -> None:
    chip = load_chip(BENCHMARKS / "chips" / "zigzag.toml")
    for found in recorded("zigzag")["workloads"][workload]["layers"]:
        ours = timing.run(peer_programs.zigzag_program(found), chip).cycles
        assert ours == pytest.approx(found["cycles"], rel=0.02), found["name"]


@pytest.mark.parametrize("flow", ["ws", "os"])
@pytest.mark.parametrize("workload", workloads.WORKLOADS)
def test_scalesim_mappings_take_scalesim_cycles(workload: str, flow: str) -> None:
    """Exactly one more in every layer: SCALE-Sim gives the number of the last cycle."""
    chip = load_chip(BENCHMARKS / "chips" / f"scalesim-{flow}.toml")
    theirs = recorded("scalesim")["workloads"][workload][flow]["layers"]
    for layer, found in zip(workloads.unique(workloads.WORKLOADS[workload]), theirs, strict=True):
        assert timing.run(peer_programs.scalesim_program(layer, flow), chip).cycles == found["cycles"] + 1
        assert workloads.scalesim_cycles(layer, flow) == found["cycles"]


def test_the_readable_executor_agrees() -> None:
    chip = load_chip(BENCHMARKS / "chips" / "zigzag.toml")
    found = recorded("zigzag")["workloads"]["bert-layer"]["layers"][1]
    program = peer_programs.zigzag_program(found)
    assert reference.run(program, chip).cycles == timing.run(program, chip).cycles


def test_every_cycle_has_a_cause() -> None:
    """A small product by hand: one pass of 16 rows: 16 x 128 x 128 needs 16 cycles, 128 to load, 254 of skew."""
    chip = load_chip("systolic-128")
    layer = workloads.Gemm(16, 128, 128)
    compiled = own_schedule.compile_graph(own_schedule.graph_of("g", [("g", layer)]), chip)
    trace = timing.run(compiled.program, chip, trace=True)
    found = own_schedule.causes(compiled.program, chip, trace, layer.ideal_cycles)
    assert sum(found.values()) == trace.cycles
    assert (found["ideal"], found["edges"], found["weight_load"], found["fill"]) == (16, 0, 128, 254)
