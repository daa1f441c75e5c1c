"""The assembler: reads the text form of programs that `asm.py` writes and describes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TypeVar

from tapeout.errors import UserError
from tapeout.ir.types import DType
from tapeout.isa import commands as c
from tapeout.isa.encode import COMPUTE
from tapeout.isa.operands import Affine, Immediate, Post, Source, Tensor, Term, View, Wait
from tapeout.isa.program import Binding, Kernel, Program

_T = TypeVar("_T")

NAME = re.compile(r"[A-Za-z_][\w.]*")
_TOKEN = re.compile(r'\s*(->|<-|"(?:[^"\\]|\\.)*"|\$\d+|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|-inf|[A-Za-z_][\w.]*|\S)')


class Parser:
    """Reads what `text` writes. `UserError` names the line."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.tokens = [(m[1], m.start(1)) for m in _TOKEN.finditer(source)]
        self.at = 0
        self.slots: dict[str, int] = {}
        self.tensors: dict[str, int] = {}

    def fail(self, what: str) -> UserError:
        place = self.tokens[self.at - 1][1] if self.at and self.tokens else 0
        line = self.source.count("\n", 0, place) + 1
        return UserError(what, f"line {line}", "see tapeout.isa.asm for the form")

    # ---- tokens

    @property
    def ahead(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def next(self) -> str:
        if self.at >= len(self.tokens):
            raise self.fail("the text ends early")
        self.at += 1
        return self.tokens[self.at - 1][0]

    def took(self, word: str) -> bool:
        """Whether `word` comes next; takes it then."""
        found = self.ahead == word
        self.at += found
        return found

    def expect(self, *words: str) -> None:
        for word in words:
            if (found := self.next()) != word:
                raise self.fail(f"`{found}` where `{word}` should be")

    def number(self) -> int:
        token = self.next()
        try:
            return int(token)
        except ValueError:
            raise self.fail(f"`{token}` where a whole number should be") from None

    def real(self) -> float:
        token = self.next()
        try:
            return float(token)
        except ValueError:
            raise self.fail(f"`{token}` where a number should be") from None

    def name(self) -> str:
        token = self.next()
        return str(json.loads(token)) if token.startswith('"') else token

    def pick(self, table: dict[str, int]) -> int:
        token = self.next()
        found = int(token[1:]) if token.startswith("$") else table.get(token, -1)
        if found < 0:
            raise self.fail(f"`{token}` is not declared")
        return found

    def items(self, item: Callable[[], _T], *ends: str) -> tuple[_T, ...]:
        """Comma-separated items up to one of `ends`, which stays."""
        found: list[_T] = []
        while self.ahead not in ends:
            found.append(item())
            if not self.took(","):
                break
        return tuple(found)

    # ---- operands

    def dtype(self) -> DType:
        token = self.next()
        try:
            return DType(token)
        except ValueError:
            raise self.fail(f"`{token}` is no element type") from None

    def affine(self) -> Affine:
        const, terms = 0, list[Term]()
        while True:
            if re.fullmatch(r"-?\d+", self.ahead):
                value = self.number()
                if self.took("*"):
                    terms.append(self._term(value))
                else:
                    const = value
            else:
                terms.append(self._term(1))
            if not self.took("+"):
                return Affine(const, tuple(terms))

    def _term(self, coef: int) -> Term:
        if not self.took("("):
            return Term(self.pick(self.slots), coef)
        slot = self.pick(self.slots)
        div = self.number() if self.took("/") else 1
        mod = self.number() if self.took("%") else 0
        self.expect(")")
        return Term(slot, coef, div, mod)

    def sizes(self) -> tuple[int, ...]:
        self.expect("(")
        found = self.items(self.number, ")")
        self.expect(")")
        return found

    def view(self) -> View:
        memory = self.next()
        if not re.fullmatch(r"m\d+", memory):
            raise self.fail(f"`{memory}` where a view should be")
        self.expect("[")
        base = self.affine()
        self.expect("|")
        strides = self.items(self.number, "]")
        self.expect("]", ":")
        return View(int(memory[1:]), base, strides, self.dtype())

    def source_operand(self) -> Source:
        if not self.took("#"):
            return self.view()
        value = self.real()
        self.expect(":")
        return Immediate(value, self.dtype())

    def box(self) -> tuple[int, tuple[Affine, ...], tuple[int, ...], Affine]:
        tensor = self.pick(self.tensors)
        self.expect("[")
        origin = self.items(self.affine, "|")
        self.expect("|")
        extents = self.items(self.number, "]")
        self.expect("]", "+")
        return tensor, origin, extents, self.affine()

    def index(self) -> c.Index | None:
        return c.Index(self.number(), self.view()) if self.took("index") else None

    def waits(self) -> tuple[Wait, ...]:
        def one() -> Wait:
            return Wait(self.number(), self.number() if self.took(":") else 1)

        return self.items(one) if self.took("wait") else ()

    def posts(self) -> tuple[Post, ...]:
        def one() -> Post:
            semaphore, cluster = self.number(), self.took("@")
            return Post(semaphore, self.number() if self.took(":") else 1, cluster)

        return self.items(one) if self.took("post") else ()

    # ---- nodes

    def block(self) -> tuple[c.Node, ...]:
        self.expect("{")
        nodes: list[c.Node] = []
        while not self.took("}"):
            nodes.append(self.node())
        return tuple(nodes)

    def node(self) -> c.Node:
        match word := self.next():
            case "for":
                slot = self.pick(self.slots)
                self.expect("in")
                return c.Loop(slot, self.affine(), self.block())
            case "while":
                return c.While(self.affine(), self.block())
            case "if":
                return c.If(self.affine(), self.block(), self.block() if self.took("else") else ())
            case "barrier":
                chip = self.next() == "chip"
                self.expect("(")
                queues = self.items(self.queue, ")")
                self.expect(")")
                return c.Barrier(chip, queues)
            case "set" | "scalar":
                slot = self.pick(self.slots)
                self.expect("=")
                return c.Set(slot, self.affine()) if word == "set" else c.LoadScalar(slot, self.view(), self.waits())
            case _:
                return self.command(word)

    def queue(self) -> int:
        name = self.next()
        if name not in c.Queue.__members__:
            raise self.fail(f"`{name}` is no queue")
        return int(c.Queue[name])

    def command(self, word: str) -> c.AnyCommand:
        make = self._operands(word)
        waits, posts = self.waits(), self.posts()
        self.expect("kernel")
        return make(waits, posts, self.number())

    def _operands(self, word: str) -> Callable[[tuple[Wait, ...], tuple[Post, ...], int], c.AnyCommand]:
        """The command but for its order and kernel, which come last in the text."""
        match word:
            case "load":
                box = self.box()
                self.expect("->")
                moved = (*box, self.view(), self.took("multicast"), self.index())
                return lambda w, p, k: c.Load(*moved, waits=w, posts=p, kernel=k)
            case "store":
                local = self.view()
                self.expect("->")
                stored = (*self.box(), local, self.took("adding"), self.index())
                return lambda w, p, k: c.Store(*stored, waits=w, posts=p, kernel=k)
            case "copy":
                dims, dst = self.sizes(), self.view()
                self.expect("<-")
                src = self.view()
                return lambda w, p, k: c.Copy(dims, dst, src, waits=w, posts=p, kernel=k)
            case "drain":
                return self._drain()
            case "matmul":
                return self._matmul()
            case "vector":
                return self._vector()
            case "nop":
                queue = self.queue()
                return lambda w, p, k: c.Nop(queue, waits=w, posts=p, kernel=k)
            case _:
                raise self.fail(f"`{word}` is no command")

    def _drain(self) -> Callable[[tuple[Wait, ...], tuple[Post, ...], int], c.AnyCommand]:
        dims, dst = self.sizes(), self.view()
        self.expect("<-")
        acc = self.view()
        self.expect("scale")
        scale = self.source_operand()
        self.expect("bias")
        bias = self.source_operand()
        self.expect("lo")
        lo = self.real()
        self.expect("hi")
        hi = self.real()
        self.expect("zero")
        zero = self.number()
        return lambda w, p, k: c.Drain(dims, dst, acc, scale, bias, lo, hi, zero, waits=w, posts=p, kernel=k)

    def _matmul(self) -> Callable[[tuple[Wait, ...], tuple[Post, ...], int], c.AnyCommand]:
        self.expect("(")
        m = self.items(self.number, "|")
        self.expect("|")
        n = self.number()
        self.expect("|")
        k = self.items(self.number, ")")
        self.expect(")")
        out = self.view()
        self.expect("<-")
        left = self.view()
        self.expect(",")
        right = self.view()
        self.expect("add")
        add = self.affine()
        return lambda w, p, kernel: c.MatMul(m, n, k, left, right, out, add, waits=w, posts=p, kernel=kernel)

    def _vector(self) -> Callable[[tuple[Wait, ...], tuple[Post, ...], int], c.AnyCommand]:
        op, compute, dims, dst = self.next(), self.next(), self.sizes(), self.view()
        if op not in c.VECTOR_OPS or compute not in COMPUTE:
            raise self.fail(f"`{op} {compute}` is no vector operation")
        self.expect("<-", "(")
        srcs = self.items(self.source_operand, ")")
        self.expect(")", "reduced")
        reduced = self.number()
        self.expect("add")
        add = self.affine()
        return lambda w, p, k: c.Vector(op, compute, dims, dst, srcs, reduced, add, waits=w, posts=p, kernel=k)

    # ---- the program

    def tensor(self) -> Tensor:
        name = self.name()
        self.expect(":")
        dtype, extents = self.dtype(), self.sizes()
        self.expect("strides")
        strides = self.sizes()
        self.expect("at")
        space = self.number()
        self.expect(":")
        base = self.number()
        self.expect("fill")
        return Tensor(name, space, base, dtype, extents, strides, self.real())

    def kernel(self) -> Kernel:
        name = self.name()
        return Kernel(name, self.items(self.name) if self.took("of") else ())

    def binding(self) -> Binding:
        name, tensor = self.name(), self.pick(self.tensors)
        self.expect("as")
        return Binding(name, tensor, self.name())

    def program(self) -> Program:
        self.expect("program")
        name = self.name()
        self.expect("for")
        chip = self.name()
        self.expect("on")
        cores = self.number()
        self.expect("cores", "dram")
        dram = self.number()
        self.expect("slots")
        slots = self.items(self.name)
        self.expect("semaphores")
        semaphores = self.items(self.number, "tensor", "kernel", "bind", "peak", "body")
        tensors = self._section("tensor", self.tensor)
        self.slots = {slot: i for i, slot in enumerate(slots) if slots.count(slot) == 1}
        names = [tensor.name for tensor in tensors]
        self.tensors = {tensor: i for i, tensor in enumerate(names) if names.count(tensor) == 1}
        kernels = self._section("kernel", self.kernel)
        bindings = self._section("bind", self.binding)
        peaks = dict(self._section("peak", lambda: (self.name(), self.number())))
        self.expect("body")
        body = self.block()
        if self.at < len(self.tokens):
            raise self.fail(f"`{self.next()}` after the end of the program")
        return Program(name, chip, cores, tensors, slots, semaphores, body, kernels, bindings, dram, peaks)

    def _section(self, word: str, item: Callable[[], _T]) -> tuple[_T, ...]:
        found: list[_T] = []
        while self.took(word):
            found.append(item())
        return tuple(found)


def parse(source: str) -> Program:
    """The program that `asm.text` wrote as `source`; `UserError` with the line where it is not of that form."""
    return Parser(source).program()
