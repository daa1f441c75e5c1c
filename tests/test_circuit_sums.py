"""Words that are sums of what single inputs add: products of every kind, learned and certified; what is none."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tapeout import _native
from tapeout.circuit.assemble import assemble
from tapeout.circuit.certificate import Product
from tapeout.circuit.evaluate import evaluate
from tapeout.circuit.exact import ExactLearner, Node, WordTree
from tapeout.circuit.functions import get
from tapeout.circuit.jobs import JobStore
from tapeout.circuit.minimise import minimise
from tapeout.circuit.netlist import Netlist
from tapeout.circuit.oracle import LibraryOracle, function_oracle, to_native, to_oracle
from tapeout.circuit.sums import certify_product
from tapeout.circuit.words import Interface, Word, parse_interface
from tapeout.cpu.classes import instruction_classes
from tapeout.cpu.multiplier import learned_traces
from tapeout.cpu.proof import certified
from tapeout.cpu.rv32 import rv32_interface, rv32_oracle

Column = NDArray[np.uint64]
SBOX = np.random.default_rng(5).permutation(256).astype(np.uint64)


def u(value: int) -> np.uint64:
    return np.uint64(value)


def signed(word: Column, width: int) -> NDArray[np.int64]:
    return (word ^ u(1 << (width - 1))).astype(np.int64) - (1 << (width - 1))


def without_carries(a: Column, b: Column, width: int) -> Column:
    total = np.zeros_like(a)
    for bit in range(width):
        total ^= np.where((b >> u(bit)) & u(1) != 0, a << u(bit), u(0))
    return total


def gf256(a: Column, b: Column) -> Column:
    total = without_carries(a, b, 8)
    for bit in range(14, 7, -1):
        total ^= np.where((total >> u(bit)) & u(1) != 0, u(0x11B << (bit - 8)), u(0))
    return total


def learner_of(interface: str, function: Callable[..., object], **options: object) -> ExactLearner:
    oracle = to_oracle(function_oracle(interface)(function))
    return ExactLearner(to_native(oracle), oracle.interface, **options)  # type: ignore[arg-type]


def right(learner: ExactLearner, netlist: Netlist, rows: NDArray[np.uint64]) -> bool:
    return bool((evaluate(netlist, rows) == learner.oracle.evaluate(rows)).all())


def random_rows(interface: Interface, count: int = 50_000) -> NDArray[np.uint64]:
    random = np.random.default_rng(11)
    bits = random.integers(0, 2, (count, 64 * -(-interface.input_bits // 64)), np.uint8)
    bits &= random.integers(0, 2, bits.shape, np.uint8) | (random.random((count, 1)) < 0.5)
    bits[:, interface.input_bits :] = 0
    return np.packbits(bits, axis=1, bitorder="little").view("<u8").astype(np.uint64)


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("multiply32", Product("product", "a", "b")),
        ("multiply_signed32", Product("product", "a", "b", signed_a=True, signed_b=True)),
        ("multiply_mixed32", Product("product", "a", "b", signed_a=True)),
    ],
)
def test_products_of_32_bits_are_learned_and_certified(name: str, product: Product, tmp_path: Path) -> None:
    pytest.importorskip("pysat", reason="an optional package: pip install tapeout[circuit]")
    oracle = LibraryOracle(get(name).library(tmp_path))
    learner = ExactLearner(to_native(oracle), oracle.interface)
    netlist = learner.run()
    (leaf,) = learner.trees[0].leaves()
    assert leaf.leaf is not None
    assert netlist.nodes <= 7900
    assert learner.queries <= 1_000_000
    facts = leaf.leaf.facts
    assert certify_product(netlist, facts, product) == []
    for other in (replace(product, signed_a=not product.signed_a), replace(product, signed_b=not product.signed_b)):
        assert certify_product(netlist, facts, other)
    wrong = netlist.fanins.copy()
    wrong[5000, 0] ^= 1
    assert certify_product(Netlist(netlist.interface, wrong, netlist.outputs), facts, product)


@pytest.mark.parametrize("name", ["multiply8", "multiply_signed8", "multiply_mixed8", "multiply_signed6", "multiply4"])
def test_narrow_products_are_right_on_all_inputs(name: str, tmp_path: Path) -> None:
    oracle = LibraryOracle(get(name).library(tmp_path))
    learner = ExactLearner(to_native(oracle), oracle.interface)
    netlist = learner.run()
    assert right(learner, netlist, np.arange(1 << oracle.interface.input_bits, dtype=np.uint64).reshape(-1, 1))


FUNCTIONS: list[tuple[str, Callable[..., object], int]] = [
    ("a:16 b:16 c:32 -> y:32", lambda a, b, c: (a * b + c) & u(0xFFFFFFFF), 2300),
    ("a:32 b:32 -> y:32", lambda a, b: (a * b) & u(0xFFFFFFFF), 4000),
    ("a:16 b:16 -> y:32", lambda a, b: (u(1000) - a * b) & u(0xFFFFFFFF), 2600),
    ("a:16 b:16 c:16 -> y:33", lambda a, b, c: (a + b) * c, 2400),
    ("a:16 b:16 c:16 d:16 -> y:33", lambda a, b, c, d: a * b + c * d, 4400),
    ("a:8 b:8 c:8 -> y:24", lambda a, b, c: a * b * c, 1500),
    ("a:16 b:16 -> y:31", lambda a, b: without_carries(a, b, 16), 1000),
    ("a:8 b:8 c:8 d:8 e:8 -> y:11", lambda *words: sum(words), 260),
    ("a:16 b:16 minus -> y:32", lambda a, b, m: np.where(m != 0, u(0) - a * b, a * b) & u(0xFFFFFFFF), 2500),
]


@pytest.mark.parametrize(("interface", "function", "most"), FUNCTIONS, ids=[text for text, _, _ in FUNCTIONS])
def test_sums_of_products(interface: str, function: Callable[..., object], most: int) -> None:
    learner = learner_of(interface, function)
    netlist = learner.run()
    assert netlist.nodes <= most
    assert right(learner, netlist, random_rows(netlist.interface))


@pytest.mark.parametrize(("function", "width", "most"), [(gf256, 8, 520), (lambda a, b: a * SBOX[b], 16, 1400)])
def test_a_factor_that_is_a_table_and_a_finite_field(function: Callable[..., object], width: int, most: int) -> None:
    learner = learner_of(f"a:8 b:8 -> y:{width}", function)
    netlist = learner.run()
    assert netlist.nodes <= most
    assert right(learner, netlist, np.arange(1 << 16, dtype=np.uint64).reshape(-1, 1))


def halves(a: Column, b: Column, kind: Column) -> Column:
    """Like MUL, MULH, MULHSU and MULHU, of 16 bits."""
    plain, mixed = signed(a, 16) * signed(b, 16), signed(a, 16) * b.astype(np.int64)
    high = [(word >> 16).astype(np.uint64) for word in (plain, mixed)]
    return np.select([kind == 0, kind == 1, kind == 2], [a * b, *high], (a * b) >> u(16)) & u(0xFFFF)


HALVES = "a:16 b:16 kind:2 -> y:16"


@pytest.fixture(scope="module")
def learned_halves(tmp_path_factory: pytest.TempPathFactory) -> tuple[ExactLearner, Netlist, Path]:
    file = tmp_path_factory.mktemp("halves") / "jobs"
    store = JobStore(file)
    learner = learner_of(HALVES, halves, threads=1, store=store)
    netlist = learner.run()
    store.close()
    return learner, netlist, file


def test_halves_of_products_in_one_word_share_their_gates(learned_halves: tuple[ExactLearner, Netlist, Path]) -> None:
    learner, netlist, _ = learned_halves
    assert netlist.nodes <= 2500  # one product of 16 bits has 1872
    assert right(learner, netlist, random_rows(netlist.interface))


def test_joined_jobs_are_resumed_and_do_not_depend_on_threads(
    learned_halves: tuple[ExactLearner, Netlist, Path],
) -> None:
    _, netlist, file = learned_halves
    store = JobStore(file)
    for options in ({"store": store}, {"threads": 2}):
        again = learner_of(HALVES, halves, **options).run()
        assert (again.fanins == netlist.fanins).all()
    assert store.reused > 0
    store.close()


def test_parts_of_a_product_in_other_outputs() -> None:
    def thirds(a: Column, b: Column) -> tuple[Column, ...]:
        return (a * b) >> u(32), (a * b) & u(0xFFFF), ((a * b) >> u(16)) & u(0xFFFF)

    learner = learner_of("a:24 b:24 -> high:16 low:16 middle:16", thirds)
    netlist = learner.run()
    assert right(learner, netlist, random_rows(netlist.interface))
    assert all(
        leaf.leaf is not None and leaf.leaf.facts["additive"] for tree in learner.trees for leaf in tree.leaves()
    )
    assert netlist.nodes <= 4500


def test_a_small_product_is_proved_equal_after_it_was_made_smaller(
    learned_halves: tuple[ExactLearner, Netlist, Path],
) -> None:
    _, netlist, _ = learned_halves
    assert minimise(netlist, "low", seconds=10).nodes < netlist.nodes  # minimise proves it


def region(function: Callable[..., object], interface: str, *, wait: bool = False) -> dict[str, Any]:
    learner = learner_of(interface, function)
    hints = np.zeros((0, 1), np.uint64)
    outputs = list(range(learner.interface.output_bits))
    half = learner.interface.input_bits // 2
    return _native.learn_region(learner.oracle, [(0, half), (half, half)], outputs, [], hints, 7, 4096, wait)


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a * b + (a == b).astype(np.uint64) * (a > u(77)),
        lambda a, b: np.minimum(a * b, u((1 << 24) - (1 << 18))),
    ],
)
def test_what_is_nearly_a_product_is_not_taken_for_one(function: Callable[..., object]) -> None:
    assert not region(function, "a:12 b:12 -> y:24")["additive"]


@pytest.mark.parametrize("function", [lambda a, b: np.where(a == u(2048), b, a * b), lambda a, b: (a * b) | (b & u(1))])
def test_exceptions_that_leave_a_word_additive_are_learned(function: Callable[..., object]) -> None:
    """The first is a function of ``a`` times ``b``; the second a product and what the lowest bits add."""
    facts = region(function, "a:12 b:12 -> y:24")
    assert facts["additive"]
    interface = parse_interface("a:12 b:12 -> y:24")
    netlist = Netlist(interface, facts["fanins"], np.array(facts["outputs"], np.uint32))
    b, a = np.meshgrid(np.arange(1 << 12, dtype=np.uint64), np.array([0, 1, 7, 2047, 2048, 2049, 4095], np.uint64))
    answers = np.asarray(function(a.ravel(), b.ravel()), np.uint64)
    assert (evaluate(netlist, (a | b << u(12)).reshape(-1, 1))[:, 0] == answers).all()


def test_a_high_half_waits_for_its_low_half_and_is_split_without() -> None:
    def high(a: Column, b: Column) -> Column:
        return (a * b) >> u(20)

    facts = region(high, "a:20 b:20 -> high:20", wait=True)
    assert facts["waiting"]
    assert facts["split"] < 0
    assert not facts["outputs"]
    assert region(high, "a:20 b:20 -> high:20")["split"] >= 0


def test_multiplications_of_the_processor_are_learned_and_certified() -> None:
    pytest.importorskip("pysat", reason="an optional package: pip install tapeout[circuit]")
    variant = "rv32ima-machine"
    interface = rv32_interface(variant, ports=True)
    oracle = rv32_oracle(variant, ports=True)
    names = [word.name for word in interface.inputs]
    enables = [sum(word.width for word in interface.inputs[: names.index(name)]) for name in ("msie", "mtie")]
    code = 0b0110011 | 1 << 25
    fixed = [(bit, code >> bit & 1) for bit in (*range(7), 14, *range(25, 32))] + [(bit, 0) for bit in enables]
    learner = ExactLearner(oracle, interface)
    first = sum(word.width for word in interface.outputs[:-2])
    root = Node(tuple(fixed), np.zeros((0, -(-interface.input_bits // 64)), np.uint64))
    tree = WordTree("rd", list(range(first, first + 32)), root)
    learner.trees.append(tree)
    learner._grow_all({id(tree): [root]})  # type: ignore[reportPrivateUsage]
    part = assemble(Interface(interface.inputs, (Word("rd", 32),)), [tree]).unrolled()
    assert part.nodes <= 9200
    outputs = np.zeros(interface.output_bits, np.uint32)
    outputs[first : first + 32] = part.outputs
    netlist = Netlist(interface, part.fanins, outputs)
    facts = [node.leaf.facts for node in tree.leaves() if node.leaf is not None]
    traces = learned_traces(netlist, variant, facts)
    assert set(traces) == {"MUL", "MULH", "MULHSU", "MULHU"}
    for instruction in instruction_classes(variant):
        if instruction.name in traces:
            assert certified(netlist, instruction, traces[instruction.name]) == []
