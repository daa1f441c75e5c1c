"""Cycle counts worked out on paper from docs/timing.md, met by both executors.

The chip unless a test says otherwise: one core; issue 1 cycle, queues of 4; engine 64 bytes a cycle after 4 cycles of
set-up, bursts of 128 bytes (2 cycles in the engine), 4 at once; DRAM 32 bytes a cycle (4 cycles a burst), granules of
64, latency 10; no other limits. So a first load's first burst is in its queue at 1, leaves the engine at 1+4+2 = 7, the
channel at 11, and arrives at 21; each further burst of it 4 later.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from strategies_isa import CHIP
from tapeout.chip import spec
from tapeout.ir.types import DType
from tapeout.isa import commands as c
from tapeout.isa.operands import CORE, Affine, Immediate, Post, Tensor, View, Wait, slot_value
from tapeout.isa.program import Program
from tapeout.sim import reference, timing

pytestmark = pytest.mark.native

F32, I8 = DType.f32, DType.i8

BYTES = Tensor("bytes", 0, 0, I8, (4096,), (1,))
LINES = Tensor("bytes", 0, 0, I8, (1 << 14,), (1,))
CYCLE = spec.TICKS_PER_CYCLE


def cores(n: int, clusters: int = 1, dies: int = 1) -> spec.Topology:
    return spec.Topology(n, 1e9, clusters, dies)


def view(*strides: int, dtype: DType = F32, base: int = 0) -> View:
    return View(0, Affine(base), strides, dtype)


def load(size: int, at: int = 0, **common: Any) -> c.Load:
    return c.Load(0, (Affine(at),), (size,), Affine(), view(1, dtype=I8), **common)


def store(size: int, at: int = 0, **common: Any) -> c.Store:
    return c.Store(0, (Affine(at),), (size,), Affine(), view(1, dtype=I8), **common)


def vector(elements: int, **common: Any) -> c.Vector:
    """2 + ceil(elements / 8) cycles."""
    return c.Vector("neg", "f32", (elements,), view(4), (view(4),), 0, Affine(), **common)


def matmul(m: int, n: int, k: int, **common: Any) -> c.MatMul:
    return c.MatMul((m,), n, (k,), view(4 * k, 4), view(4 * n, 4), view(4 * n, 4), Affine(), **common)


def on(core: int, *body: c.Node) -> c.If:
    """The body in one core of two only."""
    value = slot_value(CORE) if core else Affine(1) + slot_value(CORE, -1)
    return c.If(value, body)


def check(
    cycles: int,
    *body: c.Node,
    chip: spec.Chip = CHIP,
    tensors: tuple[Tensor, ...] = (BYTES,),
    semaphores: tuple[int, ...] = (),
    scalars: list[list[int]] | None = None,
) -> timing.Trace:
    """Both executors take `cycles`, and agree on every command."""
    slots = ("core", "i", "j")
    program = Program("hand", chip.name, chip.cores, tensors, slots, semaphores, body)
    judge = reference.run(program, chip, scalars)
    trace = timing.run(program, chip, scalars, trace=True)
    e = trace.events
    columns = (e.core, e.queue, e.kernel, e.opcode, e.entered, e.start, e.released, e.end)
    assert (judge.cycles, trace.cycles) == (cycles, cycles)
    assert sorted(zip(*(column.tolist() for column in columns), strict=True)) == sorted(
        (e.core, e.queue, e.kernel, e.opcode, e.entered, e.start, e.released, e.end) for e in judge.events
    )
    return trace


def ends(trace: timing.Trace, core: int, queue: c.Queue) -> list[int]:
    mine = (trace.events.core == core) & (trace.events.queue == queue)
    return trace.events.end[mine].tolist()


def test_one_gemm_tile() -> None:
    """8x8x8 on an 8x8 array: load 8, stream 8, fill 14 = 30 cycles; operands need 256 / 64 = 4. In the queue at 1."""
    check(31, matmul(8, 8, 8))


def test_gemm_of_four_passes_with_overlapped_load() -> None:
    """20x16x16: 2 x 2 passes of 20 rows, each next tile loads meanwhile: 8 + 3 x max(20, 8) + 20 + 14 = 102.

    A streams twice (two column tiles): 20 x 16 x 4 x 2 / 64 = 40 cycles, no limit. From 1 to 103.
    """
    check(103, matmul(20, 16, 16))


def test_gemm_of_four_short_passes_waits_for_the_load() -> None:
    """4x16x16: a pass streams 4 rows but its successor loads 8: 8 + 3 x max(4, 8) + 4 + 14 = 50. From 1 to 51."""
    check(51, matmul(4, 16, 16))


def test_gemm_of_four_passes_without_overlap() -> None:
    """20x16x16: 4 x (8 + 20 + 14) = 168 cycles. From 1 to 169."""
    chip = replace(CHIP, matrix=replace(CHIP.matrix, load_overlapped=False))
    check(169, matmul(20, 16, 16), chip=chip)


def test_double_buffered_gemm_loop() -> None:
    """Three turns of: load 256 bytes (waits free, posts full); 30-cycle GEMM (waits full, posts free); 2 buffers.

    Load 0: starts 1, leaves 7 and 9 (engine released), channel 11 and 15, arrives 25. GEMM 0: 25 to 55.
    Load 1: starts 9, leaves 15 and 17, channel 19 and 23, arrives 33. GEMM 1: 55 to 85.
    Load 2: the buffers are taken until 55; leaves 61 and 63, channel 65 and 69, arrives 79. GEMM 2: 85 to 115.
    """
    tile = load(256, waits=(Wait(0),), posts=(Post(1),))
    gemm = matmul(8, 8, 8, waits=(Wait(1),), posts=(Post(0),))
    trace = check(115, c.Loop(1, Affine(3), (tile, gemm)), semaphores=(2, 0))
    assert ends(trace, 0, c.Queue.LD) == [25, 33, 79]
    assert ends(trace, 0, c.Queue.MM) == [55, 85, 115]
    assert trace.queues.wait_semaphore[0, c.Queue.LD] == 55 - 17
    assert trace.read_bytes == 768


def test_two_cores_share_dram() -> None:
    """Both load 256 bytes; bursts leave the engines at 7 and 9. The channel: core 0 7-11, core 1 11-15, core 0 15-19,
    core 1 19-23; they arrive at 29 and 33."""
    trace = check(33, load(256), chip=replace(CHIP, topology=cores(2)))
    assert (ends(trace, 0, c.Queue.LD), ends(trace, 1, c.Queue.LD)) == ([29], [33])
    assert trace.resource_ticks["dram 0"] == 16 * CYCLE


def test_four_cores_at_a_cluster_port() -> None:
    """Port 32 bytes a cycle, latency 2; DRAM 128 a cycle. Four bursts at the port at 7: out at 11, 15, 19, 23; the
    channel takes 1 each; 12 of latency: 24, 28, 32, 36."""
    dram = replace(CHIP.dram, bandwidth_bytes_per_s=128e9)
    chip = replace(CHIP, topology=cores(4), dram=dram, cluster_port=spec.Port(32.0, 2))
    trace = check(36, load(128), chip=chip)
    assert [ends(trace, core, c.Queue.LD)[0] for core in range(4)] == [24, 28, 32, 36]


UNEQUAL = c.Loop(1, slot_value(CORE), (vector(64),))
"""Core n runs n vector commands of 10 cycles."""


def test_cluster_barrier() -> None:
    """2 clusters of 2. Core 0 arrives at 1; core 1 issues a vector, and the barrier at 2, its vector ends at 11. They
    go on at 16, the next vector is in its queue at 17 and takes 3: 20. Core 2 arrives at 21, core 3 at 31: 36, 37, 40.
    """
    barrier = c.Barrier(False, (c.Queue.VE,))
    trace = check(40, UNEQUAL, barrier, vector(8), chip=replace(CHIP, topology=cores(2, 2)))
    assert [ends(trace, core, c.Queue.VE)[-1] for core in range(4)] == [20, 20, 40, 40]
    assert trace.wait_barrier.tolist() == [15, 14, 33, 32]


def test_chip_barrier_with_unequal_load() -> None:
    """The same, but all four wait for core 3, which arrives at 31: all go on at 36, in the queue at 37, done at 40."""
    barrier = c.Barrier(True, (c.Queue.VE,))
    trace = check(40, UNEQUAL, barrier, vector(8), chip=replace(CHIP, topology=cores(2, 2)))
    assert [ends(trace, core, c.Queue.VE)[-1] for core in range(4)] == [40] * 4


def test_strided_load_wastes_granules() -> None:
    """4 runs of 32 bytes, 96 apart, from 48: [48,80) touches 2 granules, [144,176) 1, [240,272) 2, [336,368) 1.

    6 x 64 = 384 bytes are 3 bursts: they leave at 7, 9, 11, the channel at 11, 15, 19; the last arrives at 29.
    """
    tensor = Tensor("rows", 0, 48, F32, (4, 8), (96, 4))
    box = c.Load(0, (Affine(), Affine()), (4, 8), Affine(), view(32, 4))
    trace = check(29, box, tensors=(tensor,))
    assert (trace.read_bytes, trace.read_charged_bytes) == (128, 384)


def test_box_that_sticks_out_and_box_outside() -> None:
    """8x8 f32, packed. Box of 4x8 at (6, -2): rows 6-7, columns 0-5 are inside: runs [192,216) and [224,248), a
    granule each, one burst: released at 7, arrives at 21. A box at (8, 0) is wholly outside: starts at 7, its set-up
    ends at 11, but it completes after the first: 21."""
    tensor = Tensor("square", 0, 0, F32, (8, 8), (32, 4))
    ragged = c.Load(0, (Affine(6), Affine(-2)), (4, 8), Affine(), view(32, 4))
    outside = c.Load(0, (Affine(8), Affine()), (4, 8), Affine(), view(32, 4))
    trace = check(21, ragged, outside, tensors=(tensor,))
    assert (trace.read_bytes, trace.read_charged_bytes) == (48, 128)
    assert trace.events.released.tolist() == [7, 11]


def test_partial_granule_store() -> None:
    """Bytes [32,132) touch granules 0, 1, 2 and cover 0 and 2 partly: 5 x 64 = 320 bytes, bursts of 128, 128, 64.

    They leave at 7, 9, 10; the channel at 11, 15, 17; the last arrives at 27.
    """
    store = c.Store(0, (Affine(32),), (100,), Affine(), view(1, dtype=I8))
    trace = check(27, store)
    assert (trace.written_bytes, trace.written_charged_bytes) == (100, 320)


def test_adding_store_pays_every_granule_twice() -> None:
    """Bytes [0,128), whole granules, but read first: 256 bytes, two bursts: channel at 11 and 15, arrives at 25."""
    store = c.Store(0, (Affine(),), (128,), Affine(), view(1, dtype=I8), add=True)
    assert check(25, store).written_charged_bytes == 256


def test_multicast() -> None:
    """Core 0 of 4 loads 128 bytes for all: port (32 a cycle) 7-11, channel (128 a cycle) 11-12, latency 12: at 24.

    All four vectors of 3 cycles start then: 27. Port and DRAM are used once.
    """
    dram = replace(CHIP.dram, bandwidth_bytes_per_s=128e9)
    chip = replace(CHIP, topology=cores(4), dram=dram, cluster_port=spec.Port(32.0, 2))
    shared = load(128, multicast=True, posts=(Post(0, 1, True),))
    trace = check(27, on(0, shared), vector(8, waits=(Wait(0),)), chip=chip, semaphores=(0, 0, 0, 0))
    assert [ends(trace, core, c.Queue.VE) for core in range(4)] == [[27]] * 4
    assert (trace.resource_ticks["cluster 0 in"], trace.read_bytes) == (4 * CYCLE, 128)


def test_die_link() -> None:
    """Two dies with 32 bytes a cycle each; link 64 a cycle, latency 6. Core 0 loads bytes [0,256).

    Burst 0 is at home: leaves 7, channel 11, arrives 21. Burst 1 lives on die 1: leaves 9, link 11, channel of die 1
    15, then 6 + 10 of latency: 31.
    """
    dram = replace(CHIP.dram, bandwidth_bytes_per_s=64e9)
    chip = replace(CHIP, topology=cores(1, 1, 2), dram=dram, die_link=spec.Port(64.0, 6))
    trace = check(31, on(0, load(256)), chip=chip)
    assert trace.resource_ticks["die 1 to 0"] == 2 * CYCLE
    assert trace.resource_ticks["die 0 to 1"] == 0


def test_cache_hit_under_miss() -> None:
    """Cache 64 bytes a cycle, latency 3. Core 0 misses: leaves 7, cache 9, channel 13, arrives 13 + 3 + 10 = 26.

    Core 1 asks for the same tile in the same cycle, a hit: its burst waits at the cache until 26, leaves it at 28,
    arrives at 31.
    """
    cache = spec.Shared("l2", 1024, 64.0, "chip", "hardware", 3)
    trace = check(31, load(128), chip=replace(CHIP, topology=cores(2), shared=(cache,)))
    assert (trace.cache_hit_bytes, trace.cache_missed_bytes, trace.read_bytes) == (128, 128, 128)
    assert ends(trace, 0, c.Queue.LD) == [26]


def test_cache_drops_the_least_recently_used_line() -> None:
    """128 bytes of two lines (of 4096) fit. A, B miss; A hits; C drops B; B misses again. No limits but the
    channel's, latency 10. A: starts 1, leaves 7, channel 11, arrives 21. B: starts 7, leaves 13, channel 17,
    arrives 27. A again: starts 13, leaves 19, waits for 21 (no time at the cache): 21, but completes after B:
    27. C enters at 4, starts at 19, leaves 25, channel 29, arrives 39. B: control waits for a place in the
    queue of 4 until 21, enters at 22, starts at 25, leaves 31, channel 35, arrives 45."""
    chip = replace(CHIP, shared=(spec.Shared("l2", 256, 0.0, "chip", "hardware", 0),))
    body = (load(128, at) for at in (0, 4096, 0, 8192, 4096))
    trace = check(45, *body, chip=chip, tensors=(LINES,))
    assert (trace.cache_hit_bytes, trace.cache_missed_bytes) == (128, 4 * 128)
    assert ends(trace, 0, c.Queue.LD) == [21, 27, 27, 39, 45]


def test_part_of_a_load_hits() -> None:
    """Cache 64 bytes a cycle, latency 3. [0,256) misses: leaves 7 and 9, cache 9 and 11, channel 13 and 17,
    arrives 17 + 13 = 30. [128,384), ready at 9 + 4 = 13: what is missing comes first, leaves 15, cache 17,
    channel 21, arrives 34. What is under way leaves 17, waits at the cache until 30, leaves it at 32, arrives
    at 35."""
    chip = replace(CHIP, shared=(spec.Shared("l2", 1024, 64.0, "chip", "hardware", 3),))
    trace = check(35, load(256), load(256, 128), chip=chip)
    assert (trace.cache_hit_bytes, trace.cache_missed_bytes, trace.read_bytes) == (128, 384, 384)


def test_cache_keeps_a_store() -> None:
    """Cache 64 bytes a cycle, latency 3. The store leaves 7, the cache 9, is there at 12. The load that waits for
    it leaves 18, the cache 20, arrives at 23. DRAM has nothing to do."""
    chip = replace(CHIP, shared=(spec.Shared("l2", 1024, 64.0, "chip", "hardware", 3),))
    body = (store(128, posts=(Post(0),)), load(128, waits=(Wait(0),)))
    trace = check(23, *body, chip=chip, semaphores=(0,))
    assert (trace.cache_hit_bytes, trace.read_bytes, trace.written_bytes) == (128, 0, 0)


def test_cache_of_a_cluster_keeps_no_store() -> None:
    """The store leaves 8, the cache 11, the channel (a load's until 13) 17, is there at 30, and what the cache had of
    it is gone: the load leaves 36, the cache 38, the channel 42, arrives at 55."""
    chip = replace(CHIP, shared=(spec.Shared("l2", 1024, 64.0, "cluster", "hardware", 3),))
    body = (load(128, posts=(Post(0),)), store(128, posts=(Post(1),)), load(128, waits=(Wait(0), Wait(1))))
    trace = check(55, *body, chip=chip, semaphores=(0, 0))
    assert (trace.cache_hit_bytes, trace.read_bytes, trace.written_bytes) == (0, 256, 128)


def test_what_was_stored_goes_to_memory_when_its_line_goes() -> None:
    """512 bytes fit. The load starts at 2, and takes the place of the store's line: the channel writes 512 bytes until
    18. The load's burst leaves the engine at 8, the channel at 22, arrives at 32."""
    chip = replace(CHIP, shared=(spec.Shared("l2", 512, 0.0, "chip", "hardware", 0),))
    trace = check(32, store(512), load(128, 4096), chip=chip, tensors=(LINES,))
    assert (trace.read_bytes, trace.written_bytes) == (128, 512)


def test_a_granule_that_a_store_covers_partly_is_fetched() -> None:
    """96 bytes leave the engine at 5 + 1.5 and are there; 64 are fetched, which nothing waits for."""
    chip = replace(CHIP, shared=(spec.Shared("l2", 512, 0.0, "chip", "hardware", 0),))
    trace = check(7, store(96), chip=chip)
    assert (trace.read_bytes, trace.written_bytes, trace.resource_ticks["dram 0"]) == (64, 0, 2 * CYCLE)


def test_queue_depth_stall() -> None:
    """Queue of 2, vectors of 10 cycles: in the queue at 1 and 2; the third's issue waits for the first's end at 11, in
    the queue at 12; the fourth's for 21, at 22. They run back to back from 1: 41. Control waited 9 + 9."""
    chip = replace(CHIP, control=replace(CHIP.control, queue_depth=2))
    trace = check(41, c.Loop(1, Affine(4), (vector(64),)), chip=chip)
    assert trace.events.entered.tolist() == [1, 2, 12, 22]
    assert trace.queues.full[0, c.Queue.VE] == 18


def test_issue_bound_loop() -> None:
    """Issue takes 6, each vector 3: in the queue at 6, 12, .. 30, the last ends at 33. 15 busy, 18 idle."""
    chip = replace(CHIP, control=replace(CHIP.control, issue_cycles=6))
    trace = check(33, c.Loop(1, Affine(5), (vector(8),)), chip=chip)
    assert (trace.queues.busy[0, c.Queue.VE], trace.queues.idle[0, c.Queue.VE]) == (15, 18)


def test_load_limited_by_outstanding_bursts() -> None:
    """Two bursts at once, latency 20, 512 bytes. Burst 0: leaves 7, channel 11, arrives 31; burst 1: 9, 15, 35.

    Burst 2 may enter the engine at 31: leaves 33, channel 37, arrives 57; burst 3 at 35: 37, 41, 61.
    """
    dma, dram = replace(CHIP.dma, outstanding_bursts=2), replace(CHIP.dram, latency_cycles=20)
    trace = check(61, load(512), chip=replace(CHIP, dma=dma, dram=dram))
    assert trace.events.released.tolist() == [37]


def test_gather() -> None:
    """5 rows of 32 bytes by index, each a run of its own that counts as row 0, [16,48): 5 granules, 320 bytes.

    Bursts of 128, 128, 64 leave at 7, 9, 10, the channel at 11, 15, 17; the last arrives at 27.
    """
    table = Tensor("table", 0, 16, F32, (100, 8), (32, 4))
    rows = c.Index(0, view(4, dtype=DType.i32))
    trace = check(27, c.Load(0, (Affine(), Affine()), (5, 8), Affine(), view(32, 4), index=rows), tensors=(table,))
    assert (trace.read_bytes, trace.read_charged_bytes) == (160, 320)


def test_drain_after_gemm() -> None:
    """GEMM from 1 to 31; then 64 elements: 3 + max(256 / 64, 64 / 8) = 11 cycles, to 42."""
    one, zero = Immediate(1.0, F32), Immediate(0.0, F32)
    out, acc = view(8, 1, dtype=I8), view(32, 4)
    drain = c.Drain((8, 8), out, acc, one, zero, -128.0, 127.0, 0, waits=(Wait(0),))
    check(42, matmul(8, 8, 8, posts=(Post(0),)), drain, semaphores=(0,))


def test_semaphore_ping_pong() -> None:
    """Vector (3 cycles) and copy of 64 bytes (3 + 1) take turns from 1: 4, 8, 11, 15, 18, 22."""
    ping = vector(8, waits=(Wait(0),), posts=(Post(1),))
    pong = c.Copy((16,), view(4), view(4), waits=(Wait(1),), posts=(Post(0),))
    trace = check(22, c.Loop(1, Affine(3), (ping, pong)), semaphores=(1, 0))
    assert sorted(trace.events.end.tolist()) == [4, 8, 11, 15, 18, 22]


@pytest.mark.parametrize(("scope", "cycles"), [("cluster", 18), ("chip", 30)])
def test_shared_memory(scope: str, cycles: int) -> None:
    """A memory of 64 bytes a cycle, latency 3; two cores load 256 bytes; the cluster's port has 32, latency 2.

    Of the cluster: only its own port: core 0 7-9, core 1 9-11, 11-13 and 13-15, and 3 of latency: 16 and 18.
    Of the chip: first the cluster's port, 7-11, 11-15, 15-19, 19-23; each then 2 in the memory, the last 23-25; plus 5.
    """
    pool = spec.Shared("pool", 4096, 64.0, scope, "software", 3)
    chip = replace(CHIP, topology=cores(2), shared=(pool,), cluster_port=spec.Port(32.0, 2))
    check(cycles, load(256), chip=chip, tensors=(replace(BYTES, space=1),))


def test_distributed_memory() -> None:
    """The same memory in slices of two clusters of one core each, 256 bytes in turn; 128 bytes leave a core's engine at
    7 and at 9, the first for slice 0, the second for slice 1.

    Core 0: slice 0 7-9, and 3: 12; own port 9-13, port of the other 13-17, slice 1 17-19, latencies 2 + 2 + 3: 26.
    Core 1: own port 7-11, port of the other 11-15, slice 0 15-17, and 7: 24; slice 1 9-11, and 3: 14.
    """
    pool = spec.Shared("pool", 4096, 64.0, "distributed", "software", 3)
    apart = spec.Topology(cores=1, clock_hz=1e9, clusters=2)
    chip = replace(CHIP, topology=apart, shared=(pool,), cluster_port=spec.Port(32.0, 2))
    trace = check(26, load(256), chip=chip, tensors=(replace(BYTES, space=1),))
    assert sorted(trace.events.end.tolist()) == [24, 26]


def test_scalar_decides_the_trip_count() -> None:
    """Vector from 1 to 4; the scalar's issue ends at 2, its wait at 4; three vectors in the queue at 5, 6, 7: 14."""
    read = c.LoadScalar(1, view(dtype=DType.i32), (Wait(0),))
    body = (vector(8, posts=(Post(0),)), read, c.Loop(2, slot_value(1), (vector(8),)))
    trace = check(14, *body, semaphores=(0,), scalars=[[3]])
    assert trace.wait_scalar.tolist() == [2]


def test_nop_completes_in_order() -> None:
    """A Nop behind a load starts when the engine is released, at 7, but completes after the load, at 21; what waits
    for it runs 21 to 24."""
    tell = c.Nop(c.Queue.LD, posts=(Post(0),))
    check(24, load(128), tell, vector(8, waits=(Wait(0),)), semaphores=(0,))
