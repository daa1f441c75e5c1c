"""A core around a step: registers, state, a sequencer and a bus, as Verilog that synthesises.

The step (learned, or any netlist in port form) says everything about instructions. Written by hand is what stands here:
when a word is fetched, loaded and stored, and when the next state is taken. docs/processor.md describes the bus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tapeout.circuit.folds import BIT, NEXT_STATE, OPERAND, SHOWN, STATE, Fold, with_folds
from tapeout.circuit.output import identifier
from tapeout.circuit.ports import NOTHING, Array, Port, PortForm
from tapeout.circuit.words import NEXT, Word
from tapeout.errors import UserError

HAND_WRITTEN = (
    "the sequencer: fetch, execute, load, then store or go on; a step that is repeated takes a clock each time",
    "the bus: one access at a time, held until it is ready",
    "which words of the step are the instruction, its address, and the parts of an access",
    "the state after reset",
    "that the array's entries are memory words, and that an index that names none reads 0",
)
"""What of a core does not come from the black box."""


@dataclass(frozen=True, slots=True)
class Roles:
    """Which words of a step are the bus's.

    ``store`` has a bit for each lane of ``store_data`` that is written, or one bit. All other inputs that are not state
    come from outside and are looked at when an instruction is fetched; all other outputs are shown while it retires.
    ``reset`` are state words that do not begin as 0.
    """

    instruction: str = "instruction"
    pc: str = "pc"
    address: str = "address"
    load: str = "load"
    load_data: str = "load_data"
    store: str = "store_mask"
    store_data: str = "store_data"
    reset: Mapping[str, int] = field(default_factory=dict[str, int])


RV32 = Roles(reset={"machine_mode": 1})
"""The processor's, for all variants: it starts in M mode."""


def core(
    form: PortForm, roles: Roles = RV32, step: str = "step", name: str = "core", folds: Sequence[Fold] = ()
) -> str:
    """Verilog of the modules ``name`` and ``name_ARRAY``, around a module ``step`` with the words of the port form.

    Where the step has folds, ``step`` has their words too (`folds.Folded.netlist`), and each fold's step is a module of
    its name. If instructions are as wide as data and their addresses as those of data, both go over one bus, else
    instructions have a bus of their own (``fetch_...``).

    Raises:
        UserError: a word that the roles name and the step lacks, or state of another name.
    """
    return _Core(form, roles, step, name, folds).text()


