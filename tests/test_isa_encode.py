import numpy as np
import pytest
from hypothesis import given

from strategies_isa import every_form, programs
from tapeout.chip.spec import Chip
from tapeout.errors import UserError
from tapeout.isa import commands as c
from tapeout.isa.encode import Reader, decode_nodes, encode_nodes, encode_tensors
from tapeout.isa.program import Program

Case = tuple[Program, Chip, list[list[int]]]


def test_every_form_is_decoded() -> None:
    program = every_form()
    assert decode_nodes(encode_nodes(program.body)) == program.body


@given(programs())
def test_random_programs_are_decoded(case: Case) -> None:
    program, _, _ = case
    assert decode_nodes(encode_nodes(program.body)) == program.body


@given(programs())
def test_descriptors_are_decoded_without_names(case: Case) -> None:
    program, _, _ = case
    words = encode_tensors(program.tensors)
    assert np.array_equal(encode_tensors(Reader(words).tensors()), words)


def test_words_are_as_documented() -> None:
    """Version, one node; opcode 6 (Nop), no waits, no posts, kernel 2, queue 4."""
    assert encode_nodes((c.Nop(4, kernel=2),)).tolist() == [1, 1, 6, 0, 0, 2, 4]


@pytest.mark.parametrize("length", range(1, 60, 7))
def test_cut_words_are_refused(length: int) -> None:
    with pytest.raises(UserError, match="ends early"):
        decode_nodes(encode_nodes(every_form().body)[:length])


def test_other_versions_and_bad_codes_are_refused() -> None:
    words = encode_nodes((c.Nop(4),))
    with pytest.raises(UserError, match="encoding 7"):
        decode_nodes(np.array([7, *words[1:]]))
    with pytest.raises(UserError, match="bad code 99"):
        decode_nodes(np.array([1, 1, 99]))
