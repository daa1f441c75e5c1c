"""A convolution of many large channels was refused: of the tiles that were tried only the larger were left, as there
were many ways to deal out cores, and it cannot be taken apart."""

import numpy as np

from tapeout.chip.load import load_chip
from tapeout.compiler.pipeline import plan_kernels
from tapeout.ir import graph as g
from tapeout.ir.build import Builder
from tapeout.ir.types import DType, TensorType


def test_the_smallest_tiles_are_tried_before_a_model_is_refused() -> None:
    b = Builder()
    x = b.input("x", TensorType(DType.f32, (1, 256, 1080, 1920)))
    w = b.constant(np.ones((128, 256, 3, 3), np.float32))
    (y,) = b.emit(g.Conv(x, w, (1, 1), ((1, 1), (1, 1)), (1, 1), (1, 1), 1, DType.f32))
    b.output("y", y)
    plan_kernels(b.finish(), load_chip("a100"))
