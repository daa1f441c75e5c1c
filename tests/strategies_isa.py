"""Random chips and programs for the executors.

The programs are legal in order, not in values: they end (every wait has its post, earlier in program order), boxes may
stick out of their tensors, local addresses overlap freely. All cores run the same tree, some branches by core number.
"""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st

from tapeout.chip import spec
from tapeout.ir.types import DType
from tapeout.isa import commands as c
from tapeout.isa.operands import CORE, Affine, Immediate, Post, Tensor, Term, View, Wait
from tapeout.isa.program import Binding, Kernel, Program

SCALARS = 4000
"""Values given to each core for its `LoadScalar`s."""

CHIP = spec.Chip(
    name="small",
    topology=spec.Topology(cores=1, clock_hz=1e9),
    memories=(spec.Memory("local", 1 << 16, 64, spec.ROLES),),
    matrix=spec.Matrix({"f32": spec.Geometry(1, 8, 8)}, "weight", 8, True, 14),
    vector=spec.Vector({"f32": 8, "i32": 8, "i64": 4}, 4, 2),
    move=spec.Move(8, 3),
    dma=spec.Dma(64.0, 4, 128, 4),
    dram=spec.Dram(1 << 20, 32e9, "", 64, 10, 256),
    control=spec.Control(1, 4, 5),
    multicast=True,
)
"""A chip small enough to count its cycles on paper."""


def _chip(r: Random) -> spec.Chip:
    pick = r.choice
    shared: list[spec.Shared] = []
    if r.random() < 0.5:
        rate, latency = pick([0.0, 16.0, 37.5]), pick([0, 3])
        shared.append(spec.Shared("pool", 1 << 16, rate, pick(spec.SCOPES), "software", latency))
    if r.random() < 0.5:
        rate, latency = pick([0.0, 24.0, 96.0]), pick([0, 7])
        shared.append(spec.Shared("cache", pick([600, 4000]), rate, pick(["cluster", "chip"]), "hardware", latency))
    return spec.Chip(
        name="random",
        topology=spec.Topology(cores=r.randint(1, 3), clock_hz=1e9, clusters=r.randint(1, 2), dies=r.randint(1, 2)),
        memories=(spec.Memory("local", 1 << 16, pick([16, 64]), spec.ROLES),),
        matrix=spec.Matrix(
            geometry={"f32": spec.Geometry(pick([1, 4]), 8, 8), "i8": spec.Geometry(1, 8, 16)},
            stationary=pick(["weight", "output", "input", "none"]),
            load_cycles=r.randint(0, 8),
            load_overlapped=r.random() < 0.5,
            fill_cycles=r.randint(0, 9),
        ),
        vector=spec.Vector({"f32": 8, "i32": 8, "i64": 4}, pick([1, 4]), r.randint(0, 5)),
        move=spec.Move(pick([4, 64]), r.randint(0, 5)),
        dma=spec.Dma(pick([0.0, 32.0, 20.001]), r.randint(0, 6), pick([64, 100, 512]), pick([1, 2, 5, 32])),
        dram=spec.Dram(1 << 20, pick([8e9, 30.7e9, 1e12]), "", pick([1, 32, 64]), pick([0, 9]), pick([64, 256])),
        control=spec.Control(r.randint(0, 4), pick([1, 2, 16]), pick([0, 5])),
        cluster_port=spec.Port(pick([0.0, 20.0, 64.0]), pick([0, 2])),
        die_link=spec.Port(pick([0.0, 10.0, 40.0]), pick([0, 6])),
        multicast=True,
        shared=tuple(shared),
    )


def _tensor(r: Random, spaces: int) -> Tensor:
    dtype = r.choice([DType.f32, DType.i8, DType.f16])
    extents = tuple(r.randint(1, 7) for _ in range(r.randint(0, 3)))
    strides: list[int] = []
    size = dtype.bytes
    for extent in reversed(extents):
        strides.insert(0, size + r.choice([0, 0, 0, 4, 24, 64]))
        size = strides[0] * extent
    if extents and r.random() < 0.1:
        strides[0] = 0
    base = r.choice([0, 64, 100, 256, 1000])
    name = f"t{base}"
    if extents and r.random() < 0.15:  # as reversals are read: the first element lies last
        d = r.randrange(len(extents))
        base, strides[d] = base + (extents[d] - 1) * strides[d], -strides[d]
    return Tensor(name, r.randint(0, spaces), base, dtype, extents, tuple(strides), 0.0)


