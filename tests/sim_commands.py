"""Random single commands with the memories that they work on, and both ways to run one: native and NumPy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

import numpy as np

from tapeout.chip import spec
from tapeout.ir.types import DType
from tapeout.isa import commands as c
from tapeout.isa import meaning
from tapeout.isa.operands import Affine, Immediate, Post, Source, Tensor, View, Wait
from tapeout.isa.program import Program
from tapeout.sim.machine import Segment, run

LOCAL_BYTES = 1 << 16
REGION_BYTES = 1 << 13
DRAM_BYTES = 1 << 14
KINDS = {f"{sign}{bits}": spec.Geometry(1, 4, k0) for sign, bits, k0 in [
    ("i", 8, 16), ("i", 16, 8), ("f", 16, 6), ("bf", 16, 24), ("f", 32, 5), ("f8e", "4m3", 32), ("f8e", "5m2", 7),
]}  # fmt: skip


def chip(cores: int = 1, clusters: int = 1) -> spec.Chip:
    """Small cores: a memory for everything, one that only `ld` and `b` reach, a shared memory of each scope."""
    return spec.Chip(
        name="small",
        topology=spec.Topology(cores=cores, clock_hz=1e9, clusters=clusters),
        memories=(spec.Memory("all", LOCAL_BYTES, 64, spec.ROLES), spec.Memory("weights", 4096, 64, ("ld", "b"))),
        matrix=spec.Matrix(geometry=KINDS),
        vector=spec.Vector({"f32": 8, "i32": 8, "i64": 4}),
        dma=spec.Dma(64),
        dram=spec.Dram(1 << 20, 64e9),
        control=spec.Control(queue_depth=4),
        multicast=True,
        shared=(spec.Shared("pool", 1 << 12, 64, "cluster"), spec.Shared("board", 1 << 12, 64, "chip")),
    )


def image(dtype: DType) -> Tensor:
    """All of a local memory as one tensor in DRAM, behind the command's own tensor."""
    return Tensor("image", 0, DRAM_BYTES, dtype, (LOCAL_BYTES,), (1,))


@dataclass
class Case:
    """A command, the tensor it may name (number 0), and the bytes of local memory and DRAM before it."""

    command: c.AnyCommand
    tensor: Tensor
    local: np.ndarray
    dram: np.ndarray


