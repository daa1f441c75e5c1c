"""Presets, chips that extend others, and the commands around chip files."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tapeout.chip import spec
from tapeout.chip.load import load_chip, parse_chip, presets
from tapeout.chip.review import TEMPLATE, review
from tapeout.chip.sources import KINDS, kind_of, source_of
from tapeout.cli import app
from tapeout.compiler.pipeline import compile_graph
from tapeout.errors import DoesNotFit, InvalidChip
from tapeout.ir.build import Builder
from tapeout.ir.types import DType, TensorType
from tapeout.report import chip_page
from test_docs_reference import given, leaves

DOCS = Path(__file__).parents[1] / "docs"
SMALLER = 'extends = "mlu370-x4"\n[dram]\nbandwidth_bytes_per_s = "200 GB/s"\ncapacity_bytes = "16 GiB"\n'


def chips(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["chips", *arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.mark.parametrize("name", presets())
def test_preset(name: str) -> None:
    """It loads, every number has a source that says why, and nothing but a stated peak is doubtful."""
    found = review(name)
    assert found.problems == ()
    assert all(w.startswith("advertised_tops") for w in found.warnings)
    assert found.chip.name == name
    assert found.chip.description
    assert {kind_of(s) for s in found.sources.values()} <= set(KINDS)
    peaks = {
        d: 2 * found.chip.cores * g.macs * found.chip.topology.clock_hz for d, g in found.chip.matrix.geometry.items()
    }
    for dtype, tops in found.chip.advertised_tops.items():
        assert peaks[dtype] / 1e12 == pytest.approx(tops, rel=0.03) or found.chip.why_not_advertised


def test_presets_of_the_field_are_there() -> None:
    wanted = """1a 1h8 1m a100 ascend-310 ascend-910a h100 h200 hanguang-800 kunlun-1 kunlun-2 mlu220 mlu270 mlu290
        mlu370-x4 mlu370-x8 mlu590 stcp920 suisi-1.0-t10 suisi-2.0-t20 suisi-2.0-t21 suisi-2.5-i20 tpu-v1 tpu-v3 tpu-v4
        wormhole-n150 xeon-host"""
    assert set(wanted.split()) <= set(presets())


def test_no_code_knows_a_chip() -> None:
    """Chips are data: the name of a preset stands in no code."""
    for path in (DOCS.parent / "src").rglob("*.py"):
        texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        examples = {"mlu370-x4"} if path.name == "torch_backend.py" else set()  # a default of an option
        assert not texts & (set(presets()) - examples), path


def test_the_page_is_up_to_date() -> None:
    page = chip_page.page([review(name) for name in presets()])
    assert page == (DOCS / "presets.md").read_text(), "tapeout chips --page > docs/presets.md"
    assert chips("--page").stdout == page


def test_a_chip_without_dram() -> None:
    chip = load_chip("hanguang-800")
    assert chip.dram.on_chip
    line = next(t for t in chips().stdout.splitlines() if t.startswith("hanguang-800"))
    assert "192 MiB" in line
    assert "none" in line
    assert "main memory, on chip" in chips("hanguang-800").stdout
    small = parse_chip('extends = "hanguang-800"\n[dram]\ncapacity_bytes = "1 KiB"\n', "small.toml")
    b = Builder()
    b.output("y", b.unary("neg", b.input("x", TensorType(DType.f32, (1000,)))))
    with pytest.raises(DoesNotFit, match="of memory on chip"):
        compile_graph(b.finish(), small)


def test_the_list_is_whole() -> None:
    lines = chips().stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert not any("…" in line for line in lines)
    assert len(lines) == len(presets()) + 1


# ---- extends


def test_what_is_given_replaces_and_the_rest_stays() -> None:
    base, chip = load_chip("mlu370-x4"), parse_chip(SMALLER, "small.toml")
    assert (chip.dram.bandwidth_bytes_per_s, chip.dram.capacity_bytes) == (200e9, 16 * 2**30)
    assert (chip.name, chip.dram.kind, chip.memories, chip.matrix) == (
        "small",
        "LPDDR5 384-bit",
        base.memories,
        base.matrix,
    )
    assert chip.description == "mlu370-x4 with changes"


def test_a_replaced_number_does_not_keep_its_source(tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text(SMALLER + '[sources]\n"dram.capacity_bytes" = "datasheet: 16 GB"\n')
    chip = load_chip(file)
    assert source_of("dram.capacity_bytes", chip.sources) == "datasheet: 16 GB"
    assert source_of("dram.bandwidth_bytes_per_s", chip.sources) is None
    assert source_of("dram.kind", chip.sources) == "datasheet: LPDDR5, 384 bit"
    assert [w.split(":")[0] for w in review(file).warnings] == ["dram.bandwidth_bytes_per_s"]
    assert "gives no source of its own" in chips(str(file)).stdout.replace("\n", " ")


def test_a_pattern_of_the_base_does_not_reach_what_replaces_it() -> None:
    text = 'extends = "mlu370-x4"\n[matrix.geometry]\ni16 = { k0 = 16 }\n'
    chip = parse_chip(text, "x.toml")
    assert chip.matrix.geometry["i16"] == spec.Geometry(1, 64, 16)
    assert source_of("matrix.geometry.i16.k0", chip.sources) is None
    assert source_of("matrix.geometry.i16.m0", chip.sources) is not None


def test_files_extend_files(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(SMALLER + '[sources]\n"dram.*" = "press: somewhere"\n')
    (tmp_path / "two.toml").write_text(
        'extends = "one.toml"\nwithout = ["shared.sram", "multicast"]\n[dram]\nkind = "DDR"\n'
    )
    chip = load_chip(tmp_path / "two.toml")
    assert chip.dram.capacity_bytes == 16 * 2**30
    assert [s.name for s in chip.shared] == ["l2"]
    assert not chip.multicast
    assert source_of("dram.kind", chip.sources) is None
    assert source_of("dram.capacity_bytes", chip.sources) == "press: somewhere"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "mlu370-x5"', r"extends in .*neither a preset nor a readable file; did you mean `mlu370-x\d`"),
        ("extends = 3", "extends in .*3 is not a word"),
        ('extends = "self.toml"', "extends in .*extends itself"),
        ('extends = "../{dir}/self.toml"', "extends in .*extends itself"),
        ('extends = "1a"\nwithout = "links"', "without in .*not a list of words"),
        ('extends = "1a"\nwithout = ["links.host"]', "without in .*`1a` has no `links.host`"),
        ('extends = "1a"\nsources = 3', "sources in .*not a table of texts"),
        ('extends = "broken.toml"', r"topology\.cores in .*broken.toml: 0 must be positive"),
        ('extends = "1a"\ndram = 3', r"dram in .*self.toml: 3 is not a table"),
        ('extend = "1a"', "unknown key `extend`; did you mean `extends`"),
        ('extends = "1a"\nadvertised_tops = { f16 = 9 }', "f16 peak is 1.92 TOPS by its parts but 9.0 advertised"),
    ],
)
def test_wrong_extensions(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text('extends = "1a"\n[topology]\ncores = 0\n')
    file = tmp_path / "self.toml"
    file.write_text(text.replace("{dir}", tmp_path.name) + "\n")
    with pytest.raises(InvalidChip, match=message):
        load_chip(file)


# ---- new and check


def test_new_writes_a_complete_chip(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    chips("new", str(file))
    assert "warning" not in chips("check", str(file)).stdout
    assert load_chip(file).name == "mine"
    table = tomllib.loads(file.read_text())
    table.pop("sources")
    names = r"(memories|shared|links)\.\w+", r"(geometry|lanes|mac_pj|vector_pj|byte_pj|advertised_tops)\.\w+"
    found = {re.sub(names[0], r"\1.NAME", leaf) for leaf in given(table)}
    found = {re.sub(names[1], r"\1.TYPE" if "geometry" in leaf else r"\1", leaf) for leaf in found}
    assert found | {"sources"} == set(leaves(spec.Chip))


def test_new_explains_every_leaf() -> None:
    """The first time that a leaf stands in the template, there is a comment beside it or above its table."""
    seen: set[str] = set()
    for line in TEMPLATE.read_text().splitlines():
        key, _, rest = line.partition(" = ")
        if rest and not line.startswith("#") and key not in seen:
            seen.add(key)
            assert "#" in rest or key.strip('"*') in ("", "i8", "bf16", "matrix.fill_cycles", "advertised_tops."), line


def test_new_keeps_what_is_there(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("mine")
    assert chips("new", str(file), code=2).stderr.count("\n") == 1
    assert file.read_text() == "mine"
    assert "cannot write" in chips("new", str(tmp_path / "no" / "mine.toml"), code=2).stderr


def test_check_tells_everything(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(
        'extends = "mlu370-x4"\n[topology]\ncores = -3\nclock_hz = "fast"\n[dram]\nkind = 4\ngranule_byte = 3\n'
        '[memories.nram]\nalignment_bytes = 3\n[memories.more]\nbytes = 7\nreach = ["nope"]\n'
        '[matrix]\nstationary = "x"\n[matrix.geometry]\nq9 = { m0 = 1 }\n'
        '[shared.l2]\nscope = "x"\nmanaged = "y"\n[vector]\nspecial_factor = "2 GB"\n'
    )
    told = chips("check", str(file), code=2)
    assert told.stdout == ""
    wanted = """topology.cores topology.clock_hz dram.kind dram memories.nram.alignment_bytes memories.more
        memories.more.reach matrix.stationary matrix.geometry matrix.geometry.q9 matrix.geometry.q9
        shared.l2.scope shared.l2.managed vector.special_factor"""
    lines = told.stderr.splitlines()
    assert sorted(line.split()[1] for line in lines) == sorted(wanted.split())
    assert all(line.startswith("tapeout: ") and "; " in line and str(file) in line for line in lines)
    run = CliRunner().invoke(app, ["run", "gpt2", "--chip", str(file)])
    assert run.exit_code == 2
    assert run.stderr.count("\n") == 1
    assert f"{len(lines) - 1} more: tapeout chips check" in run.stderr


def test_check_warns(tmp_path: Path) -> None:
    file = tmp_path / "doubtful.toml"
    text = TEMPLATE.read_text()
    text = text.replace('"*" = "assumed: an example"\n', '"dram.*" = "gossip"\n"drum.*" = "press: x"\n')
    text = text.replace("bytes_per_cycle = 256 # width", "bytes_per_cycle = 32 # width")
    file.write_text(
        text.replace("\ni8 = 16.4", "\ni8 = 32").replace('advertised = ""', 'advertised = "half of it sleeps"')
    )
    told = chips("check", str(file)).stdout.replace("\n", " ")
    for warning in (
        "vector: no source for lanes.f32, lanes.i32", "`drum.*` names no number", "`dram.*` does not begin with one of",
        "matrix.geometry.bf16: takes 64 bytes of operand a a cycle, memories.activations brings 32",
        "advertised_tops.i8: 32, but 16.38 by the parts; the file says: half of it sleeps",
    ):  # fmt: skip
        assert warning in told
    assert "peak i8" in told


@pytest.mark.parametrize(
    "arguments", [["check"], ["new"], ["check", "nothing.toml"], ["mlu370-x4", "file"], ["--page", "1a"], ["nothing"]]
)
def test_wrong_usage(arguments: list[str]) -> None:
    result = chips(*arguments, code=2)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("tapeout: ")


@pytest.mark.parametrize(
    "value", ["1" * 500, "1e400", '"1..2 GHz"', '"1e999 GHz"', '"-1 GHz"', "[1]", "1979-05-27", "inf"]
)
def test_odd_numbers(value: str) -> None:
    text = TEMPLATE.read_text().replace('clock_hz = "1.0 GHz"', f"clock_hz = {value}")
    with pytest.raises(InvalidChip, match=r"topology\.clock_hz"):
        parse_chip(text, "odd.toml")
