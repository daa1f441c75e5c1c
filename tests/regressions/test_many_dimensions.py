"""Views of more dimensions than a descriptor names were refused."""

from collections.abc import Callable

import pytest

from compiled import ODD, run_everywhere
from tapeout.ir.build import Builder
from tapeout.ir.graph import Value
from tapeout.ir.types import DType, TensorType

SHAPE = (2, 3, 2, 3, 2, 3)
CASES: dict[str, Callable[[Builder, Value], Value]] = {
    "transposed": lambda b, x: b.unary("neg", b.transpose(x, (5, 3, 1, 4, 2, 0))),
    "padded": lambda b, x: b.unary("neg", b.pad(x, 0.5, [1] * 6, [0, 1] * 3)),
    "reversed": lambda b, x: b.unary("neg", b.slice(x, [1, 2] * 3, [2, 2] * 3, [-1, -2] * 3)),
    "reduced": lambda b, x: b.reduce("sum", b.transpose(x, (5, 3, 1, 4, 2, 0)), (1, 3, 5)),
    "gathered": lambda b, x: b.gather(b.transpose(x, (5, 3, 1, 4, 2, 0)), b.constant([2, 0, 9, 1]), 0),
}


@pytest.mark.parametrize("name", CASES)
def test_six_dimensions(name: str) -> None:
    b = Builder()
    b.output("y", CASES[name](b, b.input("x", TensorType(DType.f32, SHAPE))))
    run_everywhere(b.finish(), ODD)
