"""A learned step beside its oracle on 10^9 rows of a sampler that shares nothing with the learner's.

    circuit_judge.py VARIANT NETLIST [--rows 1e9] [--seed 7] [--name NAME]
    circuit_judge.py VARIANT --learn SEED

The netlist is a file of `tapeout design VARIANT --output NETLIST` (port form); with --learn it is learned first.
Unlike the learner, the judge knows the instruction set: native/circuit/judge.h says what the distributions are. What
is counted is kept in build/judge after every piece, so that a call that was ended goes on where it was. A netlist over
ports that the learner named itself is asked about rows only that a state of the whole processor causes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from common import DESIGNS, HERE, RESULTS, load, provenance, save

sys.path.insert(0, str(HERE.parent / "tests"))

from judge import Code
from rv32_codes import rv32_codes
from tapeout import _native
from tapeout.circuit.coverage import error_bound
from tapeout.circuit.equivalence import native_fields
from tapeout.circuit.netlist import Netlist
from tapeout.circuit.reading import read_netlist
from tapeout.circuit.words import Interface
from tapeout.cpu.rv32 import VARIANTS, rv32_interface, rv32_oracle

SHARES = {"operations": 0.6, "uniform": 0.2, "damaged": 0.1, "walking": 0.1}
CHUNK: int = _native.JUDGE_CHUNK
PIECE = 64
"""Chunks between two records of what was counted."""
WORK = HERE.parent / "build" / "judge"
NAMES = ("rows", "wrong", "by_output", "rows_by_operation", "wrong_by_operation", "first")


def constant_fields(places: Sequence[int]) -> list[tuple[int, int, int]]:
    """Bits of a constant, the lowest first, as runs ``(from, width, to)``."""
    fields: list[tuple[int, int, int]] = []
    for to, place in enumerate(places):
        if fields and fields[-1][0] + fields[-1][1] == place:
            fields[-1] = (fields[-1][0], fields[-1][1] + 1, fields[-1][2])
        else:
            fields.append((place, 1, to))
    return fields


def make_judge(
    oracle: _native.Oracle, netlist: Netlist, codes: Mapping[str, Sequence[Code]] | None, seed: int,
    word: str = "instruction", states: bool = False,
) -> _native.Judge:  # fmt: skip
    """A judge of ``netlist``; with ``codes`` each operation gets its share of the rows.

    ``states``: only rows that a state of the whole processor causes (equal registers have equal values, register 0 is
    0), and what is written to register 0 does not matter: for ports that a learner found itself.
    """
    interface = netlist.interface
    names = [w.name for w in interface.inputs]
    operations = [
        [(code.mask, code.match, constant_fields(code.constant), code.is_signed) for code in group]
        for group in (codes or {}).values()
    ]
    return _native.Judge(
        oracle, native_fields(netlist), [w.width for w in interface.inputs], [w.width for w in interface.outputs],
        names.index(word) if codes else -1, operations, seed,
        [(bit, 5, len(names) + place) for bit, place in ((15, -2), (20, -1))] if states else [],
        [(7, 5, [len(interface.outputs) - 2, len(interface.outputs) - 1])] if states else [],
    )  # fmt: skip


@dataclass
class Count:
    """What was counted of one distribution; ``chunks`` are done."""

    chunks: int = 0
    rows: int = 0
    wrong: int = 0
    by_output: list[int] = field(default_factory=list[int])
    rows_by_operation: list[int] = field(default_factory=list[int])
    wrong_by_operation: list[int] = field(default_factory=list[int])
    first: list[int] = field(default_factory=list[int])

    def add(self, chunks: int, tally: tuple[Any, ...]) -> None:
        self.chunks += chunks
        for name, value in zip(NAMES, tally, strict=True):
            old = getattr(self, name)
            if name == "first":
                self.first = old or value
            elif isinstance(value, list):
                setattr(self, name, [a + b for a, b in zip(old or [0] * len(value), value, strict=True)])
            else:
                setattr(self, name, old + value)


def count(judge: _native.Judge, rows: int, threads: int, state: Path | None) -> dict[str, Count]:
    """Judges ``rows`` rows in the shares above, going on from ``state`` and keeping it."""
    counts = {kind: Count() for kind in SHARES}
    if state is not None and state.is_file():
        counts = {kind: Count(**old) for kind, old in json.loads(state.read_text(encoding="utf-8")).items()}
    begin, before = time.perf_counter(), sum(c.rows for c in counts.values())
    for kind, share in SHARES.items():
        done, wanted = counts[kind], -(-round(rows * share) // CHUNK)
        while done.chunks < wanted:
            piece = min(PIECE, wanted - done.chunks)
            done.add(piece, judge.run(kind, done.chunks, piece, threads))
            if state is not None:
                keep(state, counts)
            if sys.stderr.isatty():
                asked = sum(c.rows for c in counts.values())
                rate = (asked - before) / (time.perf_counter() - begin)
                wrong = sum(c.wrong for c in counts.values())
                sys.stderr.write(f"\r{kind:<10} {asked / rows:6.1%}  {rate / 1e6:.0f} M rows/s, {wrong:,} wrong ")
    return counts


def keep(path: Path, counts: dict[str, Count]) -> None:
    """Replaces the file: it is whole whenever the program is ended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps({kind: vars(c) for kind, c in counts.items()}), encoding="utf-8")
    temporary.replace(path)


