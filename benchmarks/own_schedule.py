"""Our own schedule of the workloads on a chip: compiled by the ordinary compiler, timed, and every cycle attributed.

    .venv/bin/python benchmarks/own_schedule.py WORKLOAD [CHIP]    cycles by layer and by cause, as JSON
    .venv/bin/python benchmarks/own_schedule.py WORKLOAD CHIP all  every layer compiled and timed, for its CPU time

Operands are int8 in DRAM, results too (scaled and rounded), as the peers assume. Each different layer is a program of
its own and counts as often as it occurs; convolutions are convolutions, with images as rows x columns x channels.
"""

from __future__ import annotations

import json
import sys
from math import ceil, prod
from typing import Any

import numpy as np
from workloads import WORKLOADS, Conv, Layer, as_gemm, unique

from tapeout.chip.load import load_chip
from tapeout.chip.spec import Chip
from tapeout.compiler.pipeline import compile_graph
from tapeout.ir import graph as g
from tapeout.ir.build import Builder
from tapeout.ir.types import DType, TensorType
from tapeout.isa import commands as c
from tapeout.isa.commands import Queue
from tapeout.isa.program import Program, commands
from tapeout.sim import timing

CAUSES = ("ideal", "edges", "weight_load", "fill", "memory", "waits_loads", "waits_epilogue", "waits_stores", "control")
"""Where cycles go. While the array works: `ideal` every multiplier busy; `edges` multipliers idle at the ends of
dimensions; `weight_load` and `fill` what they add; `memory` operands come slower. While it does not, by
what it waited for: `waits_loads`, `waits_epilogue` (drain, vector unit), `waits_stores`, `control` (all else)."""


def add_layer(b: Builder, name: str, layer: Layer) -> None:
    """One layer with an input and an output of its own; a constant weight."""
    rng = np.random.default_rng(0)
    if isinstance(layer, Conv):
        x = b.input(f"{name}_in", TensorType(DType.i8, (1, layer.size, layer.size, layer.c)))
        shape = (layer.m, layer.c, layer.kernel, layer.kernel)
        w = b.constant(rng.integers(-9, 10, shape, dtype=np.int8))
        steps, pads = (layer.stride,) * 2, ((layer.pad, layer.pad),) * 2
        out = b.transpose(b.conv(b.transpose(x, (0, 3, 1, 2)), w, steps, pads), (0, 2, 3, 1))
    else:
        x = b.input(f"{name}_in", TensorType(DType.i8, (layer.m, layer.k)))
        w = b.constant(rng.integers(-9, 10, (layer.k, layer.n), dtype=np.int8))
        out = b.matmul(x, w)
    scaled = b.unary("round", b.binary_scalar("mul", b.convert(out, DType.f32), 2.0**-7))
    b.output(f"{name}_out", b.convert(b.clamp(scaled, -128, 127), DType.i8))


def graph_of(name: str, layers: list[tuple[str, Layer]]) -> g.Graph:
    b = Builder(name)
    for layer_name, layer in layers:
        add_layer(b, layer_name, layer)
    return b.finish()


def array_causes(command: c.MatMul, chip: Chip) -> dict[str, float]:
    """The cycles of one matrix command by cause (a weight-stationary array)."""
    unit, kind = chip.matrix, chip.matrix.geometry_of(command.a.dtype.value, command.b.dtype.value)
    assert unit.stationary == "weight", "only this order is attributed"
    depth, rows = prod(command.k), prod(command.m)
    passes, stream = ceil(depth / kind.k0) * ceil(command.n / kind.n0), ceil(rows / kind.m0)
    if unit.load_overlapped:
        load, fill = unit.load_cycles + (passes - 1) * max(0, unit.load_cycles - stream), unit.fill_cycles
    else:
        load, fill = passes * unit.load_cycles, passes * unit.fill_cycles
    ideal = command.macs / kind.macs
    total = c.matmul_cycles(command, chip)
    memory = total - passes * stream - load - fill
    return {"ideal": ideal, "edges": passes * stream - ideal, "weight_load": load, "fill": fill, "memory": memory}


