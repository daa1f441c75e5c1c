"""Kernels as text: every form is read back, errors name the line, golden files show all levels of two models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from compiled import PRESETS
from structure import same
from tapeout.compiler.pipeline import compile_graph
from tapeout.errors import UserError
from tapeout.ir import kernel as k
from tapeout.ir.build import Builder
from tapeout.ir.graph import Graph
from tapeout.ir.kernel_text import buffers_of, constants, parse_buffers, parse_kernels, print_kernels
from tapeout.ir.types import DType, TensorType
from tapeout.report.stages import STAGES, stage_text

EVERY_FORM = """\
buffer x: f32 (2, 3) input order (1, 0)
buffer "a b": i32 (4) state
buffer "nan": u8 (2) temporary
buffer y: f32 (6) temporary
buffer y: f32 (6) output

kernel "all \\"forms\\"" {
  axes a0=2 whole a1=3 chunked a2=4 turn
  x.1: f32[a0, 2*a1+a0-3] = load x[a0 < 2, 2*a1+a0-3 < 3] at 1 step (0, -1) fill -inf as i32
  "odd name": i32[a2] = load "a b"[a2 < 4] at 0 step (1)
  g.2: u8[a0] = load "nan"[a0 < 2 by "odd name", 1 < 2] at 0 step (1, 0) fill 255.0
  c.3: f32[a0] = contract over (a1, a2) x.1 * g.2 + g.2 * x.1 on vector // "conv \\"1\\""
  c.4: f32[a0] = map select(c.3, nan, inf)
  c.5: f32[] = fold arg_max over (a0) c.4 // "top"
  c.6: i64[a0, a2] = map iota(0.0, -1.5) along a2
  store $3[0 < 1] at 0 step (0) = c.5
  store $4[a2 < 4 by "odd name"] at 0 step (1) += c.5
}

kernel "nothing" {
  axes
}
"""


def test_every_form_is_read_back() -> None:
    kernels = parse_kernels(EVERY_FORM)
    assert print_kernels(kernels) == EVERY_FORM
    first = kernels[0]
    a0, a1, a2 = first.layout
    assert (first.resident, first.sequential, first.ordered) == ({a0}, {a1}, {a2})
    load = first.ops[0]
    assert isinstance(load, k.LoadTile)
    assert load.access.index[1] == k.DimIndex(((a1, 2), (a0, 1)), -3)
    assert (load.access.fill, load.access.dtype) == (float("-inf"), DType.i32)
    assert first.ops[-1].access.buffer is buffers_of(kernels)[-1]
    assert same(kernels, parse_kernels(EVERY_FORM))
    assert not same(kernels, parse_kernels(EVERY_FORM.replace("-1.5", "1.5")))


def test_constants_keep_contents_order_and_part() -> None:
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    whole = k.Buffer("w", DType.f32, (3, 2), "constant", data, (1, 0))
    part = k.Buffer("w.p1", DType.bf16, (3, 2), "constant", data, (1, 0), 1)
    loads = [k.LoadTile(k.Tile(f"t.{n}", b.dtype, ()), k.Access(b, (), (), 0, ())) for n, b in enumerate((whole, part))]
    kernel = k.KernelSpec("k", tuple(loads), (), frozenset(), frozenset())
    text = print_kernels([kernel])
    assert "buffer w.p1: bf16 (3, 2) constant @" in text
    assert text.count(" order (1, 0) part 1\n") == 1
    again = parse_kernels(text, constants(buffers_of([kernel])))
    assert same((kernel,), again)
    assert buffers_of(again)[1].data is data
    assert [b.name for b in parse_buffers(text.split("\n\n")[0], constants([whole]))] == ["w", "w.p1"]


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("x: f32", "x: f33", "line 1: `f33` where an element type should be"),
        ("(2, 3) input", "(2, b) input", "line 1: `b` where a whole number should be"),
        ("4 turn", "4 turned", "line 9: `x.1` where `:` should be"),
        ("map select", "nap select", "`nap` is no kernel op"),
        ("contract over (a1,", "contract over (a7,", "axis `a7` is not defined"),
        ("fold arg_max over (a0) c.4", "fold arg_max over (a0) c.9", "tile `c.9` is not defined"),
        ("load x[", "load q[", "line 9: 0 buffers are called `q`"),
        ("at 1 step", "at one step", "`one` where a whole number should be"),
        ("input order", "constant @0123456789abcdef order", "no array @0123456789abcdef was given"),
        ("  axes\n}\n", "  axes\n", "line 21: the text ends early"),
        ("  axes\n}\n", "  axes\n}\nmore\n", "line 23: `more` after the end"),
    ],
)
def test_errors_name_the_line(wrong: str, right: str, message: str) -> None:
    assert wrong in EVERY_FORM
    with pytest.raises(UserError) as caught:
        parse_kernels(EVERY_FORM.replace(wrong, right))
    assert message in str(caught.value)


def conv_relu() -> Graph:
    b = Builder("conv_relu")
    x = b.input("x", TensorType(DType.bf16, (1, 2, 4, 4)))
    w = b.constant(np.arange(36).reshape(2, 2, 3, 3).astype(DType.bf16.numpy), "w")
    b.output("y", b.relu(b.conv(x, w, (1, 1), ((1, 1), (1, 1)), (1, 1))))
    return b.finish()


def softmax() -> Graph:
    b = Builder("softmax")
    b.output("y", b.softmax(b.input("x", TensorType(DType.f32, (4, 8))), 1))
    return b.finish()


@pytest.mark.parametrize("make", [conv_relu, softmax])
def test_every_level_of_a_small_model(make: Callable[[], Graph], golden: Callable[[str, str], None]) -> None:
    """The life of a model: read the file from top to bottom."""
    chip = PRESETS[1]
    compiled = compile_graph(make(), chip)
    compiled = replace(compiled, schedules=tuple(replace(s, cycles=0.0) for s in compiled.schedules))
    parts = (f"==== {stage}\n\n{stage_text(compiled, chip, stage)}" for stage in STAGES)
    golden(f"levels_{make.__name__}.txt", "\n".join(parts))
