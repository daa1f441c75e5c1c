"""Proves a learned processor equal to the reference, class of inputs by class of inputs, and keeps what is proved."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tapeout.circuit.bitvector import Bits, any_of, constant
from tapeout.circuit.certificate import Certificate, check_product
from tapeout.circuit.equivalence import Verdict, check_equal
from tapeout.circuit.miter import Engine, Finding, compare, input_literals, instantiate, translate, word_values
from tapeout.circuit.netlist import Builder, Netlist
from tapeout.circuit.words import Interface
from tapeout.cpu.classes import InstructionClass, instruction_classes, prove_partition
from tapeout.cpu.multiplier import PRODUCTS, Trace, reference_claims
from tapeout.cpu.reference import traced_reference
from tapeout.errors import UserError, VerifyError

Progress = Callable[[str, Mapping[str, Finding], float], None]


@dataclass(frozen=True, slots=True)
class Proof:
    """A finding for each class and output word; classes that the budget did not reach are missing.

    ``row`` of a finding is an input row of the class as an integer, bit ``i`` being input bit ``i``.
    """

    variant: str
    classes: tuple[str, ...]
    findings: Mapping[str, Mapping[str, Finding]]

    @property
    def proved(self) -> bool:
        """Every output word is proved in every class, and the classes are all there is."""
        return all(name in self.findings and _settled(self.findings[name], proved=True) for name in self.classes)

    @property
    def counterexamples(self) -> dict[tuple[str, str], int]:
        """Rows on which the netlists differ, by class and output word."""
        return {
            (name, word): finding.row
            for name, words in self.findings.items()
            for word, finding in words.items()
            if finding.row is not None
        }

    def __str__(self) -> str:
        done = sum(_settled(words, proved=True) for words in self.findings.values())
        text = f"{self.variant}: {done} of {len(self.classes)} classes proved"
        wrong = sorted({f"{word} in {name}" for name, word in self.counterexamples})
        return f"{text}; different: {', '.join(wrong)}" if wrong else text


def prove(
    learned: Netlist,
    variant: str,
    resume_file: Path | str | None = None,
    budget: float | None = None,
    engine: Engine = compare,
    only: Collection[str] | None = None,
    multipliers: Mapping[str, Trace] | None = None,
    progress: Progress | None = None,
) -> Proof:
    """Compares a netlist with the reference of ``variant`` in port form.

    In each class the bits that the class fixes become constants in both netlists and the outputs are compared where the
    class holds. A counterexample is evaluated on both whole netlists before it is reported.

    Args:
        resume_file: JSON; written after every class. Classes that it settles are not proved again.
        budget: seconds after which no class is begun.
        engine: compares two netlists of one interface.
        only: names of the classes to prove; all without.
        multipliers: for the classes MUL, MULH, MULHSU and MULHU the words and claims that certify ``rd`` as a product.
        progress: called after each class with its name, findings and seconds.

    Raises:
        UserError: other words than the variant's, or a resume file of another netlist.
        VerifyError: a counterexample that is none, or classes that do not cover all inputs: bugs of ours.
    """
    expected, traced = traced_reference(variant)
    if learned.interface != expected.interface:
        action = f"give it those of {variant} in port form: {expected.interface}"
        raise UserError(f"the netlist has the words {learned.interface}", "proof", action)
    start = time.monotonic()
    classes = instruction_classes(variant)
    prove_partition(classes, expected.interface)
    record = _Record(Path(resume_file) if resume_file else None, f"{variant} {_digest(learned)} {_digest(expected)}")
    for part in classes:
        begin = time.monotonic()
        if budget is not None and begin - start > budget:
            break
        if (only is not None and part.name not in only) or _settled(record.findings.get(part.name, {})):
            continue
        findings: dict[str, Finding] = {}
        trace = (multipliers or {}).get(part.name)
        if trace is not None and _certified(learned, expected, part, trace, traced):
            findings["rd"] = Finding(proved=True)
        findings |= engine(restrict(learned, part, findings), restrict(expected, part, findings))
        checked = {word: _checked(learned, expected, part, word, finding) for word, finding in findings.items()}
        record.add(part.name, checked)
        if progress:
            progress(part.name, checked, time.monotonic() - begin)
    return Proof(variant, tuple(part.name for part in classes), record.findings)


def restrict(netlist: Netlist, part: InstructionClass, without: Collection[str] = ()) -> Netlist:
    """The netlist with the bits that a class fixes made constant, and all outputs 0 outside of the class.

    Output words named in ``without`` are left out.
    """
    return _Restriction(netlist, part).netlist(without)


def outside(netlist: Netlist, parts: Sequence[InstructionClass]) -> Netlist:
    """The netlist with all outputs 0 in some classes."""
    builder = Builder(netlist.interface)
    inputs = input_literals(netlist.interface)
    became = instantiate(builder, netlist, inputs)
    inside = [part.predicate(builder, inputs) for part in parts]
    elsewhere = ~any_of([constant(builder, 0, 1), *inside])
    literals = translate(became, netlist.outputs.tolist())
    outputs = (Bits(builder, tuple(literals)) & elsewhere.repeat(len(literals))).literals
    return Netlist(netlist.interface, np.array(builder.fanins, np.uint32).reshape(-1, 2), np.array(outputs, np.uint32))


def sweeping(seconds: float) -> Engine:
    """The native engine, with ``seconds`` for each comparison."""

    def compare_netlists(a: Netlist, b: Netlist) -> dict[str, Finding]:
        result = check_equal(a, b, seconds=seconds)
        row = None
        if result.counterexample is not None:
            row = int.from_bytes(result.counterexample.tobytes(), "little")
        findings: dict[str, Finding] = {}
        for word, verdict in result.words.items():
            differs = row is not None and word_values(a, row)[word] != word_values(b, row)[word]
            findings[word] = Finding(proved=verdict is Verdict.PROVED, row=row if differs else None)
        return findings

    return compare_netlists


class _Restriction:
    """A netlist with the bits that a class fixes made constant."""

    def __init__(self, netlist: Netlist, part: InstructionClass, roots: Iterable[int] = ()) -> None:
        self.original = netlist
        self.builder = Builder(netlist.interface)
        free = input_literals(netlist.interface)
        self.became = instantiate(self.builder, netlist, part.cube.literals(len(free)), roots)
        self.inside = part.predicate(self.builder, free)

    def outputs(self) -> dict[str, Bits]:
        """The output words, where the class holds or not."""
        bits = Bits(self.builder, tuple(translate(self.became, self.original.outputs.tolist())))
        words: dict[str, Bits] = {}
        start = 0
        for word in self.original.interface.outputs:
            words[word.name] = bits[start : start + word.width]
            start += word.width
        return words

    def netlist(self, without: Collection[str] = ()) -> Netlist:
        masked = {
            name: list((word & self.inside.repeat(word.width)).literals)
            for name, word in self.outputs().items()
            if name not in without
        }
        interface = self.original.interface
        self.builder.interface = Interface(interface.inputs, tuple(w for w in interface.outputs if w.name in masked))
        return self.builder.finish(masked)

    def certificate(self, trace: Trace) -> Certificate:
        """The words and claims of the original, for the rows of the class; ``rd`` among them."""
        words = {name: tuple(translate(self.became, literals)) for name, literals in trace.words.items()}
        words["rd"] = self.outputs()["rd"].literals
        return Certificate(self.netlist(), words, trace.claims, self.inside.literals[0])


def _certified(
    learned: Netlist, expected: Netlist, part: InstructionClass, trace: Trace, traced: Mapping[str, Bits]
) -> bool:
    """Whether ``rd`` is the product that the class is named after, on both sides; then it is the same."""
    ours = Trace({name: word.literals for name, word in traced.items()}, reference_claims(part.name))
    return not certified(learned, part, trace) and not certified(expected, part, ours)


def certified(netlist: Netlist, part: InstructionClass, trace: Trace) -> list[str]:
    """The reasons why ``rd`` is not shown to be the product that the class is named after; none: it is."""
    roots = [literal for word in trace.words.values() for literal in word]
    return check_product(_Restriction(netlist, part, roots).certificate(trace), PRODUCTS[part.name])


def describe_row(netlist: Netlist, row: int) -> str:
    """An input row as text, ``instruction=0x00000013 pc=...``; words that are 0 are left out."""
    parts: list[str] = []
    for word in netlist.interface.inputs:
        value = row & (1 << word.width) - 1
        row >>= word.width
        if value:
            parts.append(f"{word.name}={value:#0{2 + -(-word.width // 4)}x}")
    return " ".join(parts)


def _settled(findings: Mapping[str, Finding], proved: bool = False) -> bool:
    """All words are decided; with ``proved``, all are proved."""
    return bool(findings) and all(word.proved if proved else not word.undecided for word in findings.values())


def _checked(learned: Netlist, expected: Netlist, part: InstructionClass, word: str, finding: Finding) -> Finding:
    """The finding, its row with the bits that the class fixes, after the netlists were seen to differ on it."""
    if finding.row is None:
        return finding
    row = finding.row & ~part.cube.mask | part.cube.match
    if word_values(learned, row)[word] == word_values(expected, row)[word]:
        raise VerifyError(f"proof of {part.name}", word, f"the netlists agree on {describe_row(learned, row)}")
    return Finding(row=row)


class _Record:
    """The findings so far, and the file that keeps them."""

    def __init__(self, path: Path | None, key: str) -> None:
        self.path = path
        self.key = key
        self.findings: dict[str, dict[str, Finding]] = {}
        if path is not None and path.exists():
            self._load(path)

    def add(self, name: str, findings: Mapping[str, Finding]) -> None:
        self.findings[name] = dict(findings)
        if self.path is None:
            return
        classes = {
            part: {
                word: "proved" if finding.proved else None if finding.row is None else hex(finding.row)
                for word, finding in words.items()
            }
            for part, words in self.findings.items()
        }
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps({"proof": self.key, "classes": classes}, indent=1))
        temporary.replace(self.path)

    def _load(self, path: Path) -> None:
        try:
            data = json.loads(path.read_text())
            key = data["proof"]
            self.findings = {
                part: {
                    word: Finding(proved=True) if found == "proved" else Finding(row=found and int(found, 16))
                    for word, found in words.items()
                }
                for part, words in data["classes"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError("this is not the file of a proof", str(path), "delete it or name another one") from error
        if key != self.key:
            raise UserError(
                "the file is of the proof of another netlist or variant", str(path), "delete it or name another one"
            )


def _digest(netlist: Netlist) -> str:
    text = f"{netlist.interface} {netlist.fanins.tolist()} {netlist.outputs.tolist()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
