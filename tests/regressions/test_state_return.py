"""A value that is both read and returned as a state kept the state's place: its readers saw the old contents."""

import numpy as np

from tapeout.chip.load import load_chip
from tapeout.compiler.pipeline import compile_graph
from tapeout.ir.build import Builder
from tapeout.ir.interp import interpret
from tapeout.ir.types import DType, TensorType
from tapeout.runtime.executable import Executable


def test_readers_of_a_returned_value_see_the_new_contents() -> None:
    b = Builder()
    x = b.input("x", TensorType(DType.f32, (4, 8)))
    b.state("kept", np.zeros((8, 4), np.float32))
    y = b.transpose(b.matmul(x, b.constant(np.eye(8, dtype=np.float32))), (1, 0))
    b.set_state("kept", y)
    b.output("out", b.matmul(y, b.transpose(y, (1, 0))))
    graph = b.finish()
    given = {"x": np.arange(32, dtype=np.float32).reshape(4, 8)}
    chip = load_chip("mlu370-x4")
    executable = Executable(compile_graph(graph, chip), chip)
    wanted = interpret(graph, given)
    np.testing.assert_array_equal(executable.run(given).outputs["out"], wanted.outputs["out"])
    np.testing.assert_array_equal(executable.states["kept"], wanted.states["kept"])
