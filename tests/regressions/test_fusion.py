"""Kernels that were formed wrongly."""

import numpy as np
import pytest

from compiled import ODD, run_everywhere
from tapeout.chip.load import load_chip
from tapeout.chip.spec import Chip
from tapeout.ir.build import Builder
from tapeout.ir.types import DType, TensorType

CHIPS = [ODD, load_chip("mlu370-x4"), load_chip("systolic-128")]


@pytest.mark.parametrize("chip", CHIPS, ids=lambda c: c.name)
def test_residual_around_a_square_product(chip: Chip) -> None:
    """x was read again with the contracted axis, which became one with the product's columns: a diagonal was loaded."""
    b = Builder()
    x = b.input("x", TensorType(DType.f32, (4, 6)))
    w = b.constant(np.arange(36, dtype=np.float32).reshape(6, 6) / 36)
    b.output("y", b.add(x, b.matmul(b.unary("tanh", x), w)))
    run_everywhere(b.finish(), chip)


def test_computed_operand_again_behind_its_square_product() -> None:
    """h + h W in one kernel made W's two axes one, h being computed in that kernel."""
    b = Builder()
    h = b.unary("tanh", b.input("x", TensorType(DType.f32, (4, 6))))
    w = b.constant(np.arange(36, dtype=np.float32).reshape(6, 6) / 36)
    b.output("y", b.add(h, b.matmul(h, w)))
    run_everywhere(b.finish(), ODD)


def test_matrix_plus_its_transpose() -> None:
    """Two views of one buffer with the same offset and axes but other strides were loaded once."""
    b = Builder()
    x = b.input("x", TensorType(DType.f32, (5, 5)))
    b.output("y", b.add(x, b.transpose(x, (1, 0))))
    run_everywhere(b.finish(), ODD)


def test_value_times_itself() -> None:
    """One tile as both operands of a command."""
    b = Builder()
    x = b.input("x", TensorType(DType.f32, (5, 7)))
    b.output("square", b.mul(x, x))
    b.output("gram", b.matmul(x, b.transpose(x, (1, 0))))
    run_everywhere(b.finish(), ODD)


def test_pool_of_a_padded_view_with_another_fill() -> None:
    """The copy of a padded view was not waited for, and readers formed before it read the copy too early."""
    b = Builder()
    x = b.input("x", TensorType(DType.f32, (6, 4)))
    p = b.pad(x, 0.5, [-3, 1], [2, 0])
    b.output("p", b.mul(p, p))
    b.output("y", b.pool("max", p, [3], [2], [(2, 1)]))
    run_everywhere(b.finish(), ODD)


def test_lists_that_name_a_row_twice() -> None:
    """Two cores stored the same row of a scatter in no order."""
    b = Builder()
    x = b.input("x", TensorType(DType.f32, (3, 2)))
    updates = b.input("u", TensorType(DType.f32, (6, 2)))
    where = b.constant(np.array([0, 1, 0, -1, 7, 1], np.int64))
    for fn in ("set", "add", "max", "min", "mul"):
        b.output(fn, b.scatter(fn, x, where, updates, 0))
    run_everywhere(b.finish(), ODD)


def test_result_without_an_axis_of_its_kernel() -> None:
    """A value that repeats along an axis that cores share out is stored by one of them only."""
    b = Builder()
    row = b.unary("neg", b.input("x", TensorType(DType.f32, (2,))))
    b.output("row", row)
    b.output("y", b.add(b.broadcast(row, (2, 4000), (0,)), b.input("z", TensorType(DType.f32, (2, 4000)))))
    run_everywhere(b.finish(), ODD)


def test_products_of_operands_that_repeat() -> None:
    """Axes along which an operand repeats were missing from both operands of a product."""
    b = Builder()
    x, w = b.input("x", TensorType(DType.f32, (2,))), b.input("w", TensorType(DType.f32, (2, 5)))
    b.output("rows", b.matmul(b.broadcast(x, (4, 2), (1,)), w))
    b.output(
        "images", b.conv(b.broadcast(x, (3, 2, 4), (1,)), b.constant(np.ones((2, 2, 1), np.float32)), [1], [(0, 0)])
    )
    run_everywhere(b.finish(), ODD)
