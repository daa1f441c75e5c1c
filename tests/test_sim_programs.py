"""The native functional executor on small whole programs: order, control, cores, and each kind of error."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_commands import LOCAL_BYTES, chip
from strategies_isa import programs
from tapeout.chip.spec import Chip
from tapeout.errors import SimError
from tapeout.ir.types import DType
from tapeout.isa import commands as c
from tapeout.isa import meaning
from tapeout.isa.operands import CORE, Affine, Immediate, Post, Tensor, Term, View, Wait, slot_value
from tapeout.isa.program import Kernel, Program
from tapeout.sim.machine import FunctionalResult, Segment, run

F32, I32 = DType.f32, DType.i32
ALL = (0, 1, 2, 3, 4)
SLOTS = ("core", "i", "j", "s")


def vec(base: int | Affine, memory: int = 0, dtype: DType = F32) -> View:
    """A packed row in local memory."""
    return View(memory, base if isinstance(base, Affine) else Affine(base), (dtype.bytes,), dtype)


def row(name: str, base: int, count: int, dtype: DType = F32, space: int = 0) -> Tensor:
    return Tensor(name, space, base, dtype, (count,), (dtype.bytes,))


def load(tensor: int, origin: int | Affine, count: int, at: int | Affine, dtype: DType = F32, **extra) -> c.Load:
    origin = origin if isinstance(origin, Affine) else Affine(origin)
    return c.Load(tensor, (origin,), (count,), Affine(), vec(at, dtype=dtype), **extra)


def store(tensor: int, origin: int | Affine, count: int, at: int | Affine, dtype: DType = F32, **extra) -> c.Store:
    origin = origin if isinstance(origin, Affine) else Affine(origin)
    return c.Store(tensor, (origin,), (count,), Affine(), vec(at, dtype=dtype), **extra)


def add(count: int, dst: int | Affine, a: int | Affine, b: int | Affine | float, **extra) -> c.Vector:
    right = Immediate(b, F32) if isinstance(b, float) else vec(b)
    return c.Vector("add", "f32", (count,), vec(dst), (vec(a), right), 0, Affine(), **extra)


def program(body, tensors=(), semaphores=(), cores: int = 1) -> Program:
    kernels = (Kernel("first", ()), Kernel("second", ()))
    return Program("p", "small", cores, tuple(tensors), SLOTS, tuple(semaphores), tuple(body), kernels)


def go(p: Program, *segments: Segment, on: Chip | None = None, **options) -> FunctionalResult:
    return run(p, on or chip(p.cores), segments, **options)


def interleavings():
    """The default order, and several random ones."""
    return [None, *range(8)]


# ---- programs that are right


@pytest.mark.native
@pytest.mark.parametrize("seed", interleavings())
def test_double_buffering_over_cores(seed: int | None):
    """y = x + 1 in 8 tiles a core, two buffers each way."""
    tile, tiles, cores = 16, 8, 4
    x = np.arange(tile * tiles * cores, dtype=np.float32)
    y = np.zeros_like(x)
    origin = slot_value(CORE, tile * tiles) + slot_value(1, tile)
    half = Affine(0, (Term(1, 1024, 1, 2),))
    body = c.Loop(
        1,
        Affine(tiles),
        (
            load(0, origin, tile, half, waits=(Wait(0),), posts=(Post(1),)),
            add(tile, half + 4096, half, 1.0, waits=(Wait(1), Wait(2)), posts=(Post(0), Post(3))),
            store(1, origin, tile, half + 4096, waits=(Wait(3),), posts=(Post(2),)),
        ),
    )
    p = program([body], [row("x", 0, x.size), row("y", 4096, y.size)], (2, 0, 2, 0), cores)
    for on in (chip(4), chip(2, 2), chip(1, 4)):
        y[:] = 0
        done = go(p, Segment(0, x, True), Segment(4096, y, False), on=on, fuzz_seed=seed)
        np.testing.assert_array_equal(y, x + 1)
        assert done.commands_executed == 3 * tiles * cores


@pytest.mark.native
@pytest.mark.parametrize("seed", interleavings())
def test_multicast_posts_to_every_core(seed: int | None):
    """Core 0 of each cluster loads for all; each core adds its number."""
    x, y = np.arange(8, dtype=np.float32), np.zeros((4, 8), np.float32)
    number = slot_value(CORE)
    is_first = Affine(1, (Term(CORE, -1, 1, 2),))
    body = [
        c.If(is_first, (load(0, 0, 8, 0, multicast=True, posts=(Post(0, 1, True),)),)),
        add(8, 64, 0, 0.0, waits=(Wait(0),), posts=(Post(2),)),
        store(1, number * 8, 8, 64, waits=(Wait(2),)),
    ]
    p = program(body, [row("x", 0, 8), row("y", 1024, 32)], (0, 0, 0), 4)
    go(p, Segment(0, x, True), Segment(1024, y, False), on=chip(2, 2), fuzz_seed=seed)
    np.testing.assert_array_equal(y, np.tile(x, (4, 1)))


@pytest.mark.native
@pytest.mark.parametrize("seed", interleavings())
@pytest.mark.parametrize("space", [0, 1, 2])
def test_exchange_over_a_barrier(seed: int | None, space: int):
    """Each core stores a row, all meet, each reads its neighbour's: in DRAM, cluster and chip memory."""
    cores = 4
    on = chip(4) if space == 1 else chip(2, 2)
    x, y = np.arange(32, dtype=np.float32), np.zeros(32, np.float32)
    middle = np.zeros(32, np.float32)
    wrapped = c.Set(3, Affine(0, (Term(CORE, 1),)) + 1)
    body = [
        load(0, slot_value(CORE, 8), 8, 0, posts=(Post(0),)),
        store(1, slot_value(CORE, 8), 8, 0, waits=(Wait(0),)),
        c.Barrier(space != 1, (int(c.Queue.ST),)),
        wrapped,
        load(1, Affine(0, (Term(3, 8, 1, 4),)), 8, 64, posts=(Post(1),)),
        store(2, slot_value(CORE, 8), 8, 64, waits=(Wait(1),)),
    ]
    tensors = [row("x", 0, 32), row("m", 1024 if space == 0 else 0, 32, space=space), row("y", 2048, 32)]
    p = program(body, tensors, (0, 0), cores)
    segments = [Segment(0, x, True), Segment(1024, middle, False), Segment(2048, y, False)]
    go(p, *segments, on=on, fuzz_seed=seed)
    np.testing.assert_array_equal(y, np.roll(x, -8))


