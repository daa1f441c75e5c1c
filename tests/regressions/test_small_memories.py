"""What was refused although the local memories suffice."""

from dataclasses import replace

import numpy as np
import pytest

from compiled import ODD, run_everywhere
from tapeout.chip.load import load_chip
from tapeout.chip.spec import Chip, Geometry
from tapeout.compiler.pipeline import compile_graph
from tapeout.errors import DoesNotFit
from tapeout.ir.build import Builder
from tapeout.ir.graph import Graph
from tapeout.ir.types import DType, TensorType
from tapeout.runtime.executable import Executable

F32 = DType.f32


def small(count: int) -> Chip:
    return replace(ODD, memories=(replace(ODD.memories[0], bytes=count),))


def search(shape: tuple[int, ...], axis: int, dtype: DType, fn: str) -> Graph:
    b = Builder()
    x = b.input("x", TensorType(dtype, shape))
    b.output("of input", b.arg_reduce(fn, x, axis))
    b.output("of computed", b.arg_reduce(fn, b.unary("neg", x), axis))
    return b.finish()


def test_long_vectors() -> None:
    """Tiles of long axes did not go below some thousand elements."""
    b = Builder()
    x, y = (b.input(name, TensorType(F32, (1 << 18,))) for name in "xy")
    b.output("z", b.add(x, b.unary("exp", y)))
    run_everywhere(b.finish(), small(1024))


@pytest.mark.parametrize("granule", [48, 512])
def test_packed_constants_fill_granules(granule: int) -> None:
    """Search counted the bytes of small constants, but each tile of them is a whole granule."""
    chip = small(2048)
    geometry = {"bf16": Geometry(4, 4, 8)}
    chip = replace(chip, dram=replace(chip.dram, granule_bytes=granule), matrix=replace(chip.matrix, geometry=geometry))
    b = Builder()
    x = b.input("x", TensorType(F32, (23, 28, 5)))
    w = b.constant(np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 4))
    b.output("y", b.relu(b.add(b.matmul(x, w), b.scalar(0.9, F32))))
    run_everywhere(b.finish(), chip)


@pytest.mark.parametrize("fn", ["max", "min"])
@pytest.mark.parametrize(
    ("shape", "axis", "dtype"),
    [((3, 9001), 1, F32), ((900, 3), 0, F32), ((2, 1100, 3), 1, DType.i32), ((2, 2500), 1, DType.bf16)],
)
def test_largest_of_a_row_that_no_local_memory_holds(shape: tuple[int, ...], axis: int, dtype: DType, fn: str) -> None:
    """The next word of a language model was refused where its vocabulary is larger than a core's memory."""
    run_everywhere(search(shape, axis, dtype, fn), small(2048))


def test_first_of_equal_ones_and_nan_in_long_rows() -> None:
    x = np.random.default_rng(0).standard_normal((4, 3000)).astype(np.float32)
    x[0, [5, 99]] = 7
    x[1, [70, 2000]] = np.nan
    x[2] = -np.inf
    b = Builder()
    b.output("y", b.arg_reduce("max", b.input("x", TensorType(F32, x.shape)), 1))
    chip = small(2048)
    found = Executable(compile_graph(b.finish(), chip), chip).run({"x": x}).outputs["y"]
    assert x.argmax(1).tolist()[:3] == [5, 70, 0]
    np.testing.assert_array_equal(found, x.argmax(1))


def test_vocabulary_of_a_language_model() -> None:
    run_everywhere(search((1, 151936), 1, F32, "max"), load_chip("a100"))


def test_what_cannot_fit_is_told_in_a_sentence() -> None:
    b = Builder()
    b.output("y", b.cumulate("sum", b.input("x", TensorType(F32, (2, 5000))), 1))
    with pytest.raises(DoesNotFit, match=r"kernel `.*` .*needs .* more .*local memory"):
        compile_graph(b.finish(), small(2048))


def test_constants_smaller_than_a_granule() -> None:
    """A tile of a packed constant took as much room in local memory as in DRAM: a whole granule, here all there is."""
    chip = replace(small(2048), dram=replace(ODD.dram, granule_bytes=4096))
    b = Builder()
    x = b.input("x", TensorType(F32, (7, 5)))
    w = b.constant(np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 4))
    b.output("y", b.softmax(b.matmul(x, w), 1))
    run_everywhere(b.finish(), chip)
