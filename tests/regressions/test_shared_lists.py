"""An index list that the cores of a cluster load together was read before the other cores' parts had come, and written
anew while another core still read it, where the gather stands in a loop of its own."""

import numpy as np

from compiled import PRESETS
from strategies import inputs_for
from tapeout.compiler.pipeline import compile_graph
from tapeout.ir import graph as g
from tapeout.ir.build import Builder
from tapeout.ir.types import DType, TensorType
from tapeout.report.numerics import judge, references
from tapeout.runtime.executable import Executable


def test_a_gathered_image_before_a_convolution() -> None:
    rng, b = np.random.default_rng(0), Builder()
    x = b.input("x", TensorType(DType.f32, (1, 8, 64, 128)))
    gathered = b.gather(x, b.constant(rng.integers(0, 128, 256)), 3)
    w = b.constant(rng.standard_normal((8, 8, 1, 1), np.float32))
    (y,) = b.emit(g.Conv(gathered, w, (1, 1), ((0, 0), (0, 0)), (1, 1), (1, 1), 1, DType.f32))
    b.output("y", y)
    graph = b.finish()
    inputs = inputs_for(graph, 0)
    outcome = Executable(compile_graph(graph, PRESETS[0]), PRESETS[0]).run(inputs)  # looks for races
    assert all(v.right for v in judge(outcome.outputs, references(graph, inputs)))
