"""The command line (`docs/cli.md`). Heavy parts are imported by the command that needs them: `--help` is instant."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, ParamSpec

import typer

from tapeout import __version__
from tapeout.errors import TapeoutError, UserError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from tapeout.report.request import Request
    from tapeout.report.session import Session

P = ParamSpec("P")
WIDTH = 100
WRONG = 3
"""Exit code of a run whose values break the numerics contract, and of circuits that differ."""
UNDECIDED = 4
"""Exit code of a proof that time did not suffice for."""

app = typer.Typer(
    name="tapeout", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="One chip description in; compiler, simulator and benchmarks for that chip out.",
)  # fmt: skip


class Stage(StrEnum):
    """What --emit can print."""

    graph = "graph"
    canonical = "canonical"
    kernels = "kernels"
    schedules = "schedules"
    tiles = "tiles"
    program = "program"


class Level(StrEnum):
    """Where --run-at can compute values."""

    graph = "graph"
    canonical = "canonical"
    kernels = "kernels"
    tiles = "tiles"
    program = "program"


class Precision(StrEnum):
    """What a model computes in."""

    fp32 = "fp32"
    tf32 = "tf32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"
    int4w = "int4w"


# ---- errors


def _fail(message: str, code: int) -> None:
    sys.stderr.write(f"tapeout: {message}\n")
    raise SystemExit(code)


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Errors as one line: exit code 2 for what was given, 130 for Ctrl-C, 1 for a bug of ours."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except UserError as error:
            _fail(str(error), 2)
        except KeyboardInterrupt:
            _fail("stopped", 130)
        except BrokenPipeError:  # whoever read our output has gone
            sys.stdout = None  # or Python complains at exit that it cannot flush
            raise SystemExit(1) from None
        except RuntimeError as error:  # typer's own ways out are of this kind
            if isinstance(error, typer.Exit | typer.Abort):
                raise
            _bug(error)
        except Exception as error:  # noqa: BLE001 the last resort: whatever it is, one line
            _bug(error)

    return run


def _bug(error: Exception) -> None:
    if _debug():
        raise error
    kind = "" if isinstance(error, TapeoutError) else f"{type(error).__name__}: "
    _fail(f"internal error: {kind}{' '.join(str(error).split())} (a bug; tapeout --debug ... shows where)", 1)


def _debug() -> bool:
    return "--debug" in sys.argv[1:]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tapeout {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where something goes wrong.")] = False,
) -> None:
    """Options before the command; each is read where it is needed."""
    _ = version, debug


# ---- what commands share

ModelArgument = Annotated[
    str, typer.Argument(help="A built-in model (tapeout models), an .onnx or .pt2 file, or package.module:factory.")
]
ChipOption = Annotated[str, typer.Option("--chip", "-c", help="A preset (tapeout chips) or a chip file.")]
BatchOption = Annotated[int | None, typer.Option("--batch", min=1, help="How many samples at a time.")]
HeightOption = Annotated[int | None, typer.Option("--height", min=1, help="Image height of a built-in model.")]
WidthOption = Annotated[int | None, typer.Option("--width", min=1, help="Image width of a built-in model.")]
PrecisionOption = Annotated[Precision | None, typer.Option("--precision", help="What to compute in.")]
ShapeOption = Annotated[list[str] | None, typer.Option("--shape", help="Shape of an input: name=4x3x224x224.")]
RayOption = Annotated[bool, typer.Option("--ray", help="Run the jobs on a Ray cluster; the netlist is the same.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="A symbol or option: sequence=128.")]


def _request(
    model: str, batch: int | None, height: int | None, width: int | None, precision: Precision | None,
    shape: list[str] | None, sets: list[str] | None,
) -> Request:  # fmt: skip
    from tapeout.report.request import Request

    given = {"batch": batch, "height": height, "width": width, "precision": precision and precision.value}
    return Request(model, {k: v for k, v in given.items() if v is not None}, sets or (), shape or ())


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, emoji=False, markup=False)
    if not console.is_terminal or console.width > WIDTH:
        console = Console(stderr=stderr, highlight=False, emoji=False, markup=False, width=WIDTH)
    return console


def _show(what: RenderableType) -> None:
    console = _console()
    if console.is_terminal:
        console.print(what)
        return
    with console.capture() as captured:
        console.print(what)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


@contextmanager
def _progress(quiet: bool = False) -> Generator[Callable[[str, int, int], None]]:
    """A bar on a terminal, else nothing."""
    if quiet or not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<12}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_console(stderr=True), transient=True) as bar:
        task = bar.add_task("")

        def update(stage: str, done: int, total: int) -> None:
            bar.update(task, description=stage, completed=done, total=max(1, total))

        yield update


def _write(text: str, path: Path | None) -> None:
    if path is None:
        sys.stdout.write(text)
        return
    from tapeout.report.files import text_file

    with text_file(path) as out:
        out.write(text)


# ---- commands


@app.command()
@guarded
def run(
    model: ModelArgument,
    chip: ChipOption,
    batch: BatchOption = None,
    height: HeightOption = None,
    width: WidthOption = None,
    precision: PrecisionOption = None,
    shape: ShapeOption = None,
    sets: SetOption = None,
    inputs: Annotated[Path | None, typer.Option(help="Inputs by name, an .npz file; else seeded ones.")] = None,
    outputs: Annotated[Path | None, typer.Option(help="Where outputs go, an .npz file.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the inputs.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    timing_only: Annotated[bool, typer.Option("--timing-only", help="Cycles without values.")] = False,
    exact: Annotated[bool, typer.Option("--exact", help="Follow the accumulation order bit for bit.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse ops that would run on the host.")] = False,
    why: Annotated[bool, typer.Option("--why", help="Tell where cycles beyond the attainable bound went.")] = False,
    trace: Annotated[Path | None, typer.Option(help="Write a Perfetto trace; .gz compresses it.")] = None,
    page: Annotated[Path | None, typer.Option("--html", help="Write the report as a page.")] = None,
    emit: Annotated[Stage | None, typer.Option(help="Print a stage of the compilation, and stop.")] = None,
    emit_to: Annotated[Path | None, typer.Option(help="Write what --emit prints to a file.")] = None,
    run_at: Annotated[Level | None, typer.Option(help="Compute and check values at a stage only.")] = None,
    no_check: Annotated[bool, typer.Option("--no-check", help="Do not compute the reference.")] = False,
) -> None:
    """Compile a model for a chip, compute its values, count its cycles, and report."""
    if timing_only and (run_at or outputs):
        raise UserError("--timing-only computes no values", "--run-at" if run_at else "--outputs", "leave one out")
    if emit_to and not emit:
        raise UserError("there is nothing to write", "--emit-to", "say which stage with --emit")
    if run_at and (trace or as_json or page or why):
        option = "--trace" if trace else "--json" if as_json else "--html" if page else "--why"
        raise UserError("--run-at counts no cycles", option, "leave one out")
    from tapeout.report.session import Session

    request = _request(model, batch, height, width, precision, shape, sets)
    with _progress(as_json or emit is not None) as progress:
        session = Session(request, chip, inputs, seed, progress, values=not timing_only)
        if strict:
            session.refuse_fallbacks()
        if emit:
            report, right = session.stage(emit.value), True
        else:
            report, right = _run(session, outputs, as_json, timing_only, exact, why, trace, page, run_at, no_check)
    if isinstance(report, str):
        _write(report, emit_to)
    else:
        _show(report)
    if not right:
        raise typer.Exit(WRONG)


def _run(
    session: Session, outputs: Path | None, as_json: bool, timing_only: bool, exact: bool, why: bool,
    trace: Path | None, page: Path | None, run_at: Level | None, no_check: bool,
) -> tuple[str | RenderableType, bool]:  # fmt: skip
    """What to print, and whether the values are right."""
    from tapeout.report import json_report, text
    from tapeout.report.files import write_arrays

    scalars: list[list[int]] | None = None
    verdicts = None
    if not timing_only:
        level = run_at.value if run_at else "program"
        found, states, scalars = session.values(level, exact)
        verdicts = None if no_check else session.judge(found, states)
        if outputs:
            write_arrays(outputs, {**found, **states})
    if run_at:
        return (text.verdicts(verdicts) if verdicts else "not checked\n"), all(v.right for v in verdicts or ())
    timed = session.time(scalars, events=why or trace is not None or page is not None)
    if trace:
        session.write_trace(trace, timed)
    summary = session.summary(timed, verdicts)
    if page:
        session.write_page(page, timed, summary)
    if as_json:
        return json_report.text(summary), summary.right
    return text.render(summary), summary.right


@app.command()
@guarded
def chips(
    name: Annotated[str | None, typer.Argument(help="One chip: a preset or a file; or new or check.")] = None,
    file: Annotated[Path | None, typer.Argument(help="The file that `new` writes or `check` looks at.")] = None,
    page: Annotated[bool, typer.Option("--page", help="All presets side by side, as docs/presets.md.")] = False,
) -> None:
    """List the chips that are built in, or show one with the sources of its numbers.

    `tapeout chips new FILE` writes a complete chip with a comment beside each leaf. `tapeout chips check FILE` tells
    everything that is wrong with a chip file, and what is doubtful in a good one.
    """
    from tapeout.chip.load import load_chip, presets
    from tapeout.chip.review import review, write_template
    from tapeout.report import chip_page, chip_text

    if page:
        if name is not None:
            raise UserError("the page has all chips", f"chips {name}", "leave the name or --page out")
        sys.stdout.write(chip_page.page([review(p) for p in presets()]))
    elif name is None:
        _show(chip_text.chips([load_chip(p) for p in presets()]))
    elif name not in ("new", "check"):
        if file is not None:
            raise UserError(f"`{name}` takes no file", f"chips {name}", "use `chips new FILE` or `chips check FILE`")
        _show(chip_text.chip(load_chip(name)))
    elif file is None:
        raise UserError("which file?", f"chips {name}", f"use `chips {name} FILE`")
    elif name == "new":
        write_template(file)
        typer.echo(f"Wrote {file}: change it, then `tapeout chips check {file}`")
    else:
        found = review(file)
        if found.problems:
            sys.stderr.write("".join(f"tapeout: {problem}\n" for problem in found.problems))
            raise typer.Exit(2)
        _show(chip_text.review(found))


@app.command()
@guarded
def models() -> None:
    """List the models that are built in."""
    from tapeout.models import TABLE

    for name, entry in TABLE.items():
        typer.echo(f"{name:<18} {entry.description}")


bench = typer.Typer(no_args_is_help=True, help="Tables of many runs.")
app.add_typer(bench, name="bench")


@bench.command("models")
@guarded
def bench_models(
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="A built-in model; else all.")] = None,
    chip: Annotated[list[str] | None, typer.Option("--chip", "-c", help="A preset or a file; else all.")] = None,
    precision: Annotated[list[Precision] | None, typer.Option(help="Of those that the chip has; else all.")] = None,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Else 1 and 8.")] = None,
    image: Annotated[list[str] | None, typer.Option(help="HEIGHTxWIDTH; else several, and the model's own.")] = None,
    length: Annotated[list[int] | None, typer.Option(min=1, help="Of sequences; else 1, 17, 128, 1000, 4096.")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="As many of the runs, drawn evenly.")] = None,
    timing_only: Annotated[bool, typer.Option("--timing-only", help="Cycles without values.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Run again what was not right.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Runs at a time.")] = 1,
    seconds: Annotated[float, typer.Option(min=1, help="What one run may take.")] = 600,
    memory: Annotated[float, typer.Option(min=0, help="GiB that one run may take; 0: no limit.")] = 0,
    table: Annotated[
        Path, typer.Option(help="Where the runs are kept; those that are there are not run again.")
    ] = Path("bench-models.jsonl"),
) -> None:
    """Run built-in models on chips, at several shapes and precisions, and tell what the runs amount to."""
    from tapeout.bench import cases, runs
    from tapeout.bench.table import render
    from tapeout.chip.load import presets
    from tapeout.models import NAMES

    images = tuple(cases.image(text) for text in image) if image else cases.IMAGES
    choice = cases.Choice(
        model or NAMES, chip or presets(), tuple(p.value for p in precision or ()), batch or cases.BATCHES, images,
        length or cases.LENGTHS, own_image=not image,
    )  # fmt: skip
    wanted = cases.sampled(list(cases.cases(choice)), sample)

    def tell(case: cases.Case, record: runs.Record, done: int) -> None:
        cycles = f"{record['cycles']:,} cycles" if "cycles" in record else ""
        sys.stderr.write(f"{done}/{len(wanted)} {record['status']} {case.key} {cycles}".rstrip() + "\n")

    limits = runs.Limits(seconds, int(memory * 2**30))
    command = " ".join(["tapeout", *sys.argv[1:]])
    records = runs.run_all(
        wanted, table, command, jobs=jobs, values=not timing_only, retry=retry, limits=limits, progress=tell
    )
    last = runs.last_of(table)
    sys.stdout.write(render(list(records.values()), runs.read(last)[1] if last.exists() else {}) + "\n")


@app.command()
@guarded
def disasm(
    model: Annotated[str, typer.Argument(help="A model, or a program's text as `run --emit program` writes it.")],
    chip: Annotated[str | None, typer.Option("--chip", "-c", help="A preset or a chip file, for a model.")] = None,
    batch: BatchOption = None,
    height: HeightOption = None,
    width: WidthOption = None,
    precision: PrecisionOption = None,
    shape: ShapeOption = None,
    sets: SetOption = None,
) -> None:
    """Print the program of a model on a chip, or check and print a saved one."""
    if chip is None:
        from tapeout.report.stages import read_program

        sys.stdout.write(read_program(model))
        return
    from tapeout.report.session import Session

    request = _request(model, batch, height, width, precision, shape, sets)
    with _progress() as progress:
        text = Session(request, chip, progress=progress).stage("program")
    sys.stdout.write(text)


@app.command()
@guarded
def learn(
    oracle: Annotated[
        str,
        typer.Argument(help="file.py:function, a shared library, a command line, a .csv, .pla, .npz, .aig or .blif."),
    ],
    algorithm: Annotated[str, typer.Option("--algorithm", "-a", help="exact or bsd.")] = "exact",
    interface: Annotated[str | None, typer.Option(help="Words of a plain function or file: 'a:8 b:8 -> s:9'.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed learns the same netlist.")] = 0,
    budget: Annotated[float | None, typer.Option(help="Seconds; what is not known by then is speculated.")] = None,
    queries: Annotated[int | None, typer.Option(min=1, help="Questions that may be asked.")] = None,
    max_nodes: Annotated[int | None, typer.Option(min=1, help="AND nodes of a netlist from examples.")] = None,
    arrays: Annotated[
        str | None, typer.Option(help="Register files in the state: as gates (whole), as ports, or off.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.01, help="Seconds that one answer may take.")] = 60.0,
    isolate: Annotated[bool, typer.Option("--isolate", help="Keep a function or library in its own process.")] = False,
    checkpoint: Annotated[Path | None, typer.Option(help="A file to go on from after a kill.")] = None,
    ray: RayOption = False,
    effort: Annotated[str | None, typer.Option(help="Of minimising: none, low, medium or high.")] = None,
    reference: Annotated[Path | None, typer.Option(help="A circuit that what is learned is proved equal to.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The netlist: .v, .aig, .aag, .blif, .c.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="A page about what was learned, .html.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as JSON.")] = False,
) -> None:
    """Learn a circuit from a black box that can be asked, or from rows of examples."""
    from tapeout.circuit.export import proved_file
    from tapeout.circuit.learn import learn as learn_circuit
    from tapeout.circuit.open import open_oracle
    from tapeout.circuit.output import check_suffix
    from tapeout.circuit.process_oracle import ProcessOracle
    from tapeout.circuit.reading import read_netlist
    from tapeout.circuit.supervise import crashes_told
    from tapeout.report.files import replacing

    if output is not None:
        check_suffix(output.suffix)
    formal = None if reference is None else read_netlist(reference)
    box = open_oracle(oracle, interface=interface, timeout_s=timeout, isolate=isolate, probe=not isolate)
    ending = closing(box) if isinstance(box, ProcessOracle) else nullcontext()
    with ending, crashes_told(box), _progress(as_json) as progress:
        learned = learn_circuit(
            box, algorithm=algorithm, seed=seed, budget_s=budget, budget_queries=queries, checkpoint=checkpoint,
            timeout_s=timeout, max_nodes=max_nodes, ray=ray, effort=effort, arrays=arrays,
            reference=formal, progress=progress,
        )  # fmt: skip
    if output is not None:
        with replacing(output) as file:
            file.write(proved_file(learned.netlist, output.suffix, output.stem))
    if report is not None:
        from tapeout.report import learned_page

        _write(learned_page.page(learned, oracle), report)
    from tapeout.report import learned_text

    if as_json:
        sys.stdout.write(learned_text.json_text(learned, oracle))
    else:
        _show(learned_text.render(learned, oracle))


@app.command()
@guarded
def equal(
    first: Annotated[Path, typer.Argument(help="A circuit: .aig, .aag, .blif, or .v and .c as Tapeout writes them.")],
    second: Annotated[Path, typer.Argument(help="Another one.")],
    seconds: Annotated[float, typer.Option(min=0.01, help="What the proof may take.")] = 300.0,
    by_position: Annotated[
        bool, typer.Option("--by-position", help="Take ports in their order, whatever their names.")
    ] = False,
    checkpoint: Annotated[Path | None, typer.Option(help="A file to go on from after a kill.")] = None,
) -> None:
    """Prove two circuits equal, or show an input on which they differ (exit code 3; 4: not decided in time)."""
    from tapeout.circuit.equivalence import check_equal
    from tapeout.circuit.reading import read_netlist
    from tapeout.report import equal_text

    a, b = read_netlist(first), read_netlist(second)
    b = equal_text.with_words_of(b, a, str(second), by_position)
    with _progress() as progress:
        result = check_equal(
            a, b, seconds=seconds, state=checkpoint, progress=lambda done, total: progress("outputs", done, total)
        )
    sys.stdout.write(equal_text.render(result, a, b, str(first), str(second)))
    if not result.proved:
        raise typer.Exit(WRONG if result.different else UNDECIDED)


@app.command()
@guarded
def design(
    variant: Annotated[str, typer.Argument(help="rv32ia, rv32ia-machine or rv32ima-machine.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed learns the same core.")] = 0,
    budget: Annotated[float | None, typer.Option(min=0.01, help="Seconds of learning.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="A file to go on from after a kill.")] = None,
    ray: RayOption = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A folder for the core; or the step only: .v, .aig, .aag, .blif, .c."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="A page about what was learned, .html.")] = None,
) -> None:
    """Learn a processor's step from its oracle, prove it equal to the formal reference, and write a core around it."""
    from tapeout.circuit.export import write_netlist
    from tapeout.circuit.output import check_suffix
    from tapeout.cpu.core import design as design_core
    from tapeout.cpu.files import write_design

    if output is not None and output.suffix:
        check_suffix(output.suffix)
    with _progress(False) as progress:
        done = 0

        def tell(_: str) -> None:
            nonlocal done
            done += 1
            progress("jobs", done, 0)

        made = design_core(variant, seed=seed, budget_s=budget, checkpoint=checkpoint, ray=ray, progress=tell)
    form = made.discovery.form
    if report is not None:
        from tapeout.report.design_page import design_page

        _write(design_page(made, seed), report)
    sys.stdout.write(
        f"{variant}: {made.discovery.questions:,} questions in {made.discovery_s:.1f} s found\n"
        + "".join(f"  {fact}\n" for fact in form.facts())
        + f"Learned in {made.learning_s:.1f} s from {made.queries:,} questions, "
        f"{made.learned.nodes:,} AND nodes\n"
        f"Minimised in {made.minimising_s:.1f} s: {made.folded.nodes:,} AND nodes\n"
        + "".join(
            f"  of them {fold.step.nodes:,} of {fold.name}, a step that is repeated {fold.steps} times\n"
            for fold in made.folded.folds
        )
        + f"Reference, written by hand: {made.reference.nodes:,} AND nodes\n"
        f"Proof, {made.proving_s:.1f} s: {made.proof}; {made.counterexamples} rows had to come from it\n"
    )
    for name in made.speculated:
        sys.stdout.write(f"{name}: the budget ended before it was learned, part of it is guessed\n")
    if output is not None and output.suffix:
        write_netlist(made.netlist, output)
    elif output is not None:
        files = write_design(made, output)
        sys.stdout.write(f"Wrote {', '.join(files)} to {output}\n")
    if not made.proved:
        raise typer.Exit(WRONG if made.proof.different else UNDECIDED)


def main() -> None:
    """The entry point: also turns wrong usage into one line."""
    try:
        code = app(standalone_mode=False)
    except typer.Exit as stop:
        code = stop.exit_code
    except SystemExit as stop:
        code = stop.code
    except (typer.Abort, KeyboardInterrupt):
        sys.stderr.write("tapeout: stopped\n")
        code = 130
    except typer.TyperException as error:
        sys.stderr.write(f"tapeout: {' '.join(error.format_message().split())}\n")
        code = 2
    _leave(code)


def _leave(code: object) -> NoReturn:
    """Ends the program, also where a black box hangs in a thread that Python would wait for."""
    if isinstance(code, int) and any(t is not threading.main_thread() for t in threading.enumerate()):
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        os._exit(code)
    raise SystemExit(code)
