"""What a comparison of two circuits found, for a terminal."""

from __future__ import annotations

from dataclasses import replace

from tapeout.circuit.columns import describe_row
from tapeout.circuit.equivalence import Equivalence, Verdict
from tapeout.circuit.evaluate import evaluate
from tapeout.circuit.netlist import Netlist
from tapeout.errors import UserError


def with_words_of(netlist: Netlist, other: Netlist, where: str, by_position: bool) -> Netlist:
    """The netlist with the words of ``other``, where it has as many bits.

    Raises:
        UserError: other words (unless ``by_position``), or another number of bits.
    """
    ours, theirs = netlist.interface, other.interface
    if ours == theirs:
        return netlist
    bits = (ours.input_bits, ours.output_bits)
    if bits != (theirs.input_bits, theirs.output_bits):
        wanted = f"{theirs.input_bits} input and {theirs.output_bits} output bits"
        raise UserError(f"it has {bits[0]} input and {bits[1]} output bits", where, f"give a circuit of {wanted}")
    if not by_position:
        raise UserError(
            f"it has the words {ours}, not {theirs}", where,
            "give circuits of the same words, or take ports in their order with --by-position",
        )  # fmt: skip
    return replace(netlist, interface=theirs)


def render(result: Equivalence, first: Netlist, second: Netlist, first_name: str, second_name: str) -> str:
    """The verdict, and where the circuits differ, an input and both answers."""
    lines = [f"{name}: {netlist.nodes:,} AND nodes" for name, netlist in ((first_name, first), (second_name, second))]
    if result.proved:
        return "\n".join([*lines, f"proved equal: all {len(result.verdicts):,} output bits", ""])
    words = result.words
    for verdict, what in ((Verdict.DIFFERENT, "different"), (Verdict.UNDECIDED, "not decided in time")):
        names = [name for name, found in words.items() if found is verdict]
        if names:
            lines.append(f"{what}: {', '.join(names)}")
    if (row := result.counterexample) is not None:
        lines.append(f"for example, where {describe_row(row, first.interface.inputs)}:")
        for name, netlist in ((first_name, first), (second_name, second)):
            lines.append(f"  {name}: {describe_row(evaluate(netlist, row), netlist.interface.outputs)}")
    return "\n".join([*lines, ""])
