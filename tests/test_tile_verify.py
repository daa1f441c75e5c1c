"""Tile programs: each invariant broken once, every form of text, and what they mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compiled import PRESETS
from structure import same
from tapeout.compiler.tile import TileProgram
from tapeout.compiler.tile_interp import run_tiles
from tapeout.compiler.tile_text import parse_tiles, print_tiles
from tapeout.compiler.tile_verify import bounds, verify_tiles
from tapeout.errors import SimError, UserError, VerifyError
from tapeout.ir.kernel_interp import contents
from tapeout.isa import commands as c
from tapeout.isa.operands import Affine, Term

CHIP = PRESETS[0]
TEXT = """\
buffer x: f32 (8, 64) input
buffer y: f32 (8, 64) output
buffer w: bf16 (64) input

tiles "relu" of "relu1", "bias \\"2\\"" on 4 cores {
  slots 2
  scope s1 in s1 trip 2
  m0 "x.1": 256 bytes x 2 of nram in s1
  m1 "y.2": 256 bytes x 2 of nram in s1
  m2 "w.3": 128 bytes x 1 of wram in s0
  m3 "b.4": 256 bytes x 1 of nram in s0 cluster
  window x: f32 (8, 64) strides (256, 4) at 0 fill 0.0
  window y: f32 (8, 64) strides (256, 4) at 0 fill 0.0
  window w: bf16 (64) strides (2) at 0 fill 0.0
  body {
    load w[0 | 64] + 0 -> m2[0 | 2]:bf16 kernel 0
    load x[0, 16*(core%4) | 1, 16] + 0 -> m3[64*(core%4) | 256, 4]:f32 multicast post 4@ kernel 0
    nop VE wait 4, 5, 6, 7 kernel 0
    for s1 in 2 {
      load x[s1+2*core, 0 | 1, 64] + 0 -> m0[0 | 256, 4]:f32 wait 1 post 0 kernel 0
      nop VE wait 0, 3 kernel 0
      for s2 in 4 {
        vector max f32 (16) m1[64*s2 | 4]:f32 <- (m0[64*s2 | 4]:f32, #0.0:f32) reduced 0 add 0 kernel 0
      }
      vector add f32 (64) m1[0 | 4]:f32 <- (m1[0 | 4]:f32, m3[0 | 4]:f32) reduced 0 add 0 post 1, 2 kernel 0
      if 1+-1*(core%2) {
        store m1[0 | 256, 4]:f32 -> y[s1+2*core, 0 | 1, 64] + 0 kernel 0
      }
      nop ST wait 2 post 3 kernel 0
    }
  }
}
"""
SEMAPHORES = (0, 2, 0, 2, 0, 0, 0, 0)


def tiles(text: str = TEXT) -> tuple[TileProgram, ...]:
    return parse_tiles(text, CHIP)


def test_it_is_valid_and_read_back() -> None:
    programs = tiles()
    verify_tiles(programs[0], CHIP)
    assert print_tiles(programs, CHIP) == TEXT
    assert same(programs, tiles())
    assert programs[0].sources == ("relu1", 'bias "2"')
    assert programs[0].scopes == {0: (), 1: (1,)}


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("on 4 cores", "on 33 cores", "33 cores get work"),
        ("for s2 in 4", "for s1 in 4", "slot 1 is not of the program, or of two loops"),
        ("trip 2", "trip 3", "slot 1 has a trip of 2"),
        ("for s2 in 4", "for s2 in 4+core", "slot 2 has a trip of 4"),
        ("in s1 trip", "in s2, s1 trip", "the scope of slot 1 lies in (2, 1), its loop in (1,)"),
        ("scope s1 in s1 trip 2", "scope s1 in s1 trip 2 scope s2 in s2 trip 4", "the scope of slot 2 lies in (2,)"),
        ("x 1 of wram in s0", "x 1 of wram in s2", 'buffer m2 (w.3): scope 2, 1 x 128 bytes'),
        ("x 1 of wram in s0", "x 0 of wram in s0", 'buffer m2 (w.3): scope 0, 0 x 128 bytes'),
        ("x 1 of wram in s0", "x 2 of wram in s0", "buffer m2 (w.3) has 2 turns outside of loops"),
        ("x 1 of wram in s0", "x 1 of wram in s1", "uses m2 (w.3) outside of its scope"),
        ("-> m2[0", "-> m4[0", "there is no buffer m4"),
        ("m2[0 | 2]", "m2[0 | 2, 2]", "a view of m2 has 2 strides for 1"),
        ("m2[0 | 2]", "m2[0 | 3]", "bytes 0 to 191 of m2, which has 128"),
        ("m1[64*s2 | 4]", "m1[4+64*s2 | 4]", "bytes 4 to 260 of m1, which has 256"),
        ("m1[64*s2 | 4]", "m1[-4+64*s2 | 4]", "bytes -4 to 252 of m1"),
        ("m3[64*(core%4)", "m3[80*(core%4)", "m3[80*(core%4) | 256, 4]:f32 multicast: bytes 0 to 304"),
        ("of wram", "of nram", ""),
        ("m0 \"x.1\": 256 bytes x 2 of nram", "m0 \"x.1\": 256 bytes x 2 of wram", "ve does not reach wram"),
        ("m2[0 | 2]:bf16", "m2[s1 | 2]:bf16", "uses slot 1, whose loop is not around it"),
        ("load w[0 | 64]", "load w[s2 | 64]", "uses slot 2, whose loop is not around it"),
        ("load w[0 | 64]", "load w[0, 0 | 1, 64]", "a box that has not the 1 dimensions of its window"),
        ("load w[0", "load $5[0", "there is no window 5"),
        ("window w: bf16 (64) strides (2) at 0", "window w: bf16 (64) strides (2) at 1", "window 2 takes bytes 2 to"),
        ("window w: bf16 (64) strides (2)", "window w: bf16 (64) strides (-2)", "window 2 takes bytes -126 to 2 of w"),
        ("window w: bf16 (64)", "window w: bf16 (1, 1, 1, 1, 1, 64)", "window 2 of w has 6 dimensions"),
        ("(16) m1", "(1, 1, 1, 1, 16) m1", "has more than 4 dimensions"),
        ("f32 multicast", "f32", "a buffer and a load disagree on whether a cluster fills it"),
        ("on 4 cores", "on 6 cores", "a load for a cluster of which only some cores get work"),
        ("nop ST wait 2 post 3 kernel 0", "nop ST wait 2 kernel 0", "semaphore 3 is posted -2 more times"),
        ("wait 4, 5, 6, 7", "wait 4, 5, 6", "semaphore 7 is posted 1 more times"),
        ("+ 0 kernel 0\n      }", "+ 0 post 3 kernel 0\n      }", "its branches leave semaphores different"),
        ("nop ST wait 2", "nop ST wait 3, 2", "semaphore 3 is waited for by two queues"),
        ("post 0 kernel", "post 0, 1 kernel", "semaphore 1 is posted by two queues"),
        ("nop ST", "barrier chip (ST) nop ST", "Barrier: is no part of a tile program"),
    ],
)  # fmt: skip
def test_each_invariant(wrong: str, right: str, message: str) -> None:
    assert wrong in TEXT
    (program,) = tiles(TEXT.replace(wrong, right))
    if not message:
        verify_tiles(program, CHIP)
        return
    with pytest.raises(VerifyError) as caught:
        verify_tiles(program, CHIP)
    assert message in str(caught.value)


def test_what_text_cannot_say() -> None:
    (program,) = tiles()
    with pytest.raises(VerifyError, match="there is no loop for the scope of slot 1"):
        verify_tiles(replace(program, body=(), buffers=()), CHIP)
    with pytest.raises(VerifyError, match="lies in memory 2"):
        verify_tiles(replace(program, buffers=(replace(program.buffers[0], memory=2),)), CHIP)
    with pytest.raises(VerifyError, match="slot 2 is not of the program"):
        verify_tiles(replace(program, slots=1), CHIP)
    view = c.View(0, Affine(), (0,) * 5, program.windows[0].dtype)
    big = c.MatMul((1,) * 4, 1, (1,), view, view, view, Affine())
    with pytest.raises(VerifyError, match="more than 3 dimensions of rows or depth"):
        verify_tiles(replace(program, body=(big, *program.body)), CHIP)


@pytest.mark.parametrize(
    "term", [Term(1, 3), Term(1, -2), Term(1, 1, 3), Term(1, 5, 2, 3), Term(1, -1, 1, 4), Term(1, 7, 4, 9)]
)
@pytest.mark.parametrize("spread", [(0, 0), (0, 6), (5, 6), (3, 11)])
def test_bounds_are_those_of_all_values(term: Term, spread: tuple[int, int]) -> None:
    value = Affine(2, (term,))
    found = [value.value((0, n)) for n in range(spread[0], spread[1] + 1)]
    low, high = bounds(value, {1: spread})
    assert low <= min(found)
    assert max(found) <= high
    assert term.mod or (low, high) == (min(found), max(found))


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("scope s1", "scope t1", "line 7: `t1` where a slot should be"),
        ("of nram", "of bram", "line 8: `bram` is not declared"),
        ("window y", "window z", "line 13: there is no buffer z"),
        ("y: f32 (8, 64) output", "y: f32 (8, 64 output", "line 2: `output` where `,` should be"),
        ("nop ST", "nap ST", "line 29: `nap` is no command"),
        ("  }\n}\n", "  }\n}\nmore\n", "line 33: `more` after the end"),
    ],
)
def test_errors_name_the_line(wrong: str, right: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        tiles(TEXT.replace(wrong, right))
    assert message in str(caught.value)


def run(text: str, semaphores: tuple[int, ...] = SEMAPHORES) -> tuple[np.ndarray, np.ndarray]:
    """x, and what the program makes of it."""
    programs = tiles(text)
    x, y, w = (window.buffer for window in programs[0].windows)
    rng = np.random.default_rng(0)
    memory = {x: rng.normal(size=x.shape).astype(np.float32), w: np.zeros(w.shape, w.dtype.numpy)}
    run_tiles(programs, CHIP, memory, semaphores)
    return memory[x], contents(y, memory).reshape(y.shape)


def test_meaning() -> None:
    """Four cores, a tile that they bring together, and a branch that odd cores do not take."""
    x, y = run(TEXT)
    wanted = np.maximum(x, 0) + x[0]
    wanted[[2, 3, 6, 7]] = np.nan
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_array_equal(y, run(TEXT, ())[1])


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("wait 1 post 0", "post 0", "does not leave the semaphores as they were"),
        (
            "wait 0, 3 kernel",
            "wait 0:2, 3 kernel",
            "core 0 waits for semaphore 0, which nothing has posted (in `Nop of",
        ),
        ("post 4@ kernel", "post 4 kernel", "core 0 waits for semaphore 5"),
    ],
)
def test_semaphores_are_counted(wrong: str, right: str, message: str) -> None:
    with pytest.raises(SimError) as caught:
        run(TEXT.replace(wrong, right))
    assert message in str(caught.value)
