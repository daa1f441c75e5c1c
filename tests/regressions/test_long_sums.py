"""The fast executor summed up to 256 products one by one, and a lone f32 score came out more than twice as wrong as op
by op; the order that the contract names is a tree within groups."""

import numpy as np
import pytest

from compiled import PRESETS
from tapeout.compiler.pipeline import compile_graph
from tapeout.ir.build import Builder
from tapeout.ir.types import DType, TensorType
from tapeout.runtime.executable import Executable


@pytest.mark.parametrize("rows", [1, 64], ids="rows={}".format)
def test_the_fast_order_is_hardly_worse_than_the_exact_one(rows: int) -> None:
    rng, b = np.random.default_rng(0), Builder()
    x, w = (rng.standard_normal(shape, np.float32) for shape in ((rows, 256), (256, 512)))
    b.output("y", b.matmul(b.input("x", TensorType(DType.f32, x.shape)), b.constant(w)))
    executable = Executable(compile_graph(b.finish(), PRESETS[0]), PRESETS[0])
    wide = x.astype(np.float64) @ w.astype(np.float64)
    fast, exact = (np.std(executable.run({"x": x}, exact=e).outputs["y"] - wide) for e in (False, True))
    assert fast <= 1.5 * exact
