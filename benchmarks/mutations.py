"""Mutation check: one seeded bug at a time in a copy of the project, and the tests that have to find it.

    python benchmarks/mutations.py [NAME ...]        all of them, or those whose file contains one of the names

Exit code 1 when a bug goes unnoticed or a mutation no longer applies. Not part of the test run: native ones rebuild.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from common import provenance, save

ROOT = Path(__file__).parent.parent
RUN = """
import sys, pytest
sys.meta_path[:] = [f for f in sys.meta_path if "Inplace" not in type(f).__name__]  # the installed project
sys.path.insert(0, "src")
import tapeout
assert tapeout.__file__.startswith(sys.argv[1]), tapeout.__file__
sys.exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""


@dataclass(frozen=True)
class Mutation:
    """`old`, found once in `file`, becomes `new`; `tests` have to fail."""

    file: str
    old: str
    new: str
    tests: str


REGRESSIONS, RANDOM = "tests/regressions", "tests/test_compiler_random.py"
COMPILER, SIM = "src/tapeout/compiler", "native/sim"
MUTATIONS = (
    Mutation(
        f"{COMPILER}/views.py", "offset += cut * place.strides[d]", "offset += cut", "tests/test_compiler_views.py"
    ),
    Mutation(
        f"{COMPILER}/views.py",
        "strides = tuple(s * step for",
        "strides = tuple(s * abs(step) for",
        "tests/test_compiler_views.py",
    ),
    Mutation(
        f"{COMPILER}/canonicalize.py",
        'g.Binary("add", scaled, r.add(g.Binary("mul", inner.y, op.y))',
        'g.Binary("add", scaled, inner.y',
        "tests/test_compiler_canonicalize.py",
    ),
    Mutation(
        f"{COMPILER}/expand.py",
        "np.arange(count) * extent",
        "np.arange(count) * (extent + 1)",
        "tests/test_compiler_canonicalize.py",
    ),
    Mutation(
        f"{COMPILER}/groups.py",
        "known += [] if self._clash(group, [tuple(dims)",
        "known += [] if not self._clash(group, [tuple(dims)",
        f"{REGRESSIONS} {RANDOM}",
    ),
    Mutation(
        f"{COMPILER}/form.py",
        "self._ordered.add(self.axis(dims[op.axis]))",
        "pass",
        f"{REGRESSIONS} tests/test_compiler_search.py",
    ),
    Mutation(f"{COMPILER}/form.py", "return DType.f32 if dtype.is_float else dtype", "return dtype", REGRESSIONS),
    Mutation(
        f"{COMPILER}/moves.py",
        'if op.vector else ("a", "b")',
        'if op.vector else ("a", "a")',
        "tests/test_compiler_random.py",
    ),
    Mutation(f"{COMPILER}/roles.py", '"max": float("-inf"), "min"', '"max": 0.0, "min"', f"{REGRESSIONS} {RANDOM}"),
    Mutation(
        f"{COMPILER}/lower.py",
        "c.If(Affine(1, others), (node,))",
        "c.If(Affine(2, others), (node,))",
        f"{REGRESSIONS} {RANDOM}",
    ),
    Mutation(
        f"{COMPILER}/sync.py",
        "self._edge(source, target, 0, buffer",
        "self._edge(source, target, 1, buffer",
        f"tests/test_compiler_sync.py {RANDOM}",
    ),
    Mutation(
        f"{COMPILER}/sync.py",
        "depth = carried.get(number, buffer.depth)",
        "depth = carried.get(number, buffer.depth + 1)",
        f"tests/test_compiler_sync.py {RANDOM}",
    ),
    Mutation(
        f"{COMPILER}/memory.py",
        "not (e < first or s > last)",
        "not (e <= first or s > last)",
        "tests/test_compiler_memory.py",
    ),
    Mutation(
        f"{COMPILER}/emit.py",
        "buffer.bytes, 1, buffer.depth),))",
        "buffer.bytes, 1, 1),))",
        f"tests/test_compiler_sync.py {RANDOM}",
    ),
    Mutation(
        "src/tapeout/isa/commands.py",
        "passes, stream = tiles_k * tiles_n, tiles_m",
        "passes, stream = tiles_k, tiles_m",
        "tests/test_hand_counted.py tests/test_sim_timing.py",
    ),
    Mutation("src/tapeout/isa/meaning.py", "x[..., e])", "x[..., e] * 1.0000001)", "tests/test_sim_functional.py"),
    Mutation(
        f"{SIM}/dma_walk.cpp",
        "head = phase != 0, tail",
        "head = false, tail",
        "tests/test_hand_counted.py tests/test_sim_timing.py",
    ),
    Mutation(
        f"{SIM}/hazards.cpp",
        "return seen(clock.epoch, who.core, who.thread) >= who.step;",
        "return true;",
        f"tests/test_sim_programs.py {REGRESSIONS}",
    ),
    Mutation(
        f"{SIM}/reduce.cpp", "i + p < count; ++p)", "i + p + 1 < count; ++p)", f"tests/test_sim_functional.py {RANDOM}"
    ),
    Mutation(
        f"{SIM}/timing.cpp",
        "std::max(calendar_.now(), queue.free_at));",
        "calendar_.now());",
        "tests/test_hand_counted.py tests/test_sim_timing.py",
    ),
)