@pytest.mark.native
@pytest.mark.parametrize("seed", interleavings())
def test_while_and_if_follow_scalars(seed: int | None):
    """Halves a number until it is 0; counts the turns, and takes the other branch at odd numbers."""
    n, counts = np.asarray([37], np.int32), np.zeros(2, np.int32)
    one = Immediate(1.0, I32)
    shift = c.Vector("shr", "i32", (), View(0, Affine(0), (), I32), (View(0, Affine(0), (), I32), one), 0, Affine())
    odd = c.Vector("and", "i32", (), View(0, Affine(4), (), I32), (View(0, Affine(0), (), I32), one), 0, Affine())
    count = lambda at: c.Vector(  # noqa: E731
        "add", "i32", (), View(0, Affine(at), (), I32), (View(0, Affine(at), (), I32), one), 0, Affine()
    )
    read = lambda slot, at, sem: c.LoadScalar(slot, View(0, Affine(at), (), I32), (Wait(sem),))  # noqa: E731
    body = [
        load(0, 0, 1, 0, I32),
        load(1, 0, 2, 8, I32, posts=(Post(0),)),
        replace(odd, waits=(Wait(0),), posts=(Post(1),)),
        read(3, 0, 1),
        c.While(
            slot_value(3),
            (
                replace(odd, posts=(Post(1),)),
                read(2, 4, 1),
                c.If(slot_value(2), (count(8),), (count(12),)),
                replace(shift, posts=(Post(1),)),
                read(3, 0, 1),
            ),
        ),
        c.Nop(int(c.Queue.VE), posts=(Post(2),)),
        store(1, 0, 2, 8, I32, waits=(Wait(2),)),
    ]
    p = program(body, [row("n", 0, 1, I32), row("counts", 64, 2, I32)], (0, 0, 0))
    done = go(p, Segment(0, n, True), Segment(64, counts, True), fuzz_seed=seed)
    assert counts.tolist() == [3, 3]  # 37 = 100101 in binary
    assert done.scalars[0] == [37, 1, 18, 0, 9, 1, 4, 0, 2, 0, 1, 1, 0]


