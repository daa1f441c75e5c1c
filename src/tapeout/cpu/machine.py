"""A machine around a step: memory, timer and software interrupts, and a device that ends the run.

The step is any function over rows with the words of `rv32_interface`, in either form: the oracle, a learned netlist.
One step is two questions at most, for the address of a load must be known before its data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tapeout.circuit.words import NEXT, Interface, Rows, Word, row_words
from tapeout.errors import SimError

CLINT = 0x2000000
FINISHER = 0x100000
"""Addresses of the devices, where QEMU's `virt` machine has them."""

_POWER_OFF = 0x5555


class Device(Protocol):
    """Something on the bus that takes `size` bytes of addresses."""

    size: int

    def read(self, offset: int) -> int:
        """The word at a multiple of four."""
        ...

    def write(self, offset: int, data: int, mask: int) -> None:
        """Writes the bytes of the word whose bits are set in `mask`."""
        ...


def _merge(old: int, data: int, mask: int) -> int:
    lanes = sum(0xFF << 8 * lane for lane in range(4) if mask >> lane & 1)
    return old & ~lanes | data & lanes


class Memory:
    """Bytes that can be read and written."""

    def __init__(self, size: int, image: bytes = b"") -> None:
        self.size = size
        self.data = bytearray(image.ljust(size, b"\0"))

    def read(self, offset: int) -> int:
        return int.from_bytes(self.data[offset : offset + 4], "little")

    def write(self, offset: int, data: int, mask: int) -> None:
        self.data[offset : offset + 4] = _merge(self.read(offset), data, mask).to_bytes(4, "little")


class Clint:
    """Timer and software interrupt of one hart, SiFive's layout: msip 0, mtimecmp 0x4000, mtime 0xbff8."""

    size = 0x10000

    def __init__(self) -> None:
        self.msip = 0
        self.mtime = 0
        self.mtimecmp = (1 << 64) - 1

    @property
    def software_interrupt(self) -> bool:
        return bool(self.msip & 1)

    @property
    def timer_interrupt(self) -> bool:
        return self.mtime >= self.mtimecmp

    def read(self, offset: int) -> int:
        match offset:
            case 0:
                return self.msip
            case 0x4000 | 0x4004:
                return self.mtimecmp >> 8 * (offset & 4) & 0xFFFFFFFF
            case 0xBFF8 | 0xBFFC:
                return self.mtime >> 8 * (offset & 4) & 0xFFFFFFFF
            case _:
                return 0

    def write(self, offset: int, data: int, mask: int) -> None:
        shift = 8 * (offset & 4)
        word = _merge(self.read(offset), data, mask)
        match offset:
            case 0:
                self.msip = word & 1
            case 0x4000 | 0x4004:
                self.mtimecmp = self.mtimecmp & ~(0xFFFFFFFF << shift) | word << shift
            case 0xBFF8 | 0xBFFC:
                self.mtime = self.mtime & ~(0xFFFFFFFF << shift) | word << shift
            case _:
                pass


