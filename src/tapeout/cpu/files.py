"""The files of a designed core: the step in four formats, the core around it, and what is known of both.

Where the step repeats another one (`tapeout.circuit.folds`), that one is there once, in files of its name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tapeout.circuit.export import write_netlist
from tapeout.circuit.folds import Fold, Folded, with_folds
from tapeout.circuit.port_netlists import put_back
from tapeout.circuit.reading import read_netlist
from tapeout.circuit.words import Interface
from tapeout.cpu.core import Design
from tapeout.cpu.verilog import HAND_WRITTEN, core
from tapeout.errors import UserError

FORMATS = (".v", ".blif", ".aig", ".c")


def write_design(made: Design, folder: Path) -> list[str]:
    """Writes ``step``, and what it repeats, in each format (read back and proved), ``core.v`` and ``design.json``.

    Returns the names of the files.

    Raises:
        UserError: a folder that cannot be made or written.
    """
    parts = {"step": made.folded.netlist, **{fold.name: fold.step for fold in made.folded.folds}}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, netlist in parts.items():
            for suffix in FORMATS:
                write_netlist(netlist, folder / (name + suffix), name)
        text = core(made.discovery.form, folds=made.folded.folds)
        (folder / "core.v").write_text(text, encoding="utf-8")
        (folder / "design.json").write_text(json.dumps(record(made), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror})", str(folder), "give another folder") from error
    return [*(name + suffix for name in parts for suffix in (*FORMATS, ".h")), "core.v", "design.json"]


def read_step(folder: Path) -> Folded:
    """The step that `write_design` wrote.

    Raises:
        UserError: a folder without such files, or files that do not belong together.
    """
    try:
        known = json.loads((folder / "design.json").read_text(encoding="utf-8"))
        folds = [(str(fold["name"]), int(fold["steps"])) for fold in known["folds"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        action = "give a folder that tapeout design wrote"
        raise UserError(f"not the record of a design ({error})", str(folder / "design.json"), action) from error
    step = read_netlist(folder / "step.aig")
    found = tuple(Fold(name, steps, read_netlist(folder / f"{name}.aig")) for name, steps in folds)
    if all(fold.valid for fold in found):
        own = {word for fold in found for word in (*fold.answers, *fold.asks)}
        words = (tuple(w for w in side if w not in own) for side in (step.interface.inputs, step.interface.outputs))
        interface = Interface(*words)
        if with_folds(interface, found) == step.interface:
            return Folded(interface, step, found)
    raise UserError("the files do not belong together", str(folder), "write them again with tapeout design")


def record(made: Design) -> dict[str, Any]:
    """What is known of a design, as plain values."""
    form = made.discovery.form
    return {
        "variant": made.variant,
        "proof": str(made.proof),
        "formal_counterexamples": made.counterexamples,
        "speculated": list(made.speculated),
        "and_nodes_learned": made.learned.nodes,
        "and_nodes": made.folded.nodes,
        "and_nodes_in_one_clock": made.netlist.nodes,
        "and_nodes_with_registers": put_back(made.netlist, form).nodes,
        "and_nodes_reference": made.reference.nodes,
        "questions": made.queries,
        "questions_discovery": made.discovery.questions,
        "seconds": {
            "discovery": round(made.discovery_s, 2), "learning": round(made.learning_s, 2),
            "minimising": round(made.minimising_s, 2), "proving": round(made.proving_s, 2),
        },
        "folds": [{"name": fold.name, "steps": fold.steps, "and_nodes": fold.step.nodes} for fold in made.folded.folds],
        "arrays": form.record(),
        "facts": form.facts(),
        "written_by_hand": list(HAND_WRITTEN),
    }  # fmt: skip