def summary(counts: dict[str, Count], interface: Interface, operations: Sequence[str]) -> dict[str, Any]:
    """Rows and wrong rows of each distribution, by output word and by operation."""
    found: dict[str, Any] = {}
    for kind, c in counts.items():
        by_operation = dict(zip(operations, zip(c.rows_by_operation, c.wrong_by_operation, strict=True), strict=False))
        found[kind] = {
            "rows": c.rows, "wrong": c.wrong, "bound_95": float(f"{error_bound(c.wrong, c.rows):.3g}"),
            "wrong_by_output": {w.name: n for w, n in zip(interface.outputs, c.by_output, strict=True) if n},
        }  # fmt: skip
        if kind in ("operations", "damaged"):
            found[kind]["rows_by_operation"] = {name: n for name, (n, _) in by_operation.items()}
            found[kind]["wrong_by_operation"] = {name: n for name, (_, n) in by_operation.items() if n}
        if c.first:
            found[kind]["first_wrong_row"] = [hex(value) for value in c.first]
    return found


def learned(variant: str, seed: int) -> Netlist:
    """The step as `tapeout design` learns it; from its files if circuit_processor.py wrote them."""
    from tapeout.cpu.core import design
    from tapeout.cpu.files import read_step, write_design

    folder = DESIGNS / f"{variant}-{seed}"
    if not (folder / "design.json").is_file():
        write_design(design(variant, seed=seed), folder)
    return read_step(folder).unrolled()


def judged(variant: str, netlist: Netlist, rows: int, seed: int, threads: int = 0) -> dict[str, Any]:
    """Judges a netlist of the variant in port form; what was counted, and how fast."""
    interface = rv32_interface(variant, ports=True)
    widths = [[word.width for word in words] for words in (netlist.interface.inputs, netlist.interface.outputs)]
    if widths != [[word.width for word in words] for words in (interface.inputs, interface.outputs)]:
        raise SystemExit(f"the netlist has the words {netlist.interface}, not those of {variant} in port form")
    codes, states = rv32_codes(variant), netlist.interface != interface
    netlist = replace(netlist, interface=interface)
    judge = make_judge(rv32_oracle(variant, ports=True), netlist, codes, seed, states=states)
    digest = hashlib.sha256(b"".join([netlist.fanins.tobytes(), netlist.outputs.tobytes()])).hexdigest()[:16]
    begin = time.perf_counter()
    counts = count(judge, rows, threads, WORK / f"{variant}-{digest}-{seed}{'-states' if states else ''}.json")
    found = summary(counts, interface, list(codes))
    return {
        "and_nodes": netlist.nodes, "netlist": digest, "judge_seed": seed,
        "only_rows_of_states": states,
        "seconds_of_last_call": round(time.perf_counter() - begin, 1),
        "rows": sum(c.rows for c in counts.values()), "wrong": sum(c.wrong for c in counts.values()),
        "distributions": found,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("netlist", type=Path, nargs="?")
    parser.add_argument("--learn", type=int, metavar="SEED", help="learn the netlist instead of reading one")
    parser.add_argument("--rows", type=float, default=1e9)
    parser.add_argument("--seed", type=int, default=7, help="of the judge")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--name", help="of the entry in the results; else learned-SEED or the file's name")
    arguments = parser.parse_args()
    if (arguments.netlist is None) == (arguments.learn is None):
        parser.error("give either a netlist or --learn SEED")
    netlist = (
        learned(arguments.variant, arguments.learn) if arguments.netlist is None else read_netlist(arguments.netlist)
    )
    name = arguments.name or (f"learned-{arguments.learn}" if arguments.netlist is None else arguments.netlist.stem)
    result = judged(arguments.variant, netlist, round(arguments.rows), arguments.seed, arguments.threads)
    file = f"circuit_judge_{arguments.variant}"
    record = load(file) if (RESULTS / f"{file}.json").is_file() else {"netlists": {}}
    record["provenance"] = provenance(f"python benchmarks/circuit_judge.py {arguments.variant} NETLIST", "numpy")
    record["netlists"][name] = result
    save(file, record)
    print(f"{name}: {result['wrong']:,} of {result['rows']:,} rows wrong, {result['seconds_of_last_call']} s")


if __name__ == "__main__":
    main()
