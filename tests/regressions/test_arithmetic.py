"""Numbers that came out wrong."""

from dataclasses import replace

import numpy as np
import pytest

from compiled import ODD, run_everywhere
from tapeout.chip.load import load_chip
from tapeout.chip.spec import Geometry
from tapeout.compiler.pipeline import compile_graph
from tapeout.errors import UnsupportedOp
from tapeout.ir.build import Builder
from tapeout.ir.interp import interpret
from tapeout.ir.kernel import Contract
from tapeout.ir.types import DType, TensorType
from tapeout.runtime.executable import Executable


def test_position_of_the_extreme_of_one_element() -> None:
    """The element itself was returned, truncated."""
    b = Builder()
    b.output("y", b.arg_reduce("max", b.input("x", TensorType(DType.f32, (3, 1, 5))), 1))
    run_everywhere(b.finish(), ODD)


def test_sums_of_narrow_floats() -> None:
    """Steps of a sum were rounded to bf16."""
    b = Builder()
    x = b.input("x", TensorType(DType.bf16, (64, 8)))
    b.output("columns", b.reduce("sum", x, (0,)))
    b.output("windows", b.pool("sum", x, [16, 1], [1, 1], [(0, 0), (0, 0)]))
    graph, given = b.finish(), {"x": np.random.default_rng(0).uniform(1, 2, (64, 8)).astype(DType.bf16.numpy)}
    outputs = run_everywhere(graph, ODD, given).run(given).outputs
    for name, wanted in interpret(graph, given).outputs.items():
        np.testing.assert_array_equal(outputs[name], wanted)


def test_products_of_long_integers() -> None:
    """Sums of i64 products were kept in i32."""
    b = Builder()
    x = b.input("x", TensorType(DType.i64, (3, 4)))
    b.output("y", b.matmul(x, b.transpose(x, (1, 0))))
    run_everywhere(b.finish(), ODD, {"x": np.full((3, 4), 1 << 20)})


def test_long_constants() -> None:
    """A constant of i64 went through a float."""
    b = Builder()
    x = b.input("x", TensorType(DType.i64, (3,)))
    b.output("y", b.add(x, b.constant(np.array((1 << 62) + 1))))
    run_everywhere(b.finish(), ODD)


def test_reductions_of_constants_that_repeat() -> None:
    """A reduction of one number that repeats had no tile to read."""
    b = Builder()
    x = b.reshape(b.broadcast(b.constant(np.array(0.5, np.float32)), (3, 4), ()), (12,))
    b.output("sum", b.reduce("sum", x, (0,)))
    b.output("arg", b.arg_reduce("min", x, 0))
    b.output("running", b.cumulate("sum", x, 0))
    b.output("sorted", b.sort(x, 0)[0])
    run_everywhere(b.finish(), ODD)


def test_batched_gather_between_dimensions() -> None:
    """A gather with batch dimensions and a dimension between them and the gathered one had no lowering."""
    b = Builder()
    x = b.input("x", TensorType(DType.f32, (2, 3, 4)))
    where = b.constant(np.array([[0, -1, 9], [3, -9, 2]], np.int32))
    b.output("y", b.gather(x, where, 2, 1))
    run_everywhere(b.finish(), ODD)


@pytest.mark.parametrize("dtype", [DType.f64, DType.u64])
def test_types_that_no_unit_computes_are_refused(dtype: DType) -> None:
    """f64 was silently computed in f32, u64 compared as signed."""
    b = Builder()
    x = b.input("x", TensorType(dtype, (3,)))
    b.output("y", b.binary("max", x, x))
    with pytest.raises(UnsupportedOp, match=f"of {dtype}"):
        compile_graph(b.finish(), ODD)


def test_nothing_at_all() -> None:
    """Values without elements, and what is made from them."""
    b = Builder()
    x = b.input("x", TensorType(DType.f32, (3, 0)))
    y = b.input("y", TensorType(DType.f32, (3, 2)))
    b.output("sum", b.reduce("sum", x, (1,)))
    b.output("product", b.matmul(x, b.constant(np.zeros((0, 4), np.float32))))
    b.output("joined", b.concat([x, y, x], 1))
    b.output("padded", b.pad(x, 1.5, [0, 1], [0, 2]))
    b.output("empty", b.unary("neg", x))
    run_everywhere(b.finish(), ODD)


def test_long_sums_in_short_chunks() -> None:
    """Where memory held few terms at a time, a sum on the vector unit added term by term to one total."""
    b = Builder()
    x, w = b.input("x", TensorType(DType.f32, (8, 4096))), b.input("w", TensorType(DType.f32, (4096, 48)))
    b.output("y", b.matmul(x, w))
    graph, chip = b.finish(), load_chip("1a")
    memory, weights = chip.memories
    chip = replace(chip, memories=(replace(memory, bytes=12 << 10), weights))
    rng = np.random.default_rng(0)
    given = {n: rng.uniform(1, 2, s).astype(np.float32) for n, s in (("x", (8, 4096)), ("w", (4096, 48)))}
    found = Executable(compile_graph(graph, chip), chip).run(given).outputs
    off = np.abs(found["y"] - interpret(graph, given, wide=True).outputs["y"]) / found["y"]
    assert off.max() < 1e-6


def test_long_sums_of_split_operands() -> None:
    """Products of the small parts were added to the total, each with a rounding of its own, chunk after chunk."""
    b = Builder()
    x, w = b.input("x", TensorType(DType.f32, (32, 2048))), b.input("w", TensorType(DType.f32, (2048, 64)))
    b.output("y", b.matmul(x, w))
    graph, chip = b.finish(), load_chip("systolic-128")
    chip = replace(
        chip,
        memories=(replace(chip.memories[0], bytes=48 << 10),),
        matrix=replace(chip.matrix, geometry={"bf16": Geometry(1, 32, 16)}, load_cycles=4),
        vector=replace(chip.vector, lanes={"f32": 4, "i32": 4}),
    )
    rng = np.random.default_rng(0)
    given = {"x": rng.normal(size=(32, 2048)).astype(np.float32), "w": rng.normal(size=(2048, 64)).astype(np.float32)}
    compiled = compile_graph(graph, chip)
    assert any(isinstance(op, Contract) and len(op.pairs) > 1 for n in compiled.kernels for op in n.ops)
    for exact in (False, True):
        found = Executable(compiled, chip).run(given, exact=exact).outputs
        off = np.abs(found["y"] - interpret(graph, given, wide=True).outputs["y"])
        assert off.max() < 1e-6 * np.abs(found["y"]).max()
    run_everywhere(graph, chip, given)