WAITS = {Queue.LD: "waits_loads", Queue.ST: "waits_stores", Queue.MV: "waits_epilogue", Queue.VE: "waits_epilogue"}


def causes(program: Program, chip: Chip, trace: timing.Trace, ideal: float) -> dict[str, float]:
    """Every cycle of a run by cause; they add up to the run's cycles. `ideal`: what the layer itself needs.

    While the array is idle before a command, the command that completed last before its start was what it waited for.
    """
    found = dict.fromkeys(CAUSES, 0.0)
    listed = list(commands(program.body))
    events = trace.events
    matrix = np.flatnonzero(events.queue == Queue.MM)
    matrix = matrix[np.argsort(events.start[matrix], kind="stable")]
    others = np.flatnonzero(events.queue != Queue.MM)
    others = others[np.argsort(events.end[others], kind="stable")]
    ends = events.end[others]
    now = 0
    for i in matrix:
        start = int(events.start[i])
        if start > now:
            last = int(np.searchsorted(ends, start, side="right")) - 1
            cause = WAITS[Queue(int(events.queue[others[last]]))] if last >= 0 and ends[last] > now else "control"
            found[cause] += start - now
        now = int(events.end[i])
        command = listed[int(events.command[i])]
        if isinstance(command, c.MatMul):
            for cause, cycles in array_causes(command, chip).items():
                found[cause] += cycles
    epilogue = (events.queue == Queue.MV) | (events.queue == Queue.VE)
    drained = max(now, int(events.end[epilogue].max())) if epilogue.any() else now
    found["waits_epilogue"] += drained - now
    found["waits_stores"] += trace.cycles - drained
    found["edges"] += found["ideal"] - ideal  # a last tile that reaches past the layer's end works for nothing
    found["ideal"] = ideal
    assert abs(sum(found.values()) - trace.cycles) < 1e-6 * trace.cycles, "every cycle is attributed once"
    return {cause: round(cycles, 3) for cause, cycles in found.items()}


def layer_by_layer(workload: str, chip: Chip, seen: Chip | None = None) -> dict[str, Any]:
    """Cycles of every different layer of a workload and their causes. `seen`: the chip that the compiler is shown."""
    layers: list[dict[str, Any]] = []
    for layer, (name, count) in unique(WORKLOADS[workload]).items():
        compiled = compile_graph(graph_of(name, [(name, layer)]), seen or chip)
        trace = timing.run(compiled.program, chip, trace=True)
        shape = as_gemm(layer)
        entry: dict[str, Any] = {
            "name": name, "count": count, "gemm": [shape.m, shape.n, shape.k], "cycles": trace.cycles,
            "dram_bytes": trace.read_bytes + trace.written_bytes,
            "causes": causes(compiled.program, chip, trace, layer.ideal_cycles),
        }  # fmt: skip
        layers.append(entry)
    sums = {cause: round(sum(x["count"] * x["causes"][cause] for x in layers), 1) for cause in CAUSES}
    return {"cycles": sum(x["count"] * x["cycles"] for x in layers), "causes": sums, "layers": layers}


def in_one_program(workload: str, chip: Chip) -> int:
    """Cycles of all layers of a workload, repeated ones too, as one program: they overlap at their ends."""
    return timing.run(compile_graph(graph_of(workload, WORKLOADS[workload]), chip).program, chip).cycles


def every_layer(workload: str, chip: Chip) -> int:
    """Cycles of a workload with every layer compiled and timed, equal ones too: what the peers' CPU time is for."""
    graphs = [graph_of(name, [(name, layer)]) for name, layer in WORKLOADS[workload]]
    return sum(timing.run(compile_graph(graph, chip).program, chip).cycles for graph in graphs)


def main() -> None:
    workload, chip = sys.argv[1], load_chip(sys.argv[2] if len(sys.argv) > 2 else "systolic-128")
    if sys.argv[3:] == ["all"]:
        print(every_layer(workload, chip))
    else:
        print(json.dumps(layer_by_layer(workload, chip), indent=1))


if __name__ == "__main__":
    main()