class _Core:
    def __init__(self, form: PortForm, roles: Roles, step: str, name: str, folds: Sequence[Fold]) -> None:
        self.form, self.roles, self.step, self.name, self.folds = form, roles, step, name, folds
        words = form.interface
        self.inputs = {word.name: word.width for word in words.inputs}
        self.outputs = {word.name: word.width for word in words.outputs}
        ports = {array.read_word(index).name for array in form.arrays for index in range(len(array.reads))}
        stored = {
            word.name for array in form.arrays for index in range(len(array.writes))
            for word in (array.write_word(index), array.enable_word(index)) if word
        }  # fmt: skip
        self.state = [word for word in words.inputs if word.name + NEXT in self.outputs]
        self._check()
        used = {roles.instruction, roles.load_data, *ports, *(word.name for word in self.state)}
        self.lines = [word for word in words.inputs if word.name not in used]
        used = {roles.address, roles.load, roles.store, roles.store_data, *stored}
        self.shown = [word for word in words.outputs if word.name not in used and not word.name.endswith(NEXT)]
        self.shared = (
            self.inputs[roles.instruction] == self.inputs[roles.load_data]
            and self.inputs[roles.pc] == self.outputs[roles.address]
        )

    def _check(self) -> None:
        roles = self.roles
        for name, words in (
            *((name, self.inputs) for name in (roles.instruction, roles.pc, roles.load_data)),
            *((name, self.outputs) for name in (roles.address, roles.load, roles.store, roles.store_data)),
        ):
            if name not in words:
                raise UserError(f"the step has no word {name!r}", "core", "name its words in the roles")
        for name in (roles.pc, *roles.reset):
            if name not in {word.name for word in self.state} and name not in roles.reset:
                raise UserError(f"{name!r} is not state", "core", f"let the step have an output {name}{NEXT}")

    def text(self) -> str:
        parts = [self._head(), *self._wires(), *self._sequencer(), *self._step()]
        for fold in self.folds:
            parts += _fold_unit(fold)
        parts += [*self._registers(), "endmodule", ""]
        return "\n".join(
            [*parts, *(_register_file(self.form, array, f"{self.name}_{array.name}") for array in self.form.arrays)]
        )

    def _head(self) -> str:
        roles = self.roles
        data, address = self.inputs[roles.load_data], self.outputs[roles.address]
        fetch = [] if self.shared else [
            f"    output {_range(self.inputs[roles.pc])}fetch_address,",
            "    output fetch_read,",
            f"    input {_range(self.inputs[roles.instruction])}fetch_data,",
            "    input fetch_ready,",
        ]  # fmt: skip
        return "\n".join([
            f"// A core around the module {self.step}, written by tapeout design; docs/processor.md describes the bus.",
            f"module {self.name} #(", f"    parameter {_range(self.inputs[roles.pc])}RESET = 0", ") (",
            "    input clk,", "    input reset,",
            f"    output {_range(address)}bus_address,", "    output bus_read,",
            f"    output {_range(self.outputs[roles.store])}bus_write,",
            f"    output {_range(self.outputs[roles.store_data])}bus_write_data,",
            f"    input {_range(data)}bus_read_data,", "    input bus_ready,", *fetch,
            *(f"    input {_range(word.width)}{_plain(word.name)}," for word in self.lines),
            *(f"    output {_range(word.width)}{_plain(word.name)}," for word in self.shown),
            "    output retire", ");",
        ])  # fmt: skip

    def _wires(self) -> list[str]:
        roles = self.roles
        lines = ["  // State, and what the step makes of it."]
        for word in self.state:
            lines.append(f"  reg {_range(word.width)}s_{_plain(word.name)};")
            lines.append(f"  wire {_range(word.width)}n_{_plain(word.name)};")
        lines += [
            f"  reg {_range(self.inputs[roles.instruction])}instruction_held;",
            f"  reg {_range(self.inputs[roles.load_data])}loaded;",
            *(f"  reg {_range(word.width)}h_{_plain(word.name)};" for word in self.lines),
            f"  wire {_range(self.outputs[roles.address])}step_address;",
            f"  wire {_range(self.outputs[roles.store])}step_store;",
            f"  wire {_range(self.outputs[roles.store_data])}step_store_data;",
            "  wire step_load;",
        ]
        for array in self.form.arrays:
            for word in _port_words(array):
                lines.append(f"  wire {_range(word.width)}p_{_plain(word.name)};")
        for fold in self.folds:
            lines += [f"  wire {_range(word.width)}{_plain(word.name)};" for word in fold.asks]
            lines += [f"  reg {_range(word.width)}{_plain(word.name)};" for word in (*fold.answers, *_own(fold))]
        return lines

    def _sequencer(self) -> list[str]:
        pc = f"s_{_plain(self.roles.pc)}"
        bus, ready, data = (
            ("bus", "bus_ready", "bus_read_data") if self.shared else ("fetch", "fetch_ready", "fetch_data")
        )
        read = "fetching | loading" if self.shared else "loading"
        address = f"fetching ? {pc} : step_address" if self.shared else "step_address"
        resets = {self.roles.pc: "RESET"} | {name: str(value) for name, value in self.roles.reset.items()}
        return [
            "", "  // Fetch; execute, which may load first; then store, or nothing; then the next state is taken.",
            "  localparam FETCH = 2'd0, EXECUTE = 2'd1, LOADED = 2'd2;",
            "  reg [1:0] phase;",
            "  wire fetching = phase == FETCH;",
            "  wire loading = phase == EXECUTE & step_load;",
            "  wire settled = phase == LOADED | phase == EXECUTE & ~step_load;",
            *(f"  wire {fold.name}_busy = settled & {fold.name}_used & {fold.name}_count != {fold.steps + 1};"
              for fold in self.folds),
            f"  wire ending = {' & '.join(['settled', *(f'~{fold.name}_busy' for fold in self.folds)])};",
            "  wire storing = ending & |step_store;",
            "  assign retire = ending & (~storing | bus_ready);",
            f"  assign bus_read = {read};",
            f"  assign bus_address = {address};",
            f"  assign bus_write = storing ? step_store : {self.outputs[self.roles.store]}'d0;",
            "  assign bus_write_data = step_store_data;",
            *([] if bus == "bus" else ["  assign fetch_read = fetching;", f"  assign fetch_address = {pc};"]),
            "  always @(posedge clk)", "    if (reset) begin", "      phase <= FETCH;",
            *(f"      s_{_plain(word.name)} <= {resets.get(word.name, '0')};" for word in self.state),
            "    end else begin",
            f"      if (fetching & {ready}) begin", "        phase <= EXECUTE;", f"        instruction_held <= {data};",
            *(f"        h_{_plain(word.name)} <= {_plain(word.name)};" for word in self.lines), "      end",
            "      if (loading & bus_ready) begin", "        phase <= LOADED;", "        loaded <= bus_read_data;",
            "      end", "      if (retire) begin", "        phase <= FETCH;",
            *(f"        s_{_plain(word.name)} <= n_{_plain(word.name)};" for word in self.state),
            "      end", "    end",
        ]  # fmt: skip

    def _step(self) -> list[str]:
        roles = self.roles
        nets = {roles.instruction: "instruction_held", roles.load_data: "loaded"}
        nets |= {word.name: f"s_{_plain(word.name)}" for word in self.state}
        nets |= {word.name: f"h_{_plain(word.name)}" for word in self.lines}
        nets |= {word.name + NEXT: f"n_{_plain(word.name)}" for word in self.state}
        nets |= {word.name: _plain(word.name) for word in self.shown}
        nets |= {word.name: f"p_{_plain(word.name)}" for array in self.form.arrays for word in _port_words(array)}
        nets |= {
            roles.address: "step_address", roles.load: "step_load", roles.store: "step_store",
            roles.store_data: "step_store_data",
        }  # fmt: skip
        interface = with_folds(self.form.interface, tuple(self.folds))
        nets |= {word.name: _plain(word.name) for fold in self.folds for word in (*fold.answers, *fold.asks)}
        words = (*interface.inputs, *interface.outputs)
        pins = [f"    .{identifier(word)}({nets[word.name]})" for word in words]
        return ["", f"  {self.step} logic_ (", ",\n".join(pins), "  );"]

    def _registers(self) -> list[str]:
        lines: list[str] = []
        for array in self.form.arrays:
            pins = ["    .clk(clk)"]
            for kind, ports in (("read", array.reads), ("write", array.writes)):
                for index, port in enumerate(ports):
                    if port.bits:
                        pins.append(f"    .{kind}{index}_index({self._index(port)})")
            for index in range(len(array.reads)):
                pins.append(f"    .read{index}(p_{_plain(array.read_word(index).name)})")
            for index in range(len(array.writes)):
                enable = array.enable_word(index)
                store = f"retire & p_{_plain(enable.name)}" if enable else "retire"
                pins.append(f"    .write{index}(p_{_plain(array.write_word(index).name)})")
                pins.append(f"    .write{index}_enable({store})")
            lines += ["", f"  {self.name}_{array.name} {array.name}_ (", ",\n".join(pins), "  );"]
        return lines

    def _index(self, port: Port) -> str:
        """The bits that a port is named by, of the nets that carry them."""
        nets: list[str] = []
        for word in self.form.whole.inputs:
            name = "instruction_held" if word.name == self.roles.instruction else f"s_{_plain(word.name)}"
            if word in self.lines:
                name = f"h_{_plain(word.name)}"
            nets += [name if word.width == 1 else f"{name}[{bit}]" for bit in range(word.width)]
        return f"{{{', '.join(nets[bit] for bit in reversed(port.bits))}}}"