class _Builder:
    """Draws one program. `depth` is the loop nesting, `uniform` whether all cores come here the same way."""

    def __init__(self, r: Random, chip: spec.Chip, turns: int) -> None:
        self.r, self.chip, self.turns = r, chip, turns
        self.tensors = [_tensor(r, len(chip.spaces)) for _ in range(r.randint(1, 3))]
        self.slots, self.semaphores = ["core"], list[int]()
        self.scalar: int | None = None

    def slot(self) -> int:
        self.slots.append(f"s{len(self.slots)}")
        return len(self.slots) - 1

    def semaphore(self, value: int = 0) -> int:
        self.semaphores.append(value)
        return len(self.semaphores) - 1

    def affine(self, low: int, high: int) -> Affine:
        terms: list[Term] = []
        for _ in range(self.r.choice([0, 1, 1, 2])):
            slot, coef = self.r.randrange(len(self.slots)), self.r.choice([1, 2, -1])
            terms.append(Term(slot, coef, self.r.choice([1, 1, 2]), self.r.choice([0, 0, 2, 3])))
        return Affine(self.r.randint(low, high), tuple(terms))

    def view(self, rank: int, dtype: DType = DType.f32) -> View:
        return View(0, Affine(64 * self.r.randint(0, 8)), tuple(self.r.choice([0, 4, 16]) for _ in range(rank)), dtype)

    def command(self, queue: c.Queue, waits: tuple[Wait, ...], posts: tuple[Post, ...]) -> c.AnyCommand:
        r, kernel = self.r, self.r.randint(0, 2)
        if r.random() < 0.1:
            return c.Nop(int(queue), waits=waits, posts=posts, kernel=kernel)
        if queue in (c.Queue.LD, c.Queue.ST):
            return self.dma(queue, waits, posts, kernel)
        dims = tuple(r.randint(1, 9) for _ in range(r.randint(0, 3)))
        view, rank = self.view, len(dims)
        if queue == c.Queue.MV and r.random() < 0.5:
            return c.Copy(dims, view(rank), view(rank), waits=waits, posts=posts, kernel=kernel)
        if queue == c.Queue.MV:
            scale, bias = Immediate(1.0, DType.f32), view(rank)
            drained = (dims, view(rank, DType.i8), view(rank), scale, bias, -1.0, 1.0, 0)
            return c.Drain(*drained, waits=waits, posts=posts, kernel=kernel)
        if queue == c.Queue.MM:
            kind = r.choice([DType.f32, DType.i8, DType.u8])
            m, k = dims or (1,), (r.randint(1, 20),)
            a, b, out = view(len(m) + 1, kind), view(2, kind), view(len(m) + 1)
            matmul = (m, r.randint(1, 20), k, a, b, out, Affine(1))
            return c.MatMul(*matmul, waits=waits, posts=posts, kernel=kernel)
        op = r.choice(["add", "exp", "reduce_sum", "sort"])
        srcs = (view(rank), Immediate(1.0, DType.f32)) if op == "add" else (view(rank),)
        vector = (
            op,
            r.choice(["f32", "i32", "i64"]),
            dims,
            view(rank),
            srcs,
            min(rank, int(op == "reduce_sum")),
            Affine(),
        )
        return c.Vector(*vector, waits=waits, posts=posts, kernel=kernel)

    def dma(self, queue: c.Queue, waits: tuple[Wait, ...], posts: tuple[Post, ...], kernel: int) -> c.AnyCommand:
        r, number = self.r, self.r.randrange(len(self.tensors))
        tensor = self.tensors[number]
        rank = len(tensor.extents)
        origin = tuple(self.affine(-1, n - 1) for n in tensor.extents)
        extents = tuple(r.choice([n, r.randint(1, n), n + 1]) for n in tensor.extents)
        offset = r.choice([Affine(), self.affine(0, 64), Affine(512)])
        index = c.Index(r.randrange(rank), self.view(1, DType.i32)) if rank and r.random() < 0.15 else None
        box = (number, origin, extents, offset, self.view(rank, tensor.dtype))
        flag = r.random() < 0.2
        kind = c.Load if queue == c.Queue.LD else c.Store
        return kind(*box, flag, index, waits=waits, posts=posts, kernel=kernel)

    def pair(self, uniform: bool) -> list[c.Node]:
        """A producer and a consumer in another queue, with semaphores both ways; now and then across the cluster."""
        r, size = self.r, self.chip.topology.cores
        source, taker = r.sample(list(c.Queue), 2)
        count = r.randint(1, 2)
        if uniform and size > 1 and r.random() < 0.4:
            first = self.semaphore()
            waits = tuple(Wait(s, count) for s in (first, *(self.semaphore() for _ in range(size - 1))))
            posts = (Post(first, count, True),)
        else:
            full = self.semaphore()
            posts, waits = (Post(full, count),), (Wait(full, count),)
        if r.random() < 0.5:
            free = self.semaphore(r.randint(1, 2))
            return [self.command(source, (Wait(free),), posts), self.command(taker, waits, (Post(free),))]
        return [self.command(source, (), posts), *self.node(3, False), self.command(taker, waits, ())]

    def node(self, depth: int, uniform: bool) -> list[c.Node]:
        r = self.r
        match r.randint(0, 9 if depth < 2 else 5):
            case 0 | 1 | 2:
                return [self.command(r.choice(list(c.Queue)), (), ())]
            case 3 | 4:
                return self.pair(uniform)
            case 5:
                if uniform and r.random() < 0.5:
                    return [c.Barrier(r.random() < 0.5, tuple(r.sample(range(5), r.randint(0, 5))))]
                slot = self.slot() if self.scalar is None else self.scalar
                self.scalar = slot
                full = self.semaphore()
                scalar = c.LoadScalar(slot, self.view(0, DType.i32), (Wait(full),))
                return [self.command(c.Queue.VE, (), (Post(full),)), scalar]
            case 6:
                slot = self.slot()
                body = self.body(depth + 1, uniform)
                turn = c.Set(slot, Affine(-1, (Term(slot, 1),)))
                return [c.Set(slot, Affine(r.randint(0, 3))), c.While(Affine(0, (Term(slot, 1),)), (*body, turn))]
            case 7:
                value = Affine(0, (Term(CORE, 1, 1, 2),))
                return [c.If(value, self.body(depth + 1, False), self.body(depth + 1, False))]
            case _:
                slot, by_core = self.slot(), r.random() < 0.2
                trip = Affine(1, (Term(CORE, 1),)) if by_core else Affine(r.randint(0, self.turns if depth == 0 else 3))
                return [c.Loop(slot, trip, self.body(depth + 1, uniform and not by_core))]

    def body(self, depth: int, uniform: bool) -> tuple[c.Node, ...]:
        return tuple(node for _ in range(self.r.randint(1, 3)) for node in self.node(depth, uniform))