def run_native(case: Case, exact: bool = True, check: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Local memory and DRAM after the command: a program that loads the image, runs it, and stores the image."""
    whole = View(0, Affine(), (1,), DType.u8)
    after = np.zeros(LOCAL_BYTES, np.uint8)
    out = replace(image(DType.u8), base=DRAM_BYTES + LOCAL_BYTES)
    body = (
        c.Load(1, (Affine(),), (LOCAL_BYTES,), Affine(), whole, posts=(Post(0),)),
        replace(case.command, waits=(Wait(0),), posts=(Post(1),)),
        c.Store(2, (Affine(),), (LOCAL_BYTES,), Affine(), whole, waits=(Wait(1),)),
    )
    program = Program("one", "small", 1, (case.tensor, image(DType.u8), out), ("core",), (0, 0), body)
    dram = case.dram.copy()
    local = case.local.copy()
    local.flags.writeable = False
    segments = [Segment(0, dram, True), Segment(DRAM_BYTES, local, True), Segment(out.base, after, False)]
    run(program, chip(), segments, exact=exact, check=check)
    return after, dram


def run_numpy(case: Case) -> tuple[np.ndarray, np.ndarray]:
    local, dram = case.local.copy(), case.dram.copy()
    meaning.execute(meaning.Bytes((case.tensor,), [{0: local}], {0: dram}, chip=chip()), case.command)
    return local, dram


class Draw:
    """Draws commands. Every operand has a region of the memory for itself, so that none overlaps another."""

    def __init__(self, seed: int) -> None:
        self.r = Random(seed)
        self.rng = np.random.default_rng(seed)
        self.local = np.zeros(LOCAL_BYTES, np.uint8)
        self.regions = 0

    def sizes(self, most: int, rank: int, budget: int = 600) -> tuple[int, ...]:
        dims: list[int] = []
        for _ in range(rank):
            dims.append(self.r.choice([1, self.r.randint(1, min(4, budget)), self.r.randint(1, min(most, budget))]))
            budget = max(1, budget // dims[-1])
        self.r.shuffle(dims)
        return tuple(dims)

    def strides(self, dims: tuple[int, ...], size: int, repeats: bool, odd: bool) -> tuple[int, ...]:
        """A packed, padded or transposed layout; with `repeats` some strides are 0."""
        order = list(range(len(dims)))
        if self.r.random() < 0.5:
            self.r.shuffle(order)
        strides, step = [0] * len(dims), size
        for axis in reversed(order):
            if step * dims[axis] > REGION_BYTES // 2:
                return (0,) * len(dims) if repeats else self.packed(dims, size)
            strides[axis] = step
            step = step * dims[axis] + self.r.choice([0, 0, 0, size, 3 if odd else size])
        if repeats and self.r.random() < 0.4:
            strides[self.r.randrange(len(dims))] = 0
        return tuple(strides)

    @staticmethod
    def packed(dims: tuple[int, ...], size: int) -> tuple[int, ...]:
        strides, step = [0] * len(dims), size
        for axis in reversed(range(len(dims))):
            strides[axis] = step
            step *= dims[axis]
        return tuple(strides)

    def view(self, dims: tuple[int, ...], dtype: DType, repeats: bool = False, wild: bool = True) -> View:
        start = self.regions * REGION_BYTES
        self.regions += 1
        size = dtype.bytes
        self.local[start : start + REGION_BYTES] = self.values(dtype, REGION_BYTES // size, wild).view(np.uint8)
        base = start + self.r.choice([0, 0, size, 2 * size])
        strides = self.strides(dims, size, repeats, wild) if dims else ()
        if any(s % size for s in strides):  # then elements do not lie where the values were put
            self.local[start : start + REGION_BYTES] = self.values(DType.i8, REGION_BYTES, wild).view(np.uint8)
        return View(0, Affine(base), strides, dtype)

    def values(self, dtype: DType, count: int, wild: bool) -> np.ndarray:
        """Of all magnitudes, with specials among them if `wild`, else small."""
        if dtype is DType.b1:
            return self.rng.integers(0, 2, count).astype(bool)
        if dtype.is_float:
            x = self.rng.normal(size=count) * (np.exp(self.rng.normal(size=count) * 8) if wild else 1)
            with np.errstate(over="ignore"):
                x = x.astype(dtype.numpy)
            if wild:
                specials = np.asarray([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, 2.5], np.float64)
                which = self.rng.random(count) < 0.15
                x[which] = self.rng.choice(specials, which.sum()).astype(dtype.numpy)
            return x
        info = np.iinfo(dtype.numpy)
        x = self.rng.integers(info.min, info.max, count, dtype=dtype.numpy, endpoint=True)
        small = self.rng.integers(0 if info.min == 0 else -9, 10, count).astype(dtype.numpy)
        return np.where(self.rng.random(count) < 0.6, small, x)

    def source(self, dims: tuple[int, ...], dtype: DType) -> Source:
        if self.r.random() < 0.25:
            return Immediate(self.r.choice([0.0, 1.0, 2.5, -3.0]), dtype)
        return self.view(dims, dtype, repeats=True)

    def case(self, command: c.AnyCommand, tensor: Tensor | None = None) -> Case:
        tensor = tensor or Tensor("t", 0, 0, DType.u8, (1,), (1,))
        dram = self.values(tensor.dtype, DRAM_BYTES // tensor.dtype.bytes, wild=True).view(np.uint8)
        return Case(command, tensor, self.local, dram.copy())

    # ---- commands

    def vector(self, op: str) -> Case:
        r = self.r
        compute = r.choice(["f32", "i32", "i64"])
        if op in "exp log sqrt rsqrt sin cos tanh erf atan2".split():
            compute = "f32"
        if op in ("shl", "shr"):
            compute = r.choice(["i32", "i64"])
        dims = self.sizes(150, r.randint(0, 4))
        dtypes = [DType.f32] * 4 + list(DType) if compute == "f32" else [DType(compute)] * 4 + list(DType)
        count = 1 if op in c.VECTOR_UNARY else 2 if op in c.VECTOR_BINARY else 3 if op in c.VECTOR_TERNARY else 1
        reduced, accumulate = 0, 0
        if op in ("iota", "philox"):
            count = 2
        if op.startswith(("reduce", "arg")):
            reduced, accumulate = r.randint(0, len(dims)), int(op[0] == "r" and r.random() < 0.3)
        srcs = [self.source(dims, r.choice(dtypes)) for _ in range(count)]
        if op == "philox":
            key = self.view((2,), DType.u32)
            srcs[0] = View(0, key.base, (0,) * len(dims), DType.u32)
        if op == "sort":
            srcs[0] = self.view(dims, r.choice(dtypes))
            srcs += [self.view(dims, r.choice(list(DType)))] * r.randint(0, 1)
        approximate = op in "exp log rsqrt sin cos tanh erf pow atan2".split()
        dst = self.view(dims, DType.f32 if approximate else r.choice(dtypes))
        if reduced:
            kept = len(dims) - reduced
            dst = replace(dst, strides=self.packed(dims[:kept], dst.dtype.bytes) + (0,) * reduced)
        vector = c.Vector(op, compute, dims, dst, tuple(srcs), reduced, Affine(accumulate))
        return self.case(vector)

    def drain(self) -> Case:
        r = self.r
        dims = self.sizes(100, r.randint(0, 4))
        acc = self.view(dims, r.choice([DType.f32, DType.i32]))
        scale, bias = self.source(dims, DType.f32), self.source(dims, DType.f32)
        lo, hi = r.choice([(-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0), (-128.0, 127.0)])
        dtype = r.choice(list(DType))
        zero = r.randint(-20, 20) if dtype.is_int else 0
        return self.case(c.Drain(dims, self.view(dims, dtype), acc, scale, bias, lo, hi, zero))

    def copy(self) -> Case:
        dims, dtype = self.sizes(300, self.r.randint(0, 4)), self.r.choice(list(DType))
        return self.case(c.Copy(dims, self.view(dims, dtype), self.view(dims, dtype, repeats=True)))

    def matmul(self, wild: bool = True) -> Case:
        r = self.r
        m, k = self.sizes(30, r.randint(0, 3), 40), self.sizes(40, r.randint(0, 3), 40)
        n = r.choice([1, r.randint(1, 8), r.randint(1, 40)])
        floats = r.random() < 0.6
        if floats:
            a_type = b_type = r.choice([DType.f32, DType.f16, DType.bf16, DType.f8e4m3, DType.f8e5m2])
        else:
            a_type, b_type = r.choice(
                [(a + "8", b + "8") for a in "iu" for b in "iu"] + [("i16", "i16"), ("u16", "i16")]
            )
            a_type, b_type = DType(a_type), DType(b_type)
        a = self.view((*m, *k), a_type, repeats=True, wild=wild)
        b = self.view((*k, n), b_type, wild=wild)
        out = self.view((*m, n), DType.f32 if floats else DType.i32, wild=wild)
        return self.case(c.MatMul(m, n, k, a, b, out, Affine(r.randint(0, 1))))

    def dma(self, kind: type[c.Load] | type[c.Store]) -> Case:
        r = self.r
        dtype = r.choice(list(DType))
        extents = self.sizes(40, r.randint(0, 5), 300)
        strides = self.packed(extents, dtype.bytes + r.choice([0, 0, 3]) if dtype is not DType.b1 else 1)
        fill = r.choice([0.0, 1.0, -2.0 if dtype.is_signed else 7.0])
        tensor = Tensor("t", 0, 4096, dtype, extents, strides, fill)
        whole = r.random() < 0.3
        box = extents if whole else tuple(r.randint(1, min(n + 2, 24)) for n in extents)
        while np.prod(box, initial=1) * dtype.bytes > REGION_BYTES // 4:
            box = tuple(max(1, n // 2) for n in box)
        origin = tuple(0 if whole else r.randint(-2, n) for n in extents)
        index = None
        if extents and r.random() < 0.3:
            dim = r.randrange(len(extents))
            kind_of = r.choice([DType.i32, DType.i64])
            index_view = View(0, Affine(self.regions * REGION_BYTES), (kind_of.bytes,), kind_of)
            self.regions += 1
            numbers = self.rng.integers(-1, extents[dim] + 1, box[dim]).astype(kind_of.numpy)
            at = index_view.base.const
            self.local[at : at + numbers.nbytes] = numbers.view(np.uint8)
            index = c.Index(dim, index_view)
        local = self.view(box, dtype)
        flag = kind is c.Store and r.random() < 0.4
        offset = r.choice([0, 0, dtype.bytes])
        return self.case(kind(0, tuple(map(Affine, origin)), box, Affine(offset), local, flag, index), tensor)
