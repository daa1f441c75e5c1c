from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given

from strategies_isa import every_form, programs
from tapeout.chip.spec import Chip
from tapeout.errors import UserError
from tapeout.isa import asm
from tapeout.isa import commands as c
from tapeout.isa.operands import Wait
from tapeout.isa.program import Program


def test_every_form_is_read_back() -> None:
    program = every_form()
    assert asm.parse(asm.text(program)) == program


def test_text_of_every_form(golden: Callable[[str, str], None]) -> None:
    golden("isa_forms.txt", asm.text(every_form()))


@given(programs())
def test_random_programs_are_read_back(case: tuple[Program, Chip, list[list[int]]]) -> None:
    program, _, _ = case
    assert asm.parse(asm.text(program)) == program


def test_names_that_are_not_unique_are_numbered() -> None:
    program = replace(every_form(), slots=("core", "core"))
    assert "$1 in" in asm.text(program)
    assert asm.parse(asm.text(program)) == program


def test_a_command_by_itself() -> None:
    assert asm.command_text(c.Nop(3, waits=(Wait(1, 2),)), every_form()) == "nop MM wait 1:2 kernel 0"


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("nop VE", "nop XX", "line 22: `XX` is no queue"),
        ("select i64", "choose i64", "`choose i64` is no vector operation"),
        ("load x", "load y", "`y` is not declared"),
        ("x: f32", "x: f33", "`f33` is no element type"),
        ("copy (2, 3)", "copy 2, 3", "`2` where `(` should be"),
        ("copy (2, 3)", "jump (2, 3)", "`jump` is no command"),
        ("m0[0 | 12", "q0[0 | 12", "`q0` where a view should be"),
        ("kernel 1", "kernel x", "`x` where a whole number should be"),
    ],
)
def test_errors_name_the_line(wrong: str, right: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        asm.parse(asm.text(every_form()).replace(wrong, right, 1))
    assert message in str(caught.value)


def test_text_that_ends_early() -> None:
    with pytest.raises(UserError, match="ends early"):
        asm.parse(asm.text(every_form()).rstrip().removesuffix("}"))