def _own(fold: Fold) -> list[Word]:
    """Registers of a fold beside its answers: clocks so far, and the bits to come where no record takes their place."""
    return [Word(f"{fold.name}.count", (fold.steps + 1).bit_length()), *([] if fold.shows else [_bits(fold)])]


def _bits(fold: Fold) -> Word:
    """The bits to come, from the top; behind them, from below, what was shown."""
    return Word(f"{fold.name}.{'record' if fold.shows else 'bits'}", fold.steps)


def _fold_unit(fold: Fold) -> list[str]:
    """A clock to take in the word, then one for each bit."""
    name, bits, top = fold.name, _plain(_bits(fold).name), fold.steps - 1
    pins = {BIT: f"{bits}[{top}]" if top else bits, STATE: f"{name}_state", NEXT_STATE: f"{name}_next"}
    pins |= {OPERAND: f"{name}_operand", SHOWN: f"{name}_shown"}
    words = (*fold.step.interface.inputs, *fold.step.interface.outputs)
    lowest = f"{name}_shown" if fold.shows else "1'b0"
    return [
        "", f"  // {name}: its step once a clock.", f"  wire {_range(fold.state)}{name}_next;",
        *([f"  wire {name}_shown;"] if fold.shows else []),
        f"  {name} {name}_ (", ",\n".join(f"    .{identifier(word)}({pins[word.name]})" for word in words), "  );",
        "  always @(posedge clk)", f"    if (reset | retire) {name}_count <= 0;",
        f"    else if ({name}_busy) begin", f"      {name}_count <= {name}_count + 1;",
        f"      {name}_state <= {name}_count == 0 ? 0 : {name}_next;",
        f"      {bits} <= {name}_count == 0 ? {name}_over : {{{bits}, {lowest}}};", "    end",
    ]  # fmt: skip


