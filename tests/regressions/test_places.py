"""Values that lay somewhere else than their readers thought."""

from dataclasses import replace

import numpy as np

from compiled import ODD, run_everywhere
from tapeout.compiler.pipeline import compile_graph
from tapeout.ir.build import Builder
from tapeout.ir.types import DType, TensorType
from tapeout.runtime.executable import Executable

F32 = DType.f32


def test_output_that_is_a_padded_view() -> None:
    """The output had the shape of what was inside the padding."""
    b = Builder()
    x = b.input("x", TensorType(F32, (2, 3, 5)))
    b.output("y", b.pad(x, 0.0, [0, 2, 0], [0, 2, 0]))
    b.output("same", x)
    b.output("again", b.pad(x, 0.0, [0, 2, 0], [0, 2, 0]))
    run_everywhere(b.finish(), ODD)


def test_padding_behind_a_dimension_that_repeats() -> None:
    """A dimension of stride 0 was dropped from the load together with its padding."""
    b = Builder()
    x = b.input("x", TensorType(F32, (4,)))
    wide = b.pad(b.broadcast(x, (5, 4), (1,)), 0.5, [0, 0], [1, 0])
    b.output("y", b.unary("neg", wide))
    run_everywhere(b.finish(), ODD)


def test_cropping_a_padded_view() -> None:
    """A negative pad of a padded view cut the contents where it should cut the padding."""
    b = Builder()
    x = b.input("x", TensorType(F32, (4,)))
    p = b.pad(x, 0.5, [3], [3])
    b.output("front", b.unary("neg", b.pad(p, 0.5, [-2], [0])))
    b.output("back", b.unary("neg", b.pad(p, 0.5, [1], [-2])))
    b.output("both", b.unary("neg", b.pad(p, 0.5, [-5], [-5])))
    run_everywhere(b.finish(), ODD)


def test_rows_gathered_from_padding_and_by_a_padded_list() -> None:
    """What a gather reads outside hid the fill of a padded view."""
    b = Builder()
    x = b.input("x", TensorType(F32, (3, 2)))
    where = b.input("i", TensorType(DType.i64, (3,)))
    p = b.pad(x, 0.5, [1, 0], [1, 0])
    b.output("rows", b.gather(p, b.constant(np.array([0, 4, 2, 9])), 0))
    b.output("list", b.gather(x, b.pad(where, 1, [1], [1]), 0))
    run_everywhere(b.finish(), ODD, {"x": np.ones((3, 2), np.float32), "i": np.array([2, 0, 1])})


def test_convolution_of_a_view_padded_with_ones() -> None:
    """Without pads of its own a convolution read zeros where the view's fill was."""
    b = Builder()
    x = b.input("x", TensorType(F32, (1, 2, 4)))
    w = b.constant(np.ones((3, 2, 3), np.float32))
    b.output("y", b.conv(b.pad(x, 1.0, [0, 0, 1], [0, 0, 1]), w, [1], [(0, 0)]))
    run_everywhere(b.finish(), ODD)


def test_old_state_as_an_output() -> None:
    """An output that is what a state held before the run was read after the state had been written."""
    b = Builder()
    x = b.input("x", TensorType(F32, (3,)))
    held = b.state("held", np.arange(3, dtype=np.float32))
    b.output("before", held)
    b.output("reversed", b.slice(held, [2], [3], [-1]))
    b.set_state("held", b.add(held, x))
    run_everywhere(b.finish(), ODD)


def test_states_that_swap() -> None:
    """Each of two states was overwritten before the other had been read."""
    b = Builder()
    one, two = b.state("one", np.zeros(3, np.float32)), b.state("two", np.ones(3, np.float32))
    b.set_state("one", two)
    b.set_state("two", one)
    b.output("sum", b.add(one, two))
    executable = Executable(compile_graph(b.finish(), ODD), ODD)
    executable.run({})
    np.testing.assert_array_equal(executable.states["one"], np.ones(3))
    np.testing.assert_array_equal(executable.states["two"], np.zeros(3))


def test_long_reductions_on_small_memories() -> None:
    """A reduction was cut into equal chunks only: of a prime number of elements there are none."""
    memory = replace(ODD.memories[0], bytes=2048)
    b = Builder()
    x = b.input("x", TensorType(F32, (3, 997)))
    y = b.input("y", TensorType(F32, (997, 2)))
    b.output("sum", b.reduce("sum", b.transpose(x, (1, 0)), (0,)))
    b.output("max", b.reduce("max", y, (0,)))
    b.output("prod", b.reduce("prod", b.pad(y, 1.0, [1, 0], [0, 0]), (0,)))
    b.output("product", b.matmul(x, b.pad(b.slice(y, [0, 0], [995, 2]), 0.5, [1, 0], [1, 0])))
    run_everywhere(b.finish(), replace(ODD, memories=(memory,)))


def test_scatter_into_a_concatenation_whose_parts_are_read_later() -> None:
    """Operands of a concatenation lie in its result, but a scatter into that looked for readers of the result only."""
    b = Builder()
    x, y = b.input("x", TensorType(F32, (3, 5))), b.input("y", TensorType(F32, (2, 5)))
    first, second = b.unary("exp", x), b.unary("exp", y)
    rows = b.constant(np.array([1, 4]))
    b.output("new", b.unary("neg", b.scatter("set", b.concat([first, second], 0), rows, b.full(7.0, y.type), 0)))
    b.output("sum", b.reduce("sum", first, (0,)))
    run_everywhere(b.finish(), ODD)


def test_scatter_into_a_concatenation_of_which_a_part_is_an_output() -> None:
    """The same where what is left in the end is a view of an operand."""
    b = Builder()
    x, y = b.input("x", TensorType(F32, (3, 5))), b.input("y", TensorType(F32, (2, 5)))
    first, second = b.unary("exp", x), b.unary("exp", y)
    rows = b.constant(np.array([1, 4]))
    b.output("new", b.unary("neg", b.scatter("set", b.concat([first, second], 0), rows, b.full(7.0, y.type), 0)))
    b.output("old", b.transpose(first, (1, 0)))
    run_everywhere(b.finish(), ODD)


def test_scatter_into_halves_that_are_read_wider_later() -> None:
    """Who reads a widened value reads the narrow one where it lies: a scatter overwrote it before."""
    b = Builder()
    half = b.unary("abs", b.input("x", TensorType(DType.f16, (3, 5))))
    wide = b.convert(half, F32)
    row = b.full(7.0, TensorType(DType.f16, (1, 5)))
    b.output("new", b.unary("neg", b.scatter("set", half, b.constant(np.array([1])), row, 0)))
    b.output("more", b.binary_scalar("add", wide, 1.0))
    b.output("sum", b.reduce("sum", wide, (0,)))
    run_everywhere(b.finish(), ODD)
