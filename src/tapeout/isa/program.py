"""A program: descriptors, semaphores and one command tree that every core runs (core number in slot 0)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tapeout.isa.commands import AnyCommand, If, Loop, Node, While
from tapeout.isa.operands import Tensor


@dataclass(frozen=True, slots=True)
class Kernel:
    """What a report says of the commands that carry its number: a name and the source operations it came from."""

    name: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Binding:
    """Ties a tensor of the program to the outside: `role` is input, output, state or constant."""

    name: str
    tensor: int
    role: str


@dataclass(frozen=True, slots=True)
class Program:
    """`semaphores` holds initial values, each core having its own set; `dram_bytes` is the size of the DRAM image."""

    name: str
    chip: str
    cores: int
    tensors: tuple[Tensor, ...]
    slots: tuple[str, ...]
    semaphores: tuple[int, ...]
    body: tuple[Node, ...]
    kernels: tuple[Kernel, ...] = (Kernel("program", ()),)
    bindings: tuple[Binding, ...] = ()
    dram_bytes: int = 0
    peaks: dict[str, int] = field(default_factory=dict[str, int])
    """Most bytes in use at once per memory, by name."""


def commands(nodes: tuple[Node, ...]) -> Iterator[AnyCommand]:
    """Every command of a tree, once each, in program order."""
    for node in nodes:
        match node:
            case Loop() | While():
                yield from commands(node.body)
            case If():
                yield from commands(node.body)
                yield from commands(node.orelse)
            case _:
                if hasattr(node, "kernel"):
                    yield node  # pyright: ignore[reportReturnType] only commands carry a kernel number
