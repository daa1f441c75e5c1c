"""The instruction set: every command with its fields, meaning, preconditions and cycles.

Five in-order queues a core, asynchronous to each other:

    LD  DRAM or shared memory -> local memory          ST  local memory -> DRAM or shared memory
    MV  local -> local: copy, transpose, drain         MM  matrix unit          VE  vector unit

A core's control processor walks the program tree and issues commands to the queues; semaphores and barriers are the
only order between queues. Field order is encoding order (`encode.py`); `docs/isa.md` is this file in prose. Dimension
lists run from the outermost to the innermost; sizes are in elements, strides in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import prod

from tapeout.chip.spec import Chip
from tapeout.isa.operands import Affine, Immediate, Post, Source, View, Wait


class Queue(IntEnum):
    LD = 0
    ST = 1
    MV = 2
    MM = 3
    VE = 4


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What every command has: semaphores to wait for and to post, and the kernel that it belongs to (for reports)."""

    waits: tuple[Wait, ...] = ()
    posts: tuple[Post, ...] = ()
    kernel: int = 0


@dataclass(frozen=True, slots=True)
class Index:
    """Indexed DMA: the coordinate along `dim` is not `origin + i` but `origin + list[i]`, i < extent.

    The list holds i32 or i64 elements of a local memory that the vector unit reaches, packed.
    """

    dim: int
    list: View


@dataclass(frozen=True, slots=True)
class Load(Command):
    """local[i] = tensor[origin + i] for i in the box; the fill value outside the tensor.

    local: one stride per tensor dimension. `offset` (bytes) is added to the tensor's base: it walks outer dimensions
    that the descriptor does not name. With `multicast` the data arrive in the same place of every core of the cluster
    (posts with `cluster` tell them); DRAM and the cluster's port are used once.
    """

    tensor: int
    origin: tuple[Affine, ...]
    extents: tuple[int, ...]
    offset: Affine
    local: View
    multicast: bool = False
    index: Index | None = None


@dataclass(frozen=True, slots=True)
class Store(Command):
    """tensor[origin + i] = local[i] for i in the box and inside the tensor; `add` adds instead, in order of i."""

    tensor: int
    origin: tuple[Affine, ...]
    extents: tuple[int, ...]
    offset: Affine
    local: View
    add: bool = False
    index: Index | None = None


@dataclass(frozen=True, slots=True)
class Copy(Command):
    """dst[i] = src[i] over up to 4 dimensions, same element size: moves, transposes, repeats (stride 0)."""

    dims: tuple[int, ...]
    dst: View
    src: View


@dataclass(frozen=True, slots=True)
class Drain(Command):
    """dst[m, n] = convert(min(max(acc[m, n] * scale[n] + bias[n], lo), hi)) + zero, out of the accumulators.

    dims: (m..., n), up to 4. acc is f32 or i32, the arithmetic f32 with one rounding per step; scale and bias are
    numbers or views with one stride per dimension (0 over m). Conversion to integers rounds to nearest even, then
    adds `zero` and saturates.
    """

    dims: tuple[int, ...]
    dst: View
    acc: View
    scale: Source
    bias: Source
    lo: float
    hi: float
    zero: int


@dataclass(frozen=True, slots=True)
class MatMul(Command):
    """c[m, n] (+)= sum over k of a[m, k] * b[k, n].

    m: up to 3 dimensions, n: one, k: up to 3. `a.strides` = m then k, `b.strides` = k then n, `c.strides` = m then n.
    It adds where `accumulate` is not 0 and overwrites where it is. Floats multiply exactly or with one rounding and
    accumulate in f32: ascending k in groups of k0, a balanced tree within a group (neighbours first, an odd one goes
    up alone); integers accumulate in i32, with wrap-around. c may not overlap a or b.
    """

    m: tuple[int, ...]
    n: int
    k: tuple[int, ...]
    a: View
    b: View
    c: View
    accumulate: Affine

    @property
    def macs(self) -> int:
        return prod(self.m) * self.n * prod(self.k)


