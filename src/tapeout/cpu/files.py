"""The files of a designed core: the step in four formats, the core around it, and what is known of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tapeout.circuit.export import write_netlist
from tapeout.circuit.port_netlists import put_back
from tapeout.cpu.core import Design
from tapeout.cpu.verilog import HAND_WRITTEN, core
from tapeout.errors import UserError

STEP_FILES = ("step.v", "step.blif", "step.aig", "step.c")


def write_design(made: Design, folder: Path) -> list[str]:
    """Writes ``step`` in each format (read back and proved), ``core.v`` and ``design.json``; the names of the files.

    Raises:
        UserError: a folder that cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in STEP_FILES:
            write_netlist(made.netlist, folder / name, "step")
        (folder / "core.v").write_text(core(made.discovery.form), encoding="utf-8")
        (folder / "design.json").write_text(json.dumps(record(made), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror})", str(folder), "give another folder") from error
    return [*STEP_FILES, "step.h", "core.v", "design.json"]


def record(made: Design) -> dict[str, Any]:
    """What is known of a design, as plain values."""
    form = made.discovery.form
    return {
        "variant": made.variant,
        "proof": str(made.proof),
        "formal_counterexamples": made.counterexamples,
        "speculated": list(made.speculated),
        "and_nodes_learned": made.learned.nodes,
        "and_nodes": made.netlist.nodes,
        "and_nodes_with_registers": put_back(made.netlist, form).nodes,
        "and_nodes_reference": made.reference.nodes,
        "questions": made.queries,
        "questions_discovery": made.discovery.questions,
        "seconds": {
            "discovery": round(made.discovery_s, 2), "learning": round(made.learning_s, 2),
            "minimising": round(made.minimising_s, 2), "proving": round(made.proving_s, 2),
        },
        "arrays": form.record(),
        "facts": form.facts(),
        "written_by_hand": list(HAND_WRITTEN),
    }  # fmt: skip