@pytest.mark.native
@pytest.mark.parametrize("seed", interleavings())
def test_gather_and_scatter_add(seed: int | None):
    """y[list] += x[list], rows of a table, some of them twice and one outside."""
    table, total = np.arange(40, dtype=np.float32).reshape(10, 4), np.ones((10, 4), np.float32)
    listed = np.asarray([3, 4, 5, 3, 99, 0], np.int32)
    tensors = [
        Tensor("table", 0, 0, F32, (10, 4), (16, 4)),
        Tensor("total", 0, 1024, F32, (10, 4), (16, 4)),
        row("list", 2048, 6, I32),
    ]
    rows = View(0, Affine(512), (16, 4), F32)
    box = ((Affine(), Affine()), (6, 4), Affine(), rows)
    index = c.Index(0, vec(0, dtype=I32))
    body = [
        load(2, 0, 6, 0, I32),
        c.Load(0, *box, False, index, posts=(Post(0),)),
        c.Store(1, *box, True, index, waits=(Wait(0),)),
    ]
    p = program(body, tensors, (0,))
    go(p, Segment(0, table, True), Segment(1024, total, True), Segment(2048, listed, True), fuzz_seed=seed)
    want = np.ones((10, 4), np.float32)
    np.add.at(want, listed[listed < 10], table[listed[listed < 10]])
    np.testing.assert_array_equal(total, want)


def test_a_cluster_barrier_does_not_wait_for_other_clusters():
    x = np.zeros(4, np.float32)
    first = Affine(0, (Term(CORE, 1, 2),))
    body = [c.If(first, (c.Barrier(False, ALL),)), c.Barrier(True, ALL)]
    go(program(body, [row("x", 0, 4)], (), 4), Segment(0, x, True), on=chip(2, 2))


def test_order_that_goes_round_through_semaphores_and_barriers():
    """LD of core 0 -> post to the cluster -> VE of core 1 -> chip barrier -> ST of core 2 in another cluster."""
    x, y = np.arange(4, dtype=np.float32), np.zeros(4, np.float32)
    is_0 = Affine(1, (Term(CORE, -1),))
    body = [
        c.If(is_0, (load(0, 0, 4, 0, posts=(Post(0),)), store(1, 0, 4, 0, waits=(Wait(0),)))),
        c.Barrier(True, (int(c.Queue.ST),)),
        load(1, 0, 4, 64, posts=(Post(1),)),
        c.Nop(int(c.Queue.VE), waits=(Wait(1),)),
    ]
    p = program(body, [row("x", 0, 4), row("y", 64, 4)], (0, 0), 4)
    go(p, Segment(0, x, True), Segment(64, y, False), on=chip(1, 4))
    np.testing.assert_array_equal(y, x)


# ---- programs that are wrong, each in one way


X, Y = row("x", 0, 16), row("y", 256, 16)


def fails(body, words: str, semaphores=(), cores: int = 1, on: Chip | None = None, tensors=(X, Y), **options):
    """Running it raises an error with these words, on one line."""
    x, y = np.arange(16, dtype=np.float32), np.zeros(16, np.float32)
    x.flags.writeable = False
    with pytest.raises(SimError, match=words) as info:
        go(program(body, tensors, semaphores, cores), Segment(0, x, True), Segment(256, y, False), on=on, **options)
    assert "\n" not in str(info.value)
    return info.value