VECTOR_UNARY = "copy neg abs sign floor ceil round exp log sqrt rsqrt sin cos tanh erf not".split()
VECTOR_BINARY = "add sub mul div rem pow max min and or xor shl shr atan2 eq ne lt le gt ge".split()
VECTOR_TERNARY = "select fma clamp".split()
VECTOR_REDUCE = "reduce_sum reduce_prod reduce_max reduce_min reduce_and reduce_or arg_max arg_min".split()
VECTOR_SCAN = "scan_sum scan_prod scan_max scan_min".split()
VECTOR_SOURCE = "iota philox".split()
VECTOR_SORT = ["sort"]
VECTOR_OPS = (
    *VECTOR_UNARY, *VECTOR_BINARY, *VECTOR_TERNARY, *VECTOR_REDUCE, *VECTOR_SCAN, *VECTOR_SOURCE, *VECTOR_SORT
)  # fmt: skip
VECTOR_SPECIAL = frozenset("exp log sqrt rsqrt sin cos tanh erf div rem pow atan2 philox sort".split())
"""Ops of the slower cost class."""


@dataclass(frozen=True, slots=True)
class Vector(Command):
    """dst[i] = op(srcs[i]...) over up to 4 dimensions.

    Operands convert to the compute type first (f32, i32 or i64), the result converts to dst's element type: to nearest
    even, float to integer truncates and saturates, NaN gives 0, integers wrap (and reach 8 and 16 bit floats by way of
    f32). dst may take the place of a source exactly, any other overlap is an error. `meaning.py` has the details.
    - `select` is srcs[1] where srcs[0] != 0 else srcs[2]; `fma` s0*s1+s2 with one rounding; `clamp` min(max(s0, s1),
      s2).
    - `not` is bitwise, logical where dst is b1; on f32 `not and or xor` are logical. `shr` brings in zeros where
      srcs[0] is unsigned; shift counts outside of the word shift everything out. Integers divided by 0 give 0.
    - `reduce_*`, `arg_*`: over the last `reduced` dimensions, whose dst strides are 0. Sums: 16 interleaved partial
      sums
      (element e of the row-major walk goes to partial e % 16), then a balanced tree, neighbours first. With
      `accumulate` not 0 the result is combined with what dst held.
    - `scan_*`: inclusive, along the last dimension. `iota`: srcs[0] + srcs[1] * (index along the last dimension).
    - `philox`: srcs[0] is a view whose base holds the key, two packed u32; row-major element e gets word srcs[1] + e of
      the stream (word w % 4 of block w // 4).
    - `sort`: ascending along the last dimension, the keys of srcs[0] to dst, stable; NaN last. A view srcs[1], where
      there is one, is permuted in place in the same way (positions, payload).
    """

    op: str
    compute: str
    dims: tuple[int, ...]
    dst: View
    srcs: tuple[Source, ...]
    reduced: int
    accumulate: Affine


@dataclass(frozen=True, slots=True)
class Nop(Command):
    """Does nothing in `queue`, in no time: carries semaphores at a loop level of its own."""

    queue: int


AnyCommand = Load | Store | Copy | Drain | MatMul | Vector | Nop


# ---- control: nodes of the program tree


@dataclass(frozen=True, slots=True)
class Loop:
    """for slots[slot] in 0 .. trip-1: body. The slot keeps its last value afterwards."""

    slot: int
    trip: Affine
    body: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class If:
    """body where `value` > 0, else orelse."""

    value: Affine
    body: tuple[Node, ...]
    orelse: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class While:
    """body as long as `value` > 0, tested before each turn."""

    value: Affine
    body: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Barrier:
    """Waits until the commands issued so far to `queues` are complete, then for all cores of the scope to arrive."""

    chip: bool
    queues: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Set:
    """slots[slot] = value."""

    slot: int
    value: Affine


@dataclass(frozen=True, slots=True)
class LoadScalar:
    """slots[slot] = the integer at `source` (no dimensions) of a local memory, after its waits."""

    slot: int
    source: View
    waits: tuple[Wait, ...] = ()


Node = Load | Store | Copy | Drain | MatMul | Vector | Nop | Loop | If | While | Barrier | Set | LoadScalar
OPCODES: tuple[type, ...] = (
    Load, Store, Copy, Drain, MatMul, Vector, Nop, Loop, If, While, Barrier, Set, LoadScalar
)  # fmt: skip
"""A node's opcode is its position here."""


def queue_of(command: AnyCommand) -> Queue:
    match command:
        case Load():
            return Queue.LD
        case Store():
            return Queue.ST
        case Copy() | Drain():
            return Queue.MV
        case MatMul():
            return Queue.MM
        case Vector():
            return Queue.VE
        case Nop():
            return Queue(command.queue)


