"""Each invariant of kernels and of schedule records, broken once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compiled import PRESETS
from tapeout.compiler.schedule import Schedule
from tapeout.compiler.schedule_text import parse_schedules, print_schedules
from tapeout.compiler.schedule_verify import verify_schedule
from tapeout.errors import UserError, VerifyError
from tapeout.ir import kernel as k
from tapeout.ir.kernel_text import constants, parse_kernels, print_kernels
from tapeout.ir.kernel_verify import verify_kernels

WEIGHTS = np.arange(32, dtype=np.float32).reshape(8, 4)
HASH = next(iter(constants([k.Buffer("w", k.DType.f32, (8, 4), "constant", WEIGHTS)])))
TEXT = f"""\
buffer x: f32 (6, 8) input
buffer w: f32 (8, 4) constant @{HASH}
buffer l: i32 (6) input
buffer v: f32 (10) input
buffer y: f32 (6, 4) temporary
buffer z: f32 (6) output

kernel "fc" {{
  axes a0=6 a1=8 chunked a2=4 whole
  x.1: f32[a0, a1] = load x[a0 < 6, a1 < 8] at 0 step (8, 1)
  w.2: f32[a1, a2] = load w[a1 < 8, a2 < 4] at 0 step (4, 1)
  c.3: f32[a0, a2] = contract over (a1) x.1 * w.2
  c.4: f32[a0, a2] = map max(c.3, 0.0)
  s.5: f32[a0] = fold sum over (a2) c.4
  l.6: i32[a0] = load l[a0 < 6] at 0 step (1)
  g.7: f32[a0] = load v[a0 < 10 by l.6] at 0 step (1)
  s.8: f32[a0] = map add(s.5, g.7)
  t.9: f32[a0, a2] = map scan_sum(c.4) along a2
  store y[a0 < 6, a2 < 4] at 0 step (4, 1) = t.9
  store z[a0 < 6] at 0 step (1) = s.8
}}
"""


def kernels(text: str = TEXT) -> tuple[k.KernelSpec, ...]:
    return parse_kernels(text, {HASH: WEIGHTS})


def test_it_is_valid() -> None:
    verify_kernels(kernels())
    assert print_kernels(kernels()) == TEXT


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("a0=6", "a0=0", "axis a0 has no elements"),
        ("a2=4 whole", "a2=4 whole chunked", "axis a2 is sequential and resident"),
        ("a1=8 chunked", "a1=8 chunked turn", "axis a1 is sequential and resident or ordered too"),
        ("c.4", "c.3", "fc: c.3: two tiles have this name"),
        ("a0, a1] = load x[a0 <", "0*a0, a1] = load x[0*a0 <", "x.1: axis a0 has the coefficient 0"),
        ("a0, a1] = load x[a0 <", "a0+a0, a1] = load x[a0+a0 <", "a dimension names an axis twice"),
        ("c.3: f32[a0,", "c.3: f32[2*a0,", "c.3: a computed tile is indexed by more than single axes"),
        ("step (8, 1)", "step (8)", "x.1: 2 extents and 1 strides for 2 indices"),
        ("at 0 step (8, 1)", "at 1 step (8, 1)", "elements 1 to 48 of x, which has 48"),
        ("at 0 step (8, 1)", "at 0 step (-8, 1)", "elements -40 to 7 of x, which has 48"),
        ("step (8, 1)", "step (8, 1) as i16", "bytes of f32 taken for i16"),
        ("l.6: i32[a0] = load l[a0", "l.6: i32[a2] = load l[a2", "has not the index of the gathered dimension"),
        ("at 0 step (8, 1)", "at 0 step (8, 1) as i32", "f32 loaded from i32"),
        ("x.1: f32[a0, a1]", "x.1: f32[a1, a0]", "its index is not that of its access"),
        ("x.1 * w.2", "x.1 * w.2 + w.2 * x.1", "the pairs have different indices"),
        ("x.1: f32", "x.1: i32", "x.1: i32 loaded from f32"),
        ("contract over (a1) x.1", "contract over (a1) l.6", "tile `l.6` is not defined"),
        ("c.3: f32[a0, a2] = contract over (a1)", "c.3: f32[a0, a2] = contract over (a1, a1)", "or one twice"),
        ("c.3: f32[a0, a2] = contract over (a1)", "c.3: f32[a0] = contract over (a1)", "c.3: its axes are not its op"),
        ("c.3: f32", "c.3: f16", "f32 accumulated in f16"),
        ("map max", "map maximum", "c.4: maximum of 2 operands"),
        ("max(c.3, 0.0)", "max(c.3)", "max of 1 operands"),
        ("max(c.3, 0.0)", "max(1.0, 0.0)", "c.4: an operand has an axis that it has not, or none is a tile"),
        ("c.4: f32[a0, a2] = map max", "c.4: f32[a0] = map max", "an operand has an axis that it has not"),
        ("c.4: f32[a0, a2] = map max(c.3, 0.0)", "c.4: f16[a0, a2] = map move(c.3)", "f32 moved to f16"),
        ("map max(c.3, 0.0)", "map drain(c.3, 1.0)", "drain of 2 operands"),
        ("map max(c.3, 0.0)", "map max(c.3, 0.0) along a2", "max along a2"),
        ("scan_sum(c.4) along a2", "scan_sum(c.4) along a0", "scan_sum along a0"),
        ("scan_sum(c.4) along a2", "scan_sum(c.4)", "scan_sum along no axis"),
        ("fold sum", "fold mean", "no fold is called mean"),
        ("fold sum over (a2)", "fold sum over (a1)", "an axis that its source has not"),
        ("s.5: f32[a0]", "s.5: f32[a2]", "s.5: its axes are not its source's"),
        ("fold sum", "fold arg_max", "positions as f32"),
        ("store y[a0 < 6, a2 <", "store y[a0 < 6, 2*a2 <", "t.9: stored to dimensions that are not single axes"),
        ("store y[a0 < 6, a2 < 4] at 0 step (4, 1)", "store y[a0 < 6] at 0 step (4)", "stored without one of its axes"),
        ("buffer y: f32", "buffer y: f16", "f32 stored as f16"),
        ("store z[", "store v[", "stored to input v"),
        ("a1=8 chunked", "a1=8", "c.3: reduced axis a1 is neither resident nor sequential"),
        ("a0=6 ", "a0=6 chunked ", "sequential axis a0 is not reduced by one op"),
        ("f32[a0, a1] = load x[", "f32[a0, a1] = load y[", "x.1: elements 0 to 47 of y, which has 24"),
        ("load v[a0 < 10", "load z[a0 < 6", "g.7: z is read before it is stored"),
    ],
)
def test_each_invariant(wrong: str, right: str, message: str) -> None:
    assert wrong in TEXT
    with pytest.raises((VerifyError, UserError)) as caught:
        verify_kernels(kernels(TEXT.replace(wrong, right)))
    assert message in str(caught.value)


def test_what_text_cannot_say() -> None:
    """Broken kernels that the parser would not let through."""
    (kernel,) = kernels()
    load = kernel.ops[0]
    assert isinstance(load, k.LoadTile)
    extra = k.Axis("a9", 3)
    empty = replace(load.access.buffer, role="constant")
    cases = {
        "the layout names an axis twice": replace(kernel, layout=(*kernel.layout, kernel.layout[0])),
        "resident axis a9 is not of the layout": replace(kernel, resident=frozenset({extra})),
        "x.1: read before it is defined": replace(kernel, ops=kernel.ops[1:]),
        "x.1: defined twice": replace(kernel, ops=(load, *kernel.ops)),
        "axis a0 is not of the layout": replace(kernel, layout=kernel.layout[1:]),
        "constant x has no contents": replace(
            kernel, ops=(replace(load, access=replace(load.access, buffer=empty)), *kernel.ops[1:])
        ),
        "a gather along dimension 2 of 2": replace(
            kernel, ops=(kernel.ops[5], replace(load, access=replace(load.access, gather=(2, kernel.ops[5].out))))
        ),
    }
    for message, broken in cases.items():
        with pytest.raises(VerifyError) as caught:
            verify_kernels((broken,))
        assert message in str(caught.value)


# ---- schedules

CHIP = PRESETS[0]
RECORD = 'schedule "fc": tile a0=2/6 a1=8/8 a2=4/4 | spread a0:3 | order a0 | depth 2 | cycles 12.5\n'


def test_schedules_are_read_back() -> None:
    (schedule,) = parse_schedules(RECORD, held := kernels())
    verify_schedule(held[0], schedule, CHIP)
    assert print_schedules(held, (schedule,)) == RECORD
    empty = replace(held[0], layout=(), ops=(), resident=frozenset(), sequential=frozenset())
    bare = 'schedule "fc": tile - | spread - | order - | depth 1 | cycles 0.0\n'
    assert parse_schedules(bare, (empty,)) == (Schedule({}, (), (), 1, 0.0),)
    assert print_schedules((empty,), parse_schedules(bare, (empty,))) == bare


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        (" a2=4/4", "", "fc: tiles are not of the axes of the layout"),
        ("a0=2/6", "a0=7/6", "fc: a0: a tile of 7 of 6 elements"),
        ("a2=4/4", "a2=2/4", "a2: a tile of 2 where all 4 elements must be"),
        ("a0:3", "a0:4", "a0: spread in 4 parts"),
        ("a0:3", "a2:2", "a2: spread in 2 parts"),
        ("a0:3", "a0:3 a0:3", "an axis is spread twice"),
        ("order a0", "order -", "the order is not one of the parallel axes"),
        ("order a0", "order a0 a0", "the order is not one of the parallel axes"),
        ("depth 2", "depth 0", "depth 0"),
        ("order a0", "order a7", "line 1: kernel `fc` has no axis a7"),
        ("a0:3", "a0/3", "line 1: `a0/3` has not the form of axes with numbers"),
        ('"fc"', '"conv"', "line 1: this is not the schedule of kernel `fc`"),
        ("\n", "\n\n", "2 schedules for 1 kernels"),
    ],
)
def test_each_invariant_of_schedules(wrong: str, right: str, message: str) -> None:
    (kernel,) = kernels()
    with pytest.raises((VerifyError, UserError)) as caught:
        verify_schedule(kernel, parse_schedules(RECORD.replace(wrong, right), (kernel,))[0], CHIP)
    assert message in str(caught.value)


def test_rules_of_special_axes() -> None:
    (kernel,) = kernels()
    (schedule,) = parse_schedules(RECORD, (kernel,))
    a0, _, a2 = kernel.layout
    with pytest.raises(VerifyError, match="a0: spread in 3 parts"):
        verify_schedule(replace(kernel, ordered=frozenset({a0})), schedule, CHIP)
    chunked = replace(kernel, resident=frozenset(), sequential=kernel.sequential | {a2})
    with pytest.raises(VerifyError, match="a2: chunks of 3 of 4 folded elements"):
        verify_schedule(chunked, replace(schedule, tile={**schedule.tile, a2: 3}), CHIP)
    with pytest.raises(VerifyError, match="spread over 3 of 1 cores"):
        verify_schedule(kernel, schedule, PRESETS[1])
