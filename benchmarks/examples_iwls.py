"""Learning from fixed rows: tasks in the style of the IWLS 2020 contest, beside two learners of scikit-learn.

    python benchmarks/examples_iwls.py [CATEGORY ...]

6,400 rows to learn from and 6,400 others to judge with, one output, at most 5,000 AND nodes. The functions are the
project's own (seeded); their inputs are one word `x`, so that nothing tells where an operand begins. A scikit-learn
tree is counted as 3 ANDs for each split (a multiplexer), a forest without its vote.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from common import load, provenance, save
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from tapeout.circuit.evaluate import evaluate
from tapeout.circuit.example_models import MAX_NODES, learn_outputs
from tapeout.circuit.examples import make_examples
from tapeout.circuit.words import pack

Bits = NDArray[np.bool_]
Function = Callable[[Bits], Bits]
ROWS = 6400


@dataclass(frozen=True)
class Task:
    """A function of ``bits`` inputs; rows are uniform."""

    category: str
    name: str
    bits: int
    function: Function

    def rows(self) -> tuple[Bits, Bits]:
        """Inputs to learn from and to judge with; no row is in both."""
        random = np.random.default_rng([2020, *self.name.encode()])
        if self.bits <= 20:
            numbers = random.permutation(1 << self.bits)[: 2 * ROWS]
            rows = (numbers[:, None] >> np.arange(self.bits) & 1).astype(np.bool_)
        else:
            rows = random.integers(0, 2, (2 * ROWS, self.bits)).astype(np.bool_)
        return rows[:ROWS], rows[ROWS:]


def number(bits: Bits) -> NDArray[Any]:
    """Rows of bits as Python integers, the first bit the least significant."""
    return bits.astype(object) @ np.array([1 << i for i in range(bits.shape[1])], dtype=object)


def of_halves(operator: Callable[[Any, Any], Any], bit: int = 0) -> Function:
    """Bit ``bit`` of an operator on the two halves of a row."""

    def function(x: Bits) -> Bits:
        half = x.shape[1] // 2
        return np.array([bool(int(operator(a, b)) >> bit & 1)
                         for a, b in zip(number(x[:, :half]), number(x[:, half:]), strict=True)])  # fmt: skip

    return function


def of_number(operator: Callable[[int], int], bit: int = 0) -> Function:
    """Bit ``bit`` of an operator on a row."""
    return lambda x: np.array([bool(int(operator(a)) >> bit & 1) for a in number(x)])


def random_tree(random: np.random.Generator, bits: int, depth: int) -> Function:
    """A full decision tree on random inputs, its leaves alternating."""
    inputs = random.integers(0, bits, 1 << depth)
    flip = bool(random.integers(2))

    def function(x: Bits) -> Bits:
        place = np.ones(len(x), np.int64)
        for _ in range(depth):
            place = 2 * place + x[np.arange(len(x)), inputs[place % (1 << depth)]]
        return (place % 2 == 1) ^ flip

    return function


def random_forest(seed: int, bits: int, trees: int, depth: int) -> Function:
    """The majority of random trees."""
    random = np.random.default_rng([1, seed])
    members = [random_tree(random, bits, depth) for _ in range(trees)]
    return lambda x: np.sum([tree(x) for tree in members], axis=0) * 2 > trees


def random_logic(seed: int, bits: int, gates: int) -> Function:
    """A random network of ANDs, ORs and XORs (one in eight): the balanced signal that most inputs have a say in."""
    random = np.random.default_rng([2, seed])
    plan = [
        (int(random.integers(8)), random.integers(0, bits + at, 2), random.integers(0, 2, 2)) for at in range(gates)
    ]

    def run(x: Bits) -> list[Bits]:
        signals = list(x.T)
        for kind, (a, b), (not_a, not_b) in plan:
            left, right = signals[a] ^ bool(not_a), signals[b] ^ bool(not_b)
            signals.append(left ^ right if kind == 0 else left & right if kind < 5 else left | right)
        return signals

    rows = random.integers(0, 2, (1000, bits)).astype(np.bool_)
    probe = np.array(run(rows))
    changed = np.zeros((bits, len(probe)))
    for bit in range(bits):
        flipped = rows.copy()
        flipped[:, bit] ^= True
        changed[bit] = (np.array(run(flipped)) != probe).mean(axis=1)
    balanced = np.abs(probe.mean(axis=1) - 0.5) < 0.25
    chosen = int(np.argmax((changed > 0.02).sum(axis=0) * balanced))
    return lambda x: run(x)[chosen]


def tasks() -> Iterator[Task]:
    """All of them."""
    for k in (8, 16, 32, 64, 128):
        yield Task("adder", f"carry of {k} + {k} bits", 2 * k, of_halves(lambda a, b: a + b, k))
        yield Task("adder", f"top sum bit of {k} + {k} bits", 2 * k, of_halves(lambda a, b: a + b, k - 1))
    for k in (10, 20, 40, 60, 100):
        yield Task("comparator", f"{k} < {k} bits", 2 * k, of_halves(lambda a, b: a < b))
    for bits, used in ((16, 16), (40, 10), (64, 30), (200, 61)):
        chosen = np.random.default_rng([3, bits]).permutation(bits)[:used]
        yield Task("parity", f"{used} of {bits}", bits, lambda x, c=chosen: x[:, c].sum(axis=1) % 2 == 1)
    for bits in (13, 25, 41, 63, 101):
        spare = bits // 4
        yield Task(
            "majority", f"{bits} of {bits + spare}", bits + spare, lambda x, n=bits: x[:, :n].sum(axis=1) * 2 > n
        )
    for seed in range(5):
        table = np.random.default_rng([4, seed]).integers(0, 2, 17).astype(np.bool_)
        yield Task("symmetric", f"table {seed} of 16", 16, lambda x, t=table: t[x.sum(axis=1)])
    for k in (8, 10, 12):
        yield Task("multiplier", f"top bit of {k} x {k} bits", 2 * k, of_halves(lambda a, b: a * b, 2 * k - 1))
        yield Task("multiplier", f"middle bit of {k} x {k} bits", 2 * k, of_halves(lambda a, b: a * b, k - 1))
    yield from small_arithmetic()
    yield from shuffled()
    for seed, (bits, trees, depth) in enumerate(((20, 5, 5), (40, 9, 5), (60, 15, 4), (40, 25, 6), (100, 15, 5))):
        name = f"{trees} trees of depth {depth} on {bits}"
        yield Task("random forest", name, bits, random_forest(seed, bits, trees, depth))
    for seed, (bits, gates) in enumerate(((16, 100), (24, 150), (32, 200), (48, 300), (80, 400))):
        yield Task("random logic", f"{gates} gates on {bits}", bits, random_logic(seed, bits, gates))


def small_arithmetic() -> Iterator[Task]:
    """Functions of which no operator is built into the learner."""
    name = "small arithmetic"
    yield Task(name, "top bit of 8 / 8 bits", 16, of_halves(lambda a, b: a // b if b else 255, 1))
    yield Task(name, "low bit of 8 mod 8 bits", 16, of_halves(lambda a, b: a % b if b else a, 0))
    yield Task(name, "low bit of the root of 16 bits", 16, of_number(lambda a: int(a**0.5), 0))
    yield Task(name, "middle bit of the root of 16 bits", 16, of_number(lambda a: int(a**0.5), 4))
    yield Task(name, "16 bits mod 7 is below 3", 16, of_number(lambda a: a % 7 < 3))
    yield Task(name, "distance of 10 and 10 bits above 300", 20, of_halves(lambda a, b: abs(a - b) > 300))
    yield Task(name, "more ones in 12 bits than in 12", 24,
               of_halves(lambda a, b: a.bit_count() > b.bit_count()))  # fmt: skip
    yield Task(name, "bit 7 of a + b + c, 8 bits each", 24,
               lambda x: (number(x[:, :8]) + number(x[:, 8:16]) + number(x[:, 16:])) >> 7 & 1 == 1)  # fmt: skip
    yield Task(name, "bit 7 of a * b + c, 6 bits each", 18,
               lambda x: (number(x[:, :6]) * number(x[:, 6:12]) + number(x[:, 12:])) >> 7 & 1 == 1)  # fmt: skip


def shuffled() -> Iterator[Task]:
    """Word operators whose bits stand in random order: no reading of the inputs fits them."""
    for name, k, function in (
        ("carry of 12 + 12 bits", 12, of_halves(lambda a, b: a + b, 12)),
        ("top sum bit of 12 + 12 bits", 12, of_halves(lambda a, b: a + b, 11)),
        ("carry of 32 + 32 bits", 32, of_halves(lambda a, b: a + b, 32)),
        ("20 < 20 bits", 20, of_halves(lambda a, b: a < b)),
        ("top bit of 8 x 8 bits", 8, of_halves(lambda a, b: a * b, 15)),
    ):
        order = np.random.default_rng([5, k]).permutation(2 * k)
        yield Task("shuffled operators", name, 2 * k, lambda x, f=function, o=order: f(x[:, o]))


def measure(task: Task) -> dict[str, Any]:
    """Accuracy on the rows to judge with, and size, of ours and the two others."""
    train, test = task.rows()
    wanted, judged = (np.asarray(task.function(rows), np.bool_) for rows in (train, test))
    examples = make_examples(f"x:{task.bits} -> y", pack(train), pack(wanted.reshape(-1, 1)))
    begin = time.perf_counter()
    netlist, (model,) = learn_outputs(examples)
    seconds = time.perf_counter() - begin
    assert netlist.nodes <= MAX_NODES
    answers = evaluate(netlist, pack(test))[:, 0] == 1
    result: dict[str, Any] = {
        "category": task.category, "task": task.name, "inputs": task.bits, "ones": round(float(judged.mean()), 4),
        "tapeout": {"accuracy": round(float((answers == judged).mean()), 5), "ands": netlist.nodes,
                    "model": model.kind, "seconds": round(seconds, 2)},
    }  # fmt: skip
    for name, learner in (("decision tree", DecisionTreeClassifier(random_state=0)),
                          ("random forest", RandomForestClassifier(random_state=0))):  # fmt: skip
        learner.fit(train, wanted)
        trees = getattr(learner, "estimators_", [learner])
        splits = sum(int((tree.tree_.children_left >= 0).sum()) for tree in trees)
        result[name] = {"accuracy": round(float((learner.predict(test) == judged).mean()), 5), "ands": 3 * splits}
    return result


LEARNERS = ("tapeout", "decision tree", "random forest")


def summary(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over each category."""
    lines: list[dict[str, Any]] = []
    for category in dict.fromkeys(result["category"] for result in results):
        own = [result for result in results if result["category"] == category]
        line: dict[str, Any] = {"category": category, "tasks": len(own)}
        for name in LEARNERS:
            line[name] = {"accuracy": round(float(np.mean([r[name]["accuracy"] for r in own])), 4),
                          "ands": round(float(np.mean([r[name]["ands"] for r in own])))}  # fmt: skip
        lines.append(line)
    return lines