ERRORS = {
    "race, read after write": (
        [load(0, 0, 16, 0), add(16, 64, 0, 1.0)], "VE of core 0 reads what Load in LD|never written", ()
    ),
    "race, write after read": (
        [load(0, 0, 16, 0, posts=(Post(0),)), add(16, 64, 0, 1.0, waits=(Wait(0),)), load(0, 0, 16, 0)],
        "race in memory 0",
        (0,),
    ),
    "race, write after write": (
        [load(0, 0, 16, 0, posts=(Post(0),)), load(0, 0, 16, 64), add(16, 64, 0, 1.0, waits=(Wait(0),))],
        "race in memory 0: .. of core 0 writes what (Load|Vector) in .. of core 0 writes",
        (0,),
    ),
    "read of bytes never written": ([add(16, 64, 0, 1.0)], "reads bytes of memory 0 that were never written", ()),
    "read of DRAM never written": ([load(1, 0, 16, 0)], "reads bytes of DRAM that were never written", ()),
    "index list never written": (
        [replace(load(0, 0, 4, 0), index=c.Index(0, vec(64, dtype=I32)))], "index list lies in bytes", ()
    ),
    "local memory too small": ([load(0, 0, 16, LOCAL_BYTES - 60)], "write out of bounds of memory 0", ()),
    "DRAM outside": ([replace(load(0, 0, 16, 0), offset=Affine(100))], "outside of all its segments", ()),
    "store into a constant": (
        [load(0, 0, 16, 0, posts=(Post(0),)), store(0, 0, 16, 0, waits=(Wait(0),))], "store into a constant", (0,)
    ),
    "out of reach": ([replace(load(0, 0, 16, 0), local=vec(0, 1)), add(4, 64, 0, 1.0)], "never written|reach", ()),
    "deadlock on a semaphore": ([load(0, 0, 16, 0, waits=(Wait(0),))], "deadlock: LD of core 0 waits for 1 of", (0,)),
    "deadlock of control": ([c.LoadScalar(1, View(0, Affine(), (), I32), (Wait(0),))], "deadlock: control", (0,)),
    "unbalanced": ([load(0, 0, 16, 0, posts=(Post(0, 2),))], "unbalanced: semaphore 0 of core 0 ends with 2", (0,)),
    "two posters": (
        [c.Nop(0, posts=(Post(0),)), c.Nop(1, posts=(Post(0),)), c.Nop(2, waits=(Wait(0, 2),))],
        "two sources: (LD of core 0 and ST|ST of core 0 and LD) of core 0",
        (0,),
    ),
    "two takers": (
        [c.Nop(0, posts=(Post(0, 2),)), c.Nop(1, waits=(Wait(0),)), c.Nop(2, waits=(Wait(0),))],
        "two takers: (ST of core 0 and MV|MV of core 0 and ST) of core 0",
        (0,),
    ),
    "overlap within a command": (
        [load(0, 0, 16, 0, posts=(Post(0),)), add(8, 4, 0, 1.0, waits=(Wait(0),))], "overwrites its own source", (0,)
    ),
    "no geometry": (
        [c.MatMul((1,), 1, (1,), *[View(0, Affine(), (4, 4), DType.f64)] * 3, Affine())], "no geometry for f64", ()
    ),
    "runs on for ever": ([c.While(Affine(1), ())], "runs on without issuing a command", ()),
}  # fmt: skip


@pytest.mark.native
@pytest.mark.parametrize("kind", [k for k in ERRORS if k != "runs on for ever"])
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_error(kind: str, seed: int | None):
    body, words, semaphores = ERRORS[kind]
    fails(body, words, semaphores, fuzz_seed=seed)


def test_a_program_that_runs_on_for_ever():
    body, words, semaphores = ERRORS["runs on for ever"]
    fails(body, words, semaphores)


def test_role_out_of_reach():
    fails([replace(load(0, 0, 4, 0), local=vec(0, 1)), c.Copy((4,), vec(0), vec(0, 1))], "reach of role mv")


