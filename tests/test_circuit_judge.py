"""The judge of 10^9 rows: rows as announced, the same for a seed, and faults that uniform rows never show are found."""

from __future__ import annotations

import sys
from functools import reduce
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import circuit_judge  # noqa: E402  the benchmarks are scripts, not a package

from rv32_codes import rv32_codes  # noqa: E402
from tapeout import _native  # noqa: E402
from tapeout.circuit.columns import rows_to_columns  # noqa: E402
from tapeout.circuit.netlist import TRUE, Builder, Netlist  # noqa: E402
from tapeout.circuit.words import parse_interface, unpack  # noqa: E402
from tapeout.cpu.reference import reference  # noqa: E402
from tapeout.cpu.rv32 import rv32_interface, rv32_oracle  # noqa: E402

IA = rv32_interface("rv32ia", ports=True)
CODES = rv32_codes("rv32ia")


@pytest.fixture(scope="module")
def right() -> Netlist:
    return reference("rv32ia")


def judge_of(netlist: Netlist, seed: int = 1) -> _native.Judge:
    return circuit_judge.make_judge(rv32_oracle("rv32ia", ports=True), netlist, CODES, seed)


def columns(judge: _native.Judge, kind: str) -> dict[str, np.ndarray]:
    rows = judge.rows(kind, 0)
    return dict(zip([w.name for w in IA.inputs], rows_to_columns(rows, IA.inputs), strict=True))


def all_of(builder: Builder, literals: list[int]) -> int:
    return reduce(builder.and_, literals, TRUE)


def equal(builder: Builder, a: list[int], b: list[int]) -> int:
    return all_of(builder, [builder.xor(x, y) ^ 1 for x, y in zip(a, b, strict=True)])


def constant(builder: Builder, word: list[int], value: int, mask: int) -> int:
    return all_of(builder, [bit ^ 1 ^ (value >> i & 1) for i, bit in enumerate(word) if mask >> i & 1])


def faulty(right: Netlist, operation: str, where: str) -> Netlist:
    """The right step with the lowest bit of pc.next wrong for an operation, in a rare case."""
    builder = Builder(IA)
    words = {w.name: builder.input(w.name) for w in IA.inputs}
    outputs = builder.place(right, words)
    code = CODES[operation][-1]
    here = constant(builder, words["instruction"], code.match, code.mask)
    rs1, rs2, held = words["rs1"], words["rs2"], words["reservation"]
    case = {
        "equal": lambda: equal(builder, rs1, rs2),
        "one bit apart": lambda: equal(builder, rs1, [*rs2[:17], rs2[17] ^ 1, *rs2[18:]]),
        "reserved": lambda: builder.and_(equal(builder, rs1, held), words["reserved"][0]),
        "top": lambda: constant(builder, rs1, 0xFFFFFFFC, 0xFFFFFFFC),
        "lowest": lambda: constant(builder, rs2, 0x80000000, 0xFFFFFFFF),
        "memory": lambda: equal(builder, words["load_data"], rs2),
        "carry": lambda: all_of(builder, [builder.xor(a, b) for a, b in zip(rs1, rs2, strict=True)]),
        "own register": lambda: equal(builder, words["instruction"][7:12], words["instruction"][15:20]),
    }[where]()
    outputs["pc.next"][0] = builder.xor(outputs["pc.next"][0], builder.and_(here, case))
    return builder.finish(outputs)


@pytest.mark.parametrize(
    ("operation", "where"),
    [
        ("beq", "equal"), ("sc", "reserved"), ("bltu", "one bit apart"), ("lw", "top"), ("amomin", "memory"),
        ("sub", "lowest"), ("add", "carry"), ("jalr", "own register"),
    ],
)  # fmt: skip
def test_rare_faults_are_found(right: Netlist, operation: str, where: str) -> None:
    judge = judge_of(faulty(right, operation, where))
    counts = circuit_judge.count(judge, 1_500_000, 1, None)
    found = circuit_judge.summary(counts, IA, list(CODES))
    assert counts["operations"].wrong > 3
    assert list(found["operations"]["wrong_by_output"]) == ["pc.next"]
    assert list(found["operations"]["wrong_by_operation"]) == [operation]
    code = CODES[operation][-1]
    assert int(found["operations"]["first_wrong_row"][0], 16) & code.mask == code.match  # the first word of a row


def test_the_reference_is_right_on_all_distributions(right: Netlist) -> None:
    counts = circuit_judge.count(judge_of(right), 1_000_000, 2, None)
    assert {kind: (c.wrong, c.first) for kind, c in counts.items()} == {kind: (0, []) for kind in circuit_judge.SHARES}
    assert sum(c.rows for c in counts.values()) >= 1_000_000
    asked = np.array(counts["operations"].rows_by_operation)
    assert len(asked) == len(CODES)
    assert asked.min() > 0.9 * asked.mean()