def build(r: Random, turns: int = 9) -> tuple[Program, spec.Chip, list[list[int]]]:
    """A program whose outer loops have up to so many turns, its chip, and the scalars that its cores read."""
    chip = _chip(r)
    builder = _Builder(r, chip, turns)
    body = builder.body(0, True) + builder.body(0, True)
    cores = chip.cores
    program = Program(
        "random", chip.name, cores, tuple(builder.tensors), tuple(builder.slots), tuple(builder.semaphores), body,
        tuple(Kernel(f"k{i}", ()) for i in range(3)), (), 1 << 16,
    )  # fmt: skip
    scalars = [[r.randint(0, 3)] * SCALARS for _ in range(cores)]
    return program, chip, scalars


@st.composite
def programs(draw: st.DrawFn) -> tuple[Program, spec.Chip, list[list[int]]]:
    """A program, the chip that it runs on, and the scalars that its cores read."""
    return build(draw(st.randoms(use_true_random=False)))


@st.composite
def long_programs(draw: st.DrawFn) -> tuple[Program, spec.Chip, list[list[int]]]:
    """The same with loops that may become steady."""
    return build(draw(st.randoms(use_true_random=False)), 200)


def every_form() -> Program:
    """One of each node, each optional part once."""
    i = Affine(3, (Term(1, -4, 2, 3), Term(0, 1), Term(1, 2, 1, 2), Term(1, 1, 2)))
    view, scalar = View(0, i, (4,), DType.f32), View(1, Affine(), (), DType.i32)
    wait, post = (Wait(0), Wait(1, 2)), (Post(0), Post(1, 3, True), Post(1, 1, True))
    index = c.Index(0, View(0, Affine(), (4,), DType.i64))
    body = (
        c.Load(0, (Affine(-1),), (9,), i, view, True, index, waits=wait, posts=post, kernel=1),
        c.Load(1, (), (), Affine(), scalar),
        c.Store(2, (Affine(),), (8,), Affine(), view, True, index),
        c.Copy((2, 3), View(0, Affine(), (12, 4), DType.f32), View(0, Affine(), (4, 8), DType.f32)),
        c.Drain((), scalar, scalar, Immediate(0.1, DType.f32), scalar, float("-inf"), float("inf"), -3),
        c.MatMul((2,), 3, (4, 5), View(0, i, (0, 1, 2), DType.f32), View(0, i, (1, 2, 3), DType.f32), view, i),
        c.MatMul((), 3, (), view, view, view, Affine()),
        c.Vector(
            "select", "i64", (2,), view, (view, Immediate(1e-30, DType.f32), Immediate(2.0, DType.f32)), 1, Affine(1)
        ),
        c.Nop(4, posts=post),
        c.Loop(1, i, (c.Barrier(True, (0, 4)), c.While(i, (c.Set(1, i), c.LoadScalar(1, scalar, wait))))),
        c.If(i, (c.Barrier(False, ()),), (c.Loop(1, Affine(2), ()),)),
        c.If(i, ()),
    )
    tensors = (
        Tensor("x", 0, 64, DType.f32, (8,), (4,), float("-inf")),
        Tensor("a b", 1, 0, DType.bf16, (), ()),
        Tensor("a b", 0, 4, DType.f32, (8,), (0,), 1e20),
    )
    kernels, bindings = (Kernel("k", ()), Kernel("conv 1", ("a", "b\n"))), (Binding("in", 1, "input"),)
    head = ('net "1"', "chip", 2, tensors, ("core", "i.0"), (0, 2))
    return Program(*head, body, kernels, bindings, 4096, {"sram": 12, "w ram": 0})