def test_message_names_kernel_core_loops_and_address():
    body = [c.Loop(1, Affine(3), (c.Loop(2, Affine(2), (replace(load(0, 0, 4, LOCAL_BYTES - 8), kernel=1),)),))]
    error = fails(body, "out of bounds")
    assert error.command == "Load 0 of kernel second in LD of core 0"
    assert error.loops == {"i": 0, "j": 0}
    assert error.address == LOCAL_BYTES - 8


def test_a_core_that_misses_a_barrier():
    fails([c.If(slot_value(CORE), (c.Barrier(True, ALL),))], "barrier that another core does not reach", cores=2)


def test_race_between_clusters_without_a_barrier():
    """Core 1 reads what core 0 stores; a barrier of the cluster is not enough, one of the chip is."""
    first, second = Affine(1, (Term(CORE, -1),)), slot_value(CORE)
    write = (load(0, 0, 16, 0, posts=(Post(0),)), store(1, 0, 16, 0, waits=(Wait(0),)))
    for barrier in ((), (c.Barrier(False, ALL),)):
        body = [c.If(first, write), *barrier, c.If(second, (load(1, 0, 16, 0),))]
        fails(body, "race in DRAM|never written", (0,), 2, chip(1, 2))
    y = np.zeros(16, np.float32)
    body = [c.If(first, write), c.Barrier(True, (int(c.Queue.ST),)), c.If(second, (load(1, 0, 16, 0),))]
    p = program(body, (X, Y), (0,), 2)
    go(p, Segment(0, np.ones(16, np.float32), True), Segment(256, y, False), on=chip(1, 2))
    assert y.all()


def test_a_barrier_orders_only_the_queues_that_it_names():
    first, second = Affine(1, (Term(CORE, -1),)), slot_value(CORE)
    write = (load(0, 0, 16, 0, posts=(Post(0),)), store(1, 0, 16, 0, waits=(Wait(0),)))
    body = [c.If(first, write), c.Barrier(True, (int(c.Queue.LD),)), c.If(second, (load(1, 0, 16, 0),))]
    fails(body, "race in DRAM|never written", (0,), 2, chip(1, 2))


def test_multicast_is_a_write_in_every_core():
    """The other core uses the place without waiting for the post."""
    first, second = Affine(1, (Term(CORE, -1),)), slot_value(CORE)
    cast = load(0, 0, 4, 0, multicast=True)
    fails([c.If(first, (cast,)), c.If(second, (load(0, 4, 4, 0),))], "race in memory 0", (), 2)


def test_interleaved_columns_do_not_collide():
    """Exact boxes: LD writes the even elements, VE the odd ones."""
    even, odd = View(0, Affine(0), (8,), F32), View(0, Affine(4), (8,), F32)
    fill = c.Vector("copy", "f32", (8,), odd, (Immediate(1.0, F32),), 0, Affine())
    body = [c.Load(0, (Affine(),), (8,), Affine(), even), fill]
    go(program(body, (X, Y)), Segment(0, np.ones(16, np.float32), True), Segment(256, np.ones(16, np.float32), True))
    wider = replace(fill, dims=(7,), dst=View(0, Affine(4), (12,), F32))
    fails([body[0], wider], "race in memory 0")


def test_a_result_may_take_the_place_of_one_source():
    """A fused multiply-add into its addend, with narrower factors."""
    half = Tensor("h", 0, 0, DType.f16, (16,), (2,))
    x, y = np.arange(16, dtype=np.float16), np.ones(16, np.float32)
    a = vec(0, dtype=DType.f16)
    body = [
        c.Load(0, (Affine(),), (16,), Affine(), a),
        load(1, 0, 16, 64, posts=(Post(0),)),
        c.Vector("fma", "f32", (16,), vec(64), (a, a, vec(64)), 0, Affine(), waits=(Wait(0),), posts=(Post(1),)),
        store(1, 0, 16, 64, waits=(Wait(1),)),
    ]
    go(program(body, (half, Y), (0, 0)), Segment(0, x, True), Segment(256, y, True))
    np.testing.assert_array_equal(y, x.astype(np.float32) ** 2 + 1)


