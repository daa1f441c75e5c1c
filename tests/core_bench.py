"""Runs Verilog cores in iverilog: a memory that is not always ready, and what every step leaves behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tapeout.circuit.ports import PortForm
from tapeout.circuit.words import NEXT
from tapeout.cpu.verilog import storage

MEMORY_BYTES = 1 << 16

_BENCH = """`timescale 1ns / 1ns
module bench;
  reg clk = 0, reset = 1, retired = 0, done = 0;
  wire [31:0] address, write_data;
  wire [3:0] write;
  wire read, retire, trap;
  reg [31:0] memory [0:{last}];
  reg [31:0] random = 32'd2463534242;
  reg [31:0] msip = 0;
  reg [63:0] mtime = 0, mtimecmp = ~64'd0;
  // Ready in half of the cycles, so that an access may wait for any time.
  wire ready = (read | |write) & random[7];
  wire [31:0] data = address < {bytes} ? memory[address >> 2] : address == 32'h2000000 ? msip
      : address == 32'h200bff8 ? mtime[31:0] : address == 32'h200bffc ? mtime[63:32]
      : address == 32'h2004000 ? mtimecmp[31:0] : address == 32'h2004004 ? mtimecmp[63:32] : 0;
  wire [31:0] lanes = {{{{8{{write[3]}}}}, {{8{{write[2]}}}}, {{8{{write[1]}}}}, {{8{{write[0]}}}}}};
  wire [31:0] merged = data & ~lanes | write_data & lanes;
  core core(.clk(clk), .reset(reset), .bus_address(address), .bus_read(read), .bus_write(write),
      .bus_write_data(write_data), .bus_read_data(ready & read ? data : 32'hx), .bus_ready(ready),{lines}
      .trap(trap), .retire(retire));
  always #5 clk = ~clk;
  integer i, cycles = 0;
  initial begin
    $readmemh("memory.hex", memory);
    {zeros}
    #20 reset = 0;
  end
  always @(posedge clk) begin
    random <= {{random[30:0], random[31] ^ random[21] ^ random[1] ^ random[0]}};
    cycles <= cycles + 1;
    retired <= retire & ~reset;
    if (retire & ~reset) mtime <= mtime + 1;
    if (ready & |write & ~reset) begin
      if (address < {bytes}) memory[address >> 2] <= merged;
      if (address == 32'h2000000) msip <= merged & 1;
      if (address == 32'h2004000) mtimecmp[31:0] <= merged;
      if (address == 32'h2004004) mtimecmp[63:32] <= merged;
      if (address == 32'h2004004) mtimecmp[63:32] <= merged;
      if (address == 32'h100000 & merged == 32'h5555) done <= 1;
    end
  end
  always @(negedge clk) if (retired) begin
    $display("{format}"{values});
    if (done) $finish;
  end
  initial #{limit} $finish;
endmodule
"""


def run_core(
    folder: Path, files: list[Path], form: PortForm, image: bytes, *, limit: int = 10_000_000
) -> list[dict[str, int]]:
    """The state behind every step (words of the whole form, and ``cycles``), until the program ends the run."""
    array = form.arrays[0]
    names = {word.name: f"core.s_{word.name}" for word in form.whole.inputs if word.name not in array.words}
    state = {name: net for name, net in names.items() if any(w.name == name + NEXT for w in form.whole.outputs)}
    places = storage(array)
    state |= {name: f"core.{array.name}_.words[{place}]" for name, place in zip(array.words, places, strict=True)}
    state["cycles"] = "cycles"
    lines = "".join(
        f" .{name}({net}),"
        for name, net in (("software_interrupt", "msip[0]"), ("timer_interrupt", "mtime >= mtimecmp"))
        if name in names
    )
    bench = _BENCH.format(
        last=MEMORY_BYTES // 4 - 1, bytes=MEMORY_BYTES, lines=lines, limit=limit,
        zeros=" ".join(f"{state[name]} = 0;" for name in array.words),
        format=" ".join(["%h"] * len(state)), values="".join(f", {net}" for net in state.values()),
    )  # fmt: skip
    (folder / "bench.v").write_text(bench)
    image = image.ljust(MEMORY_BYTES, b"\0")
    words = [int.from_bytes(image[at : at + 4], "little") for at in range(0, MEMORY_BYTES, 4)]
    (folder / "memory.hex").write_text("".join(f"{word:08x}\n" for word in words))
    return [{name: int(value, 16) for name, value in zip(state, row, strict=True)} for row in _simulate(folder, files)]


_HARVARD = """`timescale 1ns / 1ns
module bench;
  reg clk = 0, reset = 1, retired = 0;
  wire [{address}:0] address;
  wire [{pc}:0] fetch_address;
  wire fetch_read, read, retire;
  wire [{lanes}:0] write;
  reg [{instruction}:0] program [0:{last}];
  reg [31:0] random = 32'd2463534242;
  reg [{data}:0] loaded = 0;
  integer count = 0, i;
  // What memory holds is drawn anew for every access: the model is told.
  wire [{data}:0] data = {{2{{random}}}} >> 3;
  wire ready = (read | |write) & random[7];
  core core(.clk(clk), .reset(reset), .bus_address(address), .bus_read(read), .bus_write(write), .bus_write_data(),
      .bus_read_data(data), .bus_ready(ready), .fetch_address(fetch_address), .fetch_read(fetch_read),
      .fetch_data(program[count]), .fetch_ready(fetch_read & random[5]),{shown} .retire(retire));
  always #5 clk = ~clk;
  initial begin
    $readmemh("program.hex", program);
    {zeros}
    #20 reset = 0;
  end
  always @(posedge clk) begin
    random <= {{random[30:0], random[31] ^ random[21] ^ random[1] ^ random[0]}};
    retired <= retire & ~reset;
    if (ready & read) loaded <= data;
    if (retire & ~reset) count <= count + 1;
  end
  always @(negedge clk) if (retired) begin
    $display("{format}", loaded{values});
    if (count == {last} + 1) $finish;
  end
  initial #10000000 $finish;
