"""QEMU's 32-bit RISC-V machine, stepped and inspected through its gdb stub. Standard library only.

Protocol: *Debugging with GDB*, appendix E; stepping with interrupts on is QEMU's own packet `Qqemu.sstep`.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

COMMAND = "qemu-system-riscv32"

SCRATCH = 0x80FFFF00
STATE_CSRS = ("mstatus", "mie", "mtvec", "mscratch", "mepc", "mcause", "mtval")


def version() -> str:
    """QEMU's version; `SystemExit` if it is not installed."""
    if shutil.which(COMMAND) is None:
        raise SystemExit(f"{COMMAND} is not installed; apt-get install qemu-system-misc")
    out = subprocess.run([COMMAND, "--version"], capture_output=True, text=True, check=True).stdout
    return out.split()[3]


class Qemu:
    """One machine `virt` with its memory at 0x80000000, stopped; RV32IA or RV32IMA with M and U mode and no more."""

    def __init__(self, *, multiply: bool) -> None:
        self._directory = tempfile.TemporaryDirectory()
        path = Path(self._directory.name) / "gdb"
        off = "c f d v h s zba zbb zbc zbs mmu pmp".split() + ([] if multiply else ["m"])
        cpu = ",".join(["rv32", "marchid=0", "mimpid=0", *(f"{name}=off" for name in off)])
        options = f"-M virt -bios none -cpu {cpu} -m 16 -display none -serial none -monitor none -S"
        gdb = ["-gdb", f"unix:{path},server=on,wait=off"]
        self._process = subprocess.Popen([COMMAND, *options.split(), *gdb], stdin=subprocess.DEVNULL)
        self._socket = socket.socket(socket.AF_UNIX)
        for _ in range(100):
            try:
                self._socket.connect(str(path))
                break
            except OSError:
                time.sleep(0.05)
        self._socket.settimeout(10)
        self._received = b""
        self.ask("?")
        self.ask("QStartNoAckMode")
        self._socket.sendall(b"+")
        # Bit 0: step; without bits 1 and 2 interrupts are taken and timers run while stepping.
        self.ask("Qqemu.sstep=1")
        self._numbers = self._register_numbers()

    def __enter__(self) -> Qemu:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()
        self._socket.close()
        self._directory.cleanup()

    def ask(self, packet: str) -> str:
        """Sends a packet, gives the answer. `RuntimeError` if the stub reports an error."""
        data = packet.encode()
        self._socket.sendall(b"$%s#%02x" % (data, sum(data) & 0xFF))
        answer = self._receive()
        if re.fullmatch(r"E[0-9a-f]{2}", answer):
            raise RuntimeError(f"{packet[:40]}: {answer}")
        return answer

    def _receive(self) -> str:
        while (match := re.search(rb"\$([^#]*)#..", self._received, re.DOTALL)) is None:
            data = self._socket.recv(65536)
            if not data:
                raise RuntimeError("QEMU has closed the connection")
            self._received += data
        self._received = self._received[match.end() :]
        return match[1].decode("latin-1")

    def _register_numbers(self) -> dict[str, int]:
        """Numbers of the registers that the stub describes, by name."""
        self.ask("qSupported:xmlRegisters=riscv")
        numbers: dict[str, int] = {}
        for file in re.findall(r'href="([^"]+)"', self._feature("target.xml")):
            number = len(numbers)
            for name, explicit in re.findall(r'<reg name="(\w+)"[^>]*?(?:regnum="(\d+)")?\s*/>', self._feature(file)):
                number = int(explicit) if explicit else number
                numbers[name] = number
                number += 1
        return numbers

    def _feature(self, file: str) -> str:
        text = ""
        while True:
            part = self.ask(f"qXfer:features:read:{file}:{len(text):x},800")
            text += part[1:]
            if part[0] == "l":
                return text

    def registers(self) -> list[int]:
        """x0 to x31, and pc behind them."""
        data = bytes.fromhex(self.ask("g"))
        return [int.from_bytes(data[i : i + 4], "little") for i in range(0, 33 * 4, 4)]

    def set_registers(self, values: list[int]) -> None:
        """x0 to x31, and pc behind them."""
        self.ask("G" + b"".join(value.to_bytes(4, "little") for value in values).hex())

    def read(self, name: str) -> int:
        """A control register, or the mode as `priv`."""
        return int.from_bytes(bytes.fromhex(self.ask(f"p{self._numbers[name]:x}")), "little")

    def write(self, name: str, value: int) -> None:
        self.ask(f"P{self._numbers[name]:x}={value.to_bytes(4, 'little').hex()}")

    def memory(self, address: int, size: int) -> bytes:
        parts = [self.ask(f"m{address + at:x},{min(0x400, size - at):x}") for at in range(0, size, 0x400)]
        return b"".join(bytes.fromhex(part) for part in parts)

    def set_memory(self, address: int, image: bytes) -> None:
        for at in range(0, len(image), 0x400):
            part = image[at : at + 0x400]
            self.ask(f"M{address + at:x},{len(part):x}:{part.hex()}")

    def store(self, address: int, value: int) -> None:
        """Writes a word of a device, for which the stub's own writes do not reach: by an instruction at `SCRATCH`.

        Spoils x1, x2, pc, the mode, the interrupt enable and the memory at `SCRATCH`.
        """
        self.set_memory(SCRATCH, (0x0020A023).to_bytes(4, "little"))  # sw x2, 0(x1)
        self.write("priv", 3)
        self.write("mstatus", 0)
        self.set_registers([0, address, value, *[0] * 29, SCRATCH])
        self.step()

    def step(self) -> None:
        """One instruction, trap or interrupt."""
        answer = self.ask("s")
        if not answer.startswith(("T05", "S05")):
            raise RuntimeError(f"QEMU stopped with {answer!r} instead of after a step")

    def run(self, breakpoint_address: int) -> None:
        """Runs freely to an address."""
        self.ask(f"Z0,{breakpoint_address:x},4")
        answer = self.ask("c")
        self.ask(f"z0,{breakpoint_address:x},4")
        if not answer.startswith(("T05", "S05")):
            raise RuntimeError(f"QEMU stopped with {answer!r} instead of at the breakpoint")