def test_checks_can_be_turned_off():
    x = np.arange(16, dtype=np.float32)
    p = program([load(0, 0, 16, 0), add(16, 64, 0, 1.0)], (X, Y))
    go(p, Segment(0, x, True), check=False)
    with pytest.raises(SimError, match="out of bounds"):
        go(program([load(0, 0, 16, LOCAL_BYTES)], (X, Y)), Segment(0, x, True), check=False)


# ---- random programs


def touched(view: View, dims: tuple[int, ...]) -> set[int]:
    where = meaning.addresses(view.base.const, dims, view.strides)
    return set((where[..., None] + np.arange(view.dtype.bytes)).reshape(-1).tolist())


@pytest.mark.native
@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_races_are_exact(seed: int):
    """Two unordered writes are a race exactly if they share a byte; the address named is one of those."""
    r = Random(seed)
    views, boxes = [], []
    for _ in range(2):
        dims = tuple(r.randint(1, 5) for _ in range(r.randint(0, 4)))
        strides = tuple(r.choice([0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 40, 64]) for _ in dims)
        views.append(View(0, Affine(r.randint(0, 60)), strides, r.choice([DType.u8, DType.i16, I32])))
        boxes.append(dims)
    zero = Immediate(0.0, DType.i32)
    dst = replace(views[1], dtype=DType.i32) if views[1].dtype is I32 else views[1]
    tensor = Tensor("t", 0, 0, views[0].dtype, (9,) * len(boxes[0]), (8,) * len(boxes[0]))
    body = [
        c.Load(0, (Affine(),) * len(boxes[0]), boxes[0], Affine(), views[0]),
        c.Vector("copy", "i32", boxes[1], dst, (zero,), 0, Affine()),
    ]
    common = touched(views[0], boxes[0]) & touched(dst, boxes[1])
    p, x = program(body, [tensor]), np.zeros(4096, np.uint8)
    if not common:
        go(p, Segment(0, x, True))
        return
    with pytest.raises(SimError, match="race in memory 0") as info:
        go(p, Segment(0, x, True))
    assert info.value.address in common


@pytest.mark.native
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_initialised_bytes_are_exact(seed: int):
    """A read is refused exactly if one of its bytes was not written before; the address named is such a byte."""
    r = Random(seed)
    views, boxes = [], []
    for _ in range(2):
        dims = tuple(r.randint(1, 4) for _ in range(r.randint(0, 3)))
        strides = tuple(r.choice([1, 2, 4, 8, 12, 60]) for _ in dims)
        views.append(View(0, Affine(r.randint(0, 16)), strides, r.choice([DType.u8, DType.i16])))
        boxes.append(dims)
    write = c.Vector("copy", "i32", boxes[0], views[0], (Immediate(0.0, I32),), 0, Affine())
    out = View(0, Affine(4096), tuple(64 * 4**i for i in range(len(boxes[1]))), DType.i32)
    read = c.Vector("copy", "i32", boxes[1], out, (views[1],), 0, Affine())
    missing = touched(views[1], boxes[1]) - touched(views[0], boxes[0])
    if not missing:
        go(program([write, read]))
        return
    with pytest.raises(SimError, match="never written") as info:
        go(program([write, read]))
    assert info.value.address in missing


@pytest.mark.native
@settings(max_examples=150, deadline=None)
@given(drawn=programs())
def test_random_programs_run_or_are_refused(drawn: tuple[Program, Chip, list[list[int]]]):
    """Legal in order but not in values: with checks an error or a result, without them nothing but bounds."""
    p, on, _ = drawn
    for check in (False, True):
        try:
            run(p, on, [Segment(0, np.zeros(1 << 17, np.uint8), True)], check=check)
        except SimError as error:
            if "deadlock" in error.what:
                raise