def main() -> None:
    """Measures the categories that are named, all without names, and stores what it found."""
    wanted = sys.argv[1:]
    known = list(dict.fromkeys(task.category for task in tasks()))
    if set(wanted) - set(known):
        raise SystemExit(f"categories: {', '.join(known)}")
    results: list[dict[str, Any]] = []
    for task in tasks():
        if wanted and task.category not in wanted:
            continue
        result = measure(task)
        results.append(result)
        figures = "  ".join(f"{result[name]['accuracy']:.4f} {result[name]['ands']:>6}" for name in LEARNERS)
        print(f"{task.category:<17}{task.name:<42}{figures}  {result['tapeout']['seconds']:>6} s  "
              f"{result['tapeout']['model']}", flush=True)  # fmt: skip
    for line in summary(results):
        figures = "  ".join(f"{line[name]['accuracy']:.4f} {line[name]['ands']:>6}" for name in LEARNERS)
        print(f"{line['category']:<17}{line['tasks']:>3} tasks  {figures}")
    if wanted:  # the other categories stay as they were measured
        others = [r for r in load("examples_iwls")["tasks"] if r["category"] not in wanted]
        results = sorted(others + results, key=lambda r: known.index(r["category"]))
    record = provenance("python benchmarks/examples_iwls.py", "tapeout", "numpy", "scikit-learn")
    save("examples_iwls", {**record, "rows": ROWS, "max_ands": MAX_NODES,
                           "categories": summary(results), "tasks": results})  # fmt: skip


if __name__ == "__main__":
    main()