def storage(array: Array) -> list[int]:
    """Where each entry of an array stands in its memory: at its code if all ports agree on the codes."""
    tables = {port.table for port in (*array.reads, *array.writes) if port.bits}
    if len(tables) == 1:
        table = tables.pop()
        if all(table.count(entry) == 1 for entry in range(len(array.words))):
            return [table.index(entry) for entry in range(len(array.words))]
    return list(range(len(array.words)))


def _register_file(form: PortForm, array: Array, name: str) -> str:
    """A memory that is read at once and written with the clock."""
    places = storage(array)
    bits = max(1, max(places).bit_length())
    head: list[str] = ["    input clk"]
    body = [f"  reg {_range(array.width)}words [{min(places)}:{max(places)}];"]
    writes: list[str] = []
    for kind, ports in (("read", array.reads), ("write", array.writes)):
        for index, port in enumerate(ports):
            signal = f"{kind}{index}"
            if port.bits:
                head.append(f"    input {_range(len(port.bits))}{signal}_index")
            place, exists = _place(port, places, signal, bits, body)
            if kind == "read":
                head.append(f"    output {_range(array.width)}{signal}")
                value = f"words[{place}]"
                zero = f"{array.width}'d0"
                body.append(f"  assign {signal} = {f'{exists} ? {value} : {zero}' if exists else value};")
            else:
                head += [f"    input {_range(array.width)}{signal}", f"    input {signal}_enable"]
                condition = f"{signal}_enable{f' & {exists}' if exists else ''}"
                writes.append(f"    if ({condition}) words[{place}] <= {signal};")
    lines = [
        f"// Array {array.name}: {len(array.words)} entries; later writes win.",
        f"module {name} (", ",\n".join(head), ");", *body, "  always @(posedge clk) begin", *writes, "  end",
        "endmodule", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _place(port: Port, places: list[int], signal: str, bits: int, body: list[str]) -> tuple[str, str]:
    """Where a port reads or writes, and the condition that there is such an entry (empty: always)."""
    if not port.bits:
        return str(places[port.table[0]]), ""
    index = f"{signal}_index"
    width = len(port.bits)
    missing = [code for code, entry in enumerate(port.table) if entry == NOTHING]
    exists = " & ".join(f"({index} != {width}'d{code})" for code in missing) if len(missing) <= 4 else ""
    if len(missing) > 4:
        cases = " | ".join(f"({index} == {width}'d{code})" for code in range(1 << width) if code not in missing)
        exists = f"({cases})"
    if all(entry in (NOTHING, -1) or places[entry] == code for code, entry in enumerate(port.table)):
        return index, exists
    body += [f"  reg {_range(bits)}{signal}_place;", "  always @*", f"    case ({index})"]
    body += [
        f"      {width}'d{code}: {signal}_place = {bits}'d{places[entry]};"
        for code, entry in enumerate(port.table) if entry != NOTHING
    ]  # fmt: skip
    body += [f"      default: {signal}_place = {bits}'d{min(places)};", "    endcase"]
    return f"{signal}_place", exists


def _port_words(array: Array) -> list[Word]:
    words = [array.read_word(index) for index in range(len(array.reads))]
    for index in range(len(array.writes)):
        enable = array.enable_word(index)
        words += [array.write_word(index), *([enable] if enable else [])]
    return words


def _plain(name: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in name)


def _range(width: int) -> str:
    return f"[{width - 1}:0] " if width > 1 else ""