class Finisher:
    """Ends the run when 0x5555 is written, as QEMU's test device powers the machine off."""

    size = 0x1000

    def __init__(self) -> None:
        self.finished = False

    def read(self, offset: int) -> int:
        return 0

    def write(self, offset: int, data: int, mask: int) -> None:
        self.finished |= _merge(0, data, mask) == _POWER_OFF


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step did: where it was, what it executed, whether it trapped, its access (mask 0: no store)."""

    pc: int
    instruction: int
    trap: bool
    load: bool
    address: int
    store_mask: int
    store_data: int


class _Packer:
    """Words as one integer per row and back."""

    def __init__(self, words: tuple[Word, ...]) -> None:
        self.fields: list[tuple[str, int, int]] = []
        at = 0
        for word in words:
            self.fields.append((word.name, at, (1 << word.width) - 1))
            at += word.width
        self.bytes = 8 * row_words(at)

    def pack(self, values: Mapping[str, int]) -> Rows:
        row = 0
        for name, at, _ in self.fields:
            row |= values[name] << at
        return np.frombuffer(row.to_bytes(self.bytes, "little"), "<u8").astype(np.uint64, copy=False).reshape(1, -1)

    def unpack(self, rows: Rows) -> dict[str, int]:
        row = int.from_bytes(rows.astype("<u8", copy=False).tobytes(), "little")
        return {name: row >> at & mask for name, at, mask in self.fields}


class Machine:
    """Runs a step over devices on a bus.

    ``state`` holds the words besides the registers (``pc``, ``reservation``, ``mtvec``, ...), ``x[32]`` the registers.
    It starts as the manual resets a hart: M mode, interrupts off; all else is zero. The timer counts steps.
    """

    def __init__(
        self, step: Callable[[Rows], Rows], interface: Interface, devices: Mapping[int, Device], pc: int = 0
    ) -> None:
        names = {word.name for word in interface.inputs}
        self.devices = dict(devices)
        self.clint = next((device for device in devices.values() if isinstance(device, Clint)), None)
        self.state = {word.name.removesuffix(NEXT): 0 for word in interface.outputs if word.name.endswith(NEXT)}
        self.state = {name: value for name, value in self.state.items() if not name.startswith("x[")}
        self.state["pc"] = pc
        if "machine_mode" in self.state:
            self.state["machine_mode"] = 1
        self.x = [0] * 32
        self.steps = 0
        self._step = step
        self._ports = "rs1" in names
        self._lines = "timer_interrupt" in names
        self._inputs = _Packer(interface.inputs)
        self._outputs = _Packer(interface.outputs)

    def step(self) -> Outcome:
        """One instruction, trap or interrupt. `SimError` for an address where nothing is."""
        pc = self.state["pc"]
        instruction = self.read(pc & ~3)
        words = {**self.state, "instruction": instruction, "load_data": 0}
        if self._lines:
            words["software_interrupt"] = self.clint is not None and self.clint.software_interrupt
            words["timer_interrupt"] = self.clint is not None and self.clint.timer_interrupt
        if self._ports:
            words |= {"rs1": self.x[instruction >> 15 & 31], "rs2": self.x[instruction >> 20 & 31]}
        else:
            words |= {f"x[{i}]": self.x[i] for i in range(1, 32)}
        out = self._outputs.unpack(self._step(self._inputs.pack(words)))
        if out["load"]:
            words["load_data"] = self.read(out["address"])
            out = self._outputs.unpack(self._step(self._inputs.pack(words)))
        self._commit(instruction, out)
        return Outcome(
            *(pc, instruction, bool(out["trap"]), bool(out["load"])),
            *(out["address"], out["store_mask"], out["store_data"]),
        )

    def _commit(self, instruction: int, out: Mapping[str, int]) -> None:
        if out["store_mask"]:
            device, offset = self._find(out["address"])
            device.write(offset, out["store_data"], out["store_mask"])
        for name in self.state:
            self.state[name] = out[name + NEXT]
        if not self._ports:
            self.x[1:] = [out[f"x[{i}]{NEXT}"] for i in range(1, 32)]
        elif out["rd_write"] and instruction >> 7 & 31:
            self.x[instruction >> 7 & 31] = out["rd"]
        self.steps += 1
        if self.clint is not None:
            self.clint.mtime = self.clint.mtime + 1 & (1 << 64) - 1

    def run(self, limit: int, *, stop_on_trap: bool = False) -> bool:
        """Steps until a `Finisher` ends the run or, if asked, an instruction traps; False after `limit` steps."""
        finishers = [device for device in self.devices.values() if isinstance(device, Finisher)]
        for _ in range(limit):
            if self.step().trap and stop_on_trap:
                return True
            if any(device.finished for device in finishers):
                return True
        return False

    def read(self, address: int) -> int:
        """The word at a multiple of four, as the bus delivers it."""
        device, offset = self._find(address)
        return device.read(offset)

    def _find(self, address: int) -> tuple[Device, int]:
        for base, device in self.devices.items():
            if base <= address < base + device.size:
                return device, address - base
        raise SimError("nothing answers on the bus", address=address, cycle=self.steps)