def test_rows_are_as_announced(right: Netlist) -> None:
    judge = judge_of(right)
    words = columns(judge, "operations")
    instruction = words["instruction"]
    legal = [(instruction & np.uint64(c[-1].mask)) == np.uint64(c[-1].match) for c in CODES.values()]
    assert np.any(legal, axis=0).all()
    store = list(CODES).index("sc")
    hit = legal[store] & (words["rs1"] == words["reservation"]) & (words["rs1"] % np.uint64(4) == 0)
    assert 5 < hit.sum() < legal[store].sum() / 2
    loads = legal[list(CODES).index("lw")]
    address = words["rs1"] + ((instruction << np.uint64(32)).astype(np.int64) >> 52).astype(np.uint64)
    assert 0.2 < (address[loads] % np.uint64(4) == 0).mean() < 0.8
    assert 0.02 < (words["rs1"] == words["rs2"]).mean() < 0.5
    damaged = columns(judge, "damaged")["instruction"]
    known = [(damaged & np.uint64(c[-1].mask)) == np.uint64(c[-1].match) for c in CODES.values()]
    assert 0.1 < np.any(known, axis=0).mean() < 0.9
    uniform = unpack(judge.rows("uniform", 0), IA.input_bits).mean(axis=0)
    assert np.abs(uniform - 0.5).max() < 0.01
    walking = unpack(judge.rows("walking", 0)[: IA.input_bits + 1], IA.input_bits)
    assert (walking[:-1] != walking[-1]).sum(axis=1).tolist() == [1] * IA.input_bits
    assert (walking[:-1] != walking[-1]).sum(axis=0).tolist() == [1] * IA.input_bits


def test_counts_follow_from_the_seed_and_go_on_after_a_kill(
    right: Netlist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netlist = faulty(right, "beq", "equal")
    whole = circuit_judge.count(judge_of(netlist), 700_000, 2, None)
    state = tmp_path / "state.json"

    monkeypatch.setattr(circuit_judge, "PIECE", 2)

    class Stops:
        """Ends after two pieces, as a kill does."""

        def __init__(self) -> None:
            self.left = 2

        def run(self, *arguments: object) -> object:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return judge_of(netlist).run(*arguments)

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            circuit_judge.count(Stops(), 700_000, 1, state)
    resumed = circuit_judge.count(judge_of(netlist), 700_000, 1, state)
    assert {k: vars(c) for k, c in resumed.items()} == {k: vars(c) for k, c in whole.items()}
    other = judge_of(netlist, seed=2).rows("operations", 0)
    assert not np.array_equal(other, judge_of(netlist).rows("operations", 0))


def test_rows_of_states_only(right: Netlist) -> None:
    """Equal registers have equal values, register 0 holds 0 and keeps nothing: a netlist may be wrong elsewhere."""
    builder = Builder(IA)
    words = {w.name: builder.input(w.name) for w in IA.inputs}
    outputs = builder.place(right, words)
    code = words["instruction"]
    zero = constant(builder, code[15:20], 0, 31)
    impossible = builder.and_(zero, words["rs1"][3])
    unequal = builder.and_(equal(builder, code[15:20], code[20:25]), equal(builder, words["rs1"], words["rs2"]) ^ 1)
    outputs["address"][5] = builder.xor(outputs["address"][5], builder.or_(impossible, unequal))
    outputs["rd"][0] = builder.xor(outputs["rd"][0], constant(builder, code[7:12], 0, 31))
    outputs["rd_write"] = [builder.and_(outputs["rd_write"][0], constant(builder, code[7:12], 0, 31) ^ 1)]
    netlist = builder.finish(outputs)
    oracle = rv32_oracle("rv32ia", ports=True)
    for states in (False, True):
        judge = circuit_judge.make_judge(oracle, netlist, CODES, 1, states=states)
        for kind in circuit_judge.SHARES:
            assert (judge.run(kind, 0, 2, 1)[1] == 0) == states
    judge = circuit_judge.make_judge(oracle, faulty(right, "beq", "equal"), CODES, 1, states=True)
    assert judge.run("operations", 0, 8, 1)[1] > 3


@pytest.mark.native
def test_any_words_and_bad_plans() -> None:
    """Words wider than 64 bits, no instruction; widths that do not go together."""
    interface = parse_interface("a:70 b:1 c:70 -> y:70 z")
    builder = Builder(interface)
    a, b, c = (builder.input(w.name) for w in interface.inputs)
    netlist = builder.finish({"y": [builder.xor(x, y) for x, y in zip(a, c, strict=True)], "z": b})
    oracle = _native.CallbackOracle(141, 71, xor_rows)
    judge = circuit_judge.make_judge(oracle, netlist, None, 1)
    for kind in circuit_judge.SHARES:
        assert judge.run(kind, 3, 2, 0)[:2] == (2 * circuit_judge.CHUNK, 0)
        assert not (judge.rows(kind, 0)[:, -1] >> np.uint64(141 - 128)).any()
    with pytest.raises(ValueError, match="different widths"):
        circuit_judge.make_judge(rv32_oracle("rv32ia", ports=True), netlist, None, 1)
    with pytest.raises(ValueError, match="no distribution"):
        judge.run("odd", 0, 1, 1)


def xor_rows(rows: np.ndarray) -> np.ndarray:
    """y = a ^ c over 70 bits, z = b: c begins at bit 71, bit 7 of the second element."""
    high = rows[:, 1] & np.uint64(63)
    c = rows[:, 1] >> np.uint64(7) | rows[:, 2] << np.uint64(57), rows[:, 2] >> np.uint64(7)
    b = rows[:, 1] >> np.uint64(6) & np.uint64(1)
    return np.stack([rows[:, 0] ^ c[0], high ^ c[1] | b << np.uint64(6)], axis=1)


def test_constants_as_runs_of_bits() -> None:
    assert circuit_judge.constant_fields((20, 21, 22, 8, 9, 31)) == [(20, 3, 0), (8, 2, 3), (31, 1, 5)]