# ---- cycles: what a compute command costs; DMA is a process of the machine (docs/timing.md)


def matmul_cycles(command: MatMul, chip: Chip) -> int:
    """Passes of the array over the stationary operand; never less than the operands' memories can stream."""
    unit = chip.matrix
    kind = unit.geometry_of(command.a.dtype.value, command.b.dtype.value)
    rows, cols, depth = prod(command.m), command.n, prod(command.k)
    tiles_m, tiles_n, tiles_k = ceil_div(rows, kind.m0), ceil_div(cols, kind.n0), ceil_div(depth, kind.k0)
    match unit.stationary:
        case "weight":
            passes, stream = tiles_k * tiles_n, tiles_m
        case "output":
            passes, stream = tiles_m * tiles_n, tiles_k
        case "input":
            passes, stream = tiles_m * tiles_k, tiles_n
        case _:
            passes, stream = 1, tiles_m * tiles_n * tiles_k
    load, fill = unit.load_cycles, unit.fill_cycles
    if unit.load_overlapped:
        array = load + (passes - 1) * max(stream, load) + stream + fill
    else:
        array = passes * (load + stream + fill)
    a_bytes = rows * depth * command.a.dtype.bytes * (tiles_n if unit.stationary in ("weight", "output") else 1)
    b_bytes = cols * depth * command.b.dtype.bytes * (1 if unit.stationary == "weight" else tiles_m)
    streams = ceil_div(a_bytes, chip.memories[command.a.memory].bytes_per_cycle)
    return max(array, streams, ceil_div(b_bytes, chip.memories[command.b.memory].bytes_per_cycle))


def _operand_bytes(views: tuple[Source, ...], dims: tuple[int, ...]) -> int:
    """Bytes that the busiest operand moves."""
    sizes = [
        v.dtype.bytes * prod(n for n, s in zip(dims, v.strides, strict=True) if s) for v in views if isinstance(v, View)
    ]
    return max(sizes, default=0)


def vector_cycles(command: Vector, chip: Chip) -> int:
    """Rows of the innermost dimension, each in whole vectors, times the cost class; plus the start-up."""
    unit = chip.vector
    lanes = unit.lanes[command.compute]
    row = ceil_div(command.dims[-1], lanes) if command.dims else 1
    work = prod(command.dims[:-1]) * row * (unit.special_factor if command.op in VECTOR_SPECIAL else 1)
    if command.op == "sort" and command.dims:  # a bitonic network: log2(n) (log2(n) + 1) / 2 stages
        stages = max(1, (command.dims[-1] - 1).bit_length())
        work *= stages * (stages + 1) // 2
    memory = chip.memories[command.dst.memory]
    stream = ceil_div(_operand_bytes((command.dst, *command.srcs), command.dims), memory.bytes_per_cycle)
    return unit.startup_cycles + max(work, stream)


def move_cycles(command: Copy | Drain, chip: Chip) -> int:
    """Bytes of the wider side over the narrower port; a drain also at most `drain_elements_per_cycle`."""
    source = command.src if isinstance(command, Copy) else command.acc
    elements = prod(command.dims)
    rate = min(chip.memories[source.memory].bytes_per_cycle, chip.memories[command.dst.memory].bytes_per_cycle)
    stream = ceil_div(elements * max(source.dtype.bytes, command.dst.dtype.bytes), rate)
    work = ceil_div(elements, chip.move.drain_elements_per_cycle) if isinstance(command, Drain) else 0
    return chip.move.startup_cycles + max(stream, work)


def cycles(command: AnyCommand, chip: Chip) -> int:
    """Cycles that a compute command holds its queue; 0 for DMA, which the machine simulates burst by burst."""
    match command:
        case MatMul():
            return matmul_cycles(command, chip)
        case Vector():
            return vector_cycles(command, chip)
        case Copy() | Drain():
            return move_cycles(command, chip)
        case Load() | Store() | Nop():
            return 0


__all__ = [
    "VECTOR_OPS", "Affine", "AnyCommand", "Barrier", "Copy", "Drain", "If", "Immediate", "Index", "Load", "LoadScalar",
    "Loop", "MatMul", "Node", "Nop", "Queue", "Set", "Store", "Vector", "View", "While", "cycles", "queue_of",
]  # fmt: skip
