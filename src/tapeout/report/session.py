"""One run from request to report: what `tapeout run` does, for use from Python too."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path

from tapeout.chip.load import load_chip
from tapeout.chip.spec import Chip
from tapeout.compiler.pipeline import Compiled, canonical_form, compile_graph
from tapeout.compiler.schedule_cache import ScheduleCache, cache_folder
from tapeout.errors import UnsupportedOp, UserError
from tapeout.ir import graph as g
from tapeout.ir.bind import bind_graph, check_bounds
from tapeout.ir.interp import interpret
from tapeout.ir.precision import with_precision
from tapeout.ir.text import print_graph
from tapeout.report.files import read_arrays, text_file
from tapeout.report.numerics import References, Verdict, judge, references
from tapeout.report.request import Request, load
from tapeout.report.stages import stage_text
from tapeout.report.summary import Summary, fallbacks, summarise
from tapeout.runtime.executable import Executable
from tapeout.runtime.inputs import Array, fit_inputs, make_inputs
from tapeout.runtime.levels import run_at_kernels, run_at_tiles
from tapeout.sim.timing import Trace

Progress = Callable[[str, int, int], None]


def _quiet(stage: str, done: int, total: int) -> None:
    """Shows nothing."""


class Session:
    """A model bound to its shapes and inputs, on a chip. Nothing is computed before it is asked for; `seconds` has what
    each stage took. With `values=False` it is for cycles only: large weights of a built-in model have no contents, and
    no run finds the scales of int8."""

    def __init__(
        self,
        request: Request,
        chip: str | Path | Chip,
        inputs: Path | None = None,
        seed: int = 0,
        progress: Progress = _quiet,
        values: bool = True,
    ) -> None:
        self.seconds: dict[str, float] = {}
        self._progress, self._seed = progress, seed
        loaded = chip if isinstance(chip, Chip) else load_chip(chip)
        with self._clock("import"):
            asked = load(request, values)
        self.label = asked.label
        given = read_arrays(inputs) if inputs else None
        binding = dict(asked.binding)
        if given is not None:
            given, found = fit_inputs(bind_graph(asked.graph, {}), given)
            binding.update(found)
        bound, self.binding = _bound(asked.graph, binding)
        with self._clock("precision") if asked.precision else nullcontext():
            own = None if not values else make_inputs(bound, seed) if given is None else given
            self.graph, self.chip = with_precision(bound, asked.precision, loaded, own)
        self._given: dict[str, Array] | None = given and fit_inputs(self.graph, given)[0]

    @contextmanager
    def _clock(self, stage: str) -> Generator[None]:
        self._progress(stage, 0, 1)
        begin = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - begin

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """Ops that would run on the host."""
        return fallbacks(self.graph)

    def refuse_fallbacks(self) -> None:
        """`UnsupportedOp` where something would run on the host."""
        if self.fallbacks:
            raise UnsupportedOp(
                f"would run on the host: {', '.join(self.fallbacks)}", "--strict", "run without --strict"
            )

    @cached_property
    def inputs(self) -> dict[str, Array]:
        return make_inputs(self.graph, self._seed) if self._given is None else self._given

    @cached_property
    def compiled(self) -> Compiled:
        with self._clock("compile"):
            return compile_graph(self.graph, self.chip, self._progress, ScheduleCache(cache_folder(), self.chip))

    @cached_property
    def executable(self) -> Executable:
        return Executable(self.compiled, self.chip)

    @cached_property
    def references(self) -> References:
        with self._clock("reference"):
            return references(self.graph, self.inputs)

    def stage(self, name: str) -> str:
        """A stage of the compilation as text."""
        if name == "graph":
            return print_graph(self.graph)
        if name == "canonical":
            return print_graph(canonical_form(self.graph, self.chip))
        return stage_text(self.compiled, self.chip, name)

    def values(
        self, level: str = "program", exact: bool = False
    ) -> tuple[dict[str, Array], dict[str, Array], list[list[int]]]:
        """Outputs and states computed at a level, and the scalars that decided the program's control."""
        if level == "program":
            executable = self.executable
            with self._clock("values"):
                outcome = executable.run(self.inputs, exact=exact)
            return outcome.outputs, executable.states, outcome.scalars
        compiled = self.compiled if level in ("kernels", "tiles") else None
        with self._clock("values"):
            if compiled is None:
                result = interpret(
                    canonical_form(self.graph, self.chip) if level == "canonical" else self.graph, self.inputs
                )
            elif level == "kernels":
                result = run_at_kernels(compiled, self.inputs)
            else:
                result = run_at_tiles(compiled, self.chip, self.inputs)
        return result.outputs, result.states, []

    def judge(self, outputs: dict[str, Array], states: dict[str, Array]) -> tuple[Verdict, ...]:
        """Holds values against the numerics contract."""
        return judge(outputs, self.references, states)

    def time(self, scalars: list[list[int]] | None, events: bool = False) -> Trace:
        """The cycles of the program."""
        executable = self.executable
        with self._clock("timing"):
            return executable.time(scalars, trace=events)

    def summary(self, trace: Trace, verdicts: tuple[Verdict, ...] | None) -> Summary:
        with self._clock("bounds"):
            found = summarise(self.compiled, self.chip, trace, binding=self.binding, verdicts=verdicts, name=self.label)
        found.tool_s.update(self.seconds)
        return found

    def write_trace(self, path: Path, trace: Trace) -> None:
        """The events as a Perfetto trace."""
        from tapeout.report import perfetto

        with text_file(path) as out:
            perfetto.write(out, trace, self.compiled.program, self.chip)

    def write_page(self, path: Path, trace: Trace, summary: Summary) -> None:
        """The report as an HTML page; `trace` has events."""
        from tapeout.report import run_page

        with text_file(path) as out:
            out.write(run_page.page(summary, trace, self.compiled, self.chip))


def _bound(graph: g.Graph, binding: dict[str, int]) -> tuple[g.Graph, dict[str, int]]:
    """The graph without symbols, and their values."""
    names = [s.name for s in graph.symbols]
    for name in binding:
        if name not in names:
            raise UserError(f"there is no symbol '{name}'", "--set", f"use {', '.join(names) or 'none'}")
    if missing := [s for s in graph.symbols if s.name not in binding]:
        first = missing[0]
        raise UserError(f"needs a value for {', '.join(map(str, missing))}", graph.name, f"give --set {first.name}=N")
    check_bounds(graph, binding)
    return bind_graph(graph, binding), binding