endmodule
"""


def run_bench(
    folder: Path, files: list[Path], form: PortForm, program: list[int], places: list[int]
) -> tuple[list[dict[str, int]], list[int]]:
    """The state behind every step of a core with a bus for instructions, and what was loaded last before each end."""
    (array,) = form.arrays
    inputs = {word.name: word.width for word in form.interface.inputs}
    outputs = {word.name: word.width for word in form.interface.outputs}
    state = {name: f"core.s_{name}" for name in inputs if name + NEXT in outputs}
    state |= {name: f"core.{array.name}_.words[{place}]" for name, place in zip(array.words, places, strict=True)}
    known = {"address", "load", "store_mask", "store_data", "r.write0", "r.write0.enable"}
    shown = "".join(f" .{name}()," for name in outputs if name not in known and not name.endswith(NEXT))
    bench = _HARVARD.format(
        address=outputs["address"] - 1, pc=inputs["pc"] - 1, lanes=outputs["store_mask"] - 1, shown=shown,
        instruction=inputs["instruction"] - 1, last=len(program) - 1, data=inputs["load_data"] - 1,
        zeros=" ".join(f"{state[name]} = 0;" for name in array.words) + " core.loaded = 0;",
        format=" ".join(["%h"] * (1 + len(state))), values="".join(f", {net}" for net in state.values()),
    )  # fmt: skip
    (folder / "bench.v").write_text(bench)
    (folder / "program.hex").write_text("".join(f"{word:x}\n" for word in program))
    values = [[int(value, 16) for value in row] for row in _simulate(folder, files)]
    return [dict(zip(state, row[1:], strict=True)) for row in values], [row[0] for row in values]


def _simulate(folder: Path, files: list[Path]) -> list[list[str]]:
    """What bench.v displays, a line each."""
    built = folder / "bench.vvp"
    sources = [str(file) for file in (folder / "bench.v", *files)]
    subprocess.run(["iverilog", "-g2005", "-Wall", "-Wno-timescale", "-o", str(built), *sources], check=True)
    done = subprocess.run(["vvp", "-n", str(built)], cwd=folder, capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines() if " " in line and "finish" not in line]