def run(command: list[str], where: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)


def build(copy: Path) -> None:
    """The native core of the copy, in its own folder; only what changed after the first time."""
    cmake, ninja = (str(Path(sys.executable).with_name(tool)) for tool in ("cmake", "ninja"))
    if not (copy / "build/build.ninja").exists():
        settings = [f"-DPython_EXECUTABLE={sys.executable}", f"-DCMAKE_MAKE_PROGRAM={ninja}", "-DTAPEOUT_IN_SOURCE=ON"]
        made = run([cmake, "-S", ".", "-B", "build", "-G", "Ninja", *settings], copy)
        assert made.returncode == 0, made.stderr
    made = run([cmake, "--build", "build"], copy)
    assert made.returncode == 0, made.stdout


def caught(mutation: Mutation, copy: Path) -> bool:
    """Whether the tests fail on the mutated copy; the copy is as before afterwards."""
    path = copy / mutation.file
    text = path.read_text(encoding="utf-8")
    assert text.count(mutation.old) == 1, f"{mutation.file} has {text.count(mutation.old)} times: {mutation.old}"
    native = path.suffix == ".cpp"
    if native and not (copy / "build").exists():
        build(copy)
    path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        if native:
            build(copy)
        done = run([sys.executable, "-c", RUN, str(copy.resolve()), *mutation.tests.split()], copy)
        return done.returncode == 1 and " failed" in done.stdout + done.stderr
    finally:
        path.write_text(text, encoding="utf-8")
        if native:
            build(copy)


def main(names: list[str]) -> int:
    chosen = [m for m in MUTATIONS if not names or any(n in m.file for n in names)]
    missed = 0
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        kept = run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], ROOT).stdout.split("\n")
        for name in filter(None, (*kept, *(str(p.relative_to(ROOT)) for p in (ROOT / "src/tapeout").glob("_native*")))):
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy / name)
        for mutation in chosen:
            begun = time.monotonic()
            found = caught(mutation, copy)
            missed += not found
            rows.append({"file": mutation.file, "old": mutation.old, "new": mutation.new, "caught": found})
            verdict = "caught    " if found else "NOT CAUGHT"
            print(
                f"{verdict} {time.monotonic() - begun:5.1f} s  {mutation.file}: {mutation.old} -> {mutation.new}",
                flush=True,
            )
    print(f"{len(chosen) - missed} of {len(chosen)} caught")
    if not names:
        save("mutations", {**provenance("benchmarks/mutations.py", "pytest"), "mutations": rows})
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
