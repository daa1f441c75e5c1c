"""The shapes that are measured side by side, derived from the architectures. Standard library only: peers use it too.

python benchmarks/workloads.py            print them all as JSON
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import ceil

ROWS = COLUMNS = 128
"""The array of `systolic-128`."""


@dataclass(frozen=True)
class Gemm:
    """out[m, n] = sum over k of in[m, k] * weight[k, n]."""

    m: int
    n: int
    k: int

    @property
    def ideal_cycles(self) -> float:
        """Multiply-accumulates over those that the array can do in a cycle."""
        return self.m * self.n * self.k / (ROWS * COLUMNS)


@dataclass(frozen=True)
class Conv:
    """A square convolution: `size` x `size` inputs of `c` channels, `kernel` x `kernel` taps, `m` output channels."""

    size: int
    pad: int
    kernel: int
    c: int
    m: int
    stride: int

    @property
    def out(self) -> int:
        """Output height and width."""
        return (self.size + 2 * self.pad - self.kernel) // self.stride + 1

    @property
    def gemm(self) -> Gemm:
        """The matrix product that it is once windows are rows."""
        return Gemm(self.out**2, self.m, self.kernel**2 * self.c)

    @property
    def ideal_cycles(self) -> float:
        return self.gemm.ideal_cycles


Layer = Gemm | Conv


def as_gemm(layer: Layer) -> Gemm:
    return layer.gemm if isinstance(layer, Conv) else layer


def resnet50() -> list[tuple[str, Layer]]:
    """ResNet-50 for 224x224 images, batch 1 (He et al. 2015, table 1; the stride is in the 3x3 convolution).

    `lNbM_cK` is convolution K of block M of stage N, `ds` the projection shortcut; `fc` the classifier.
    """
    layers: list[tuple[str, Layer]] = [("conv1", Conv(224, 3, 7, 3, 64, 2))]
    size, channels = 56, 64
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 1):
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 1 else 1
            name, inside = f"l{stage}b{block}", size // stride
            layers += [
                (f"{name}_c1", Conv(size, 0, 1, channels, width, 1)),
                (f"{name}_c2", Conv(size, 1, 3, width, width, stride)),
                (f"{name}_c3", Conv(inside, 0, 1, width, 4 * width, 1)),
            ]
            if block == 0:
                layers.append((f"{name}_ds", Conv(size, 0, 1, channels, 4 * width, stride)))
            size, channels = inside, 4 * width
    return [*layers, ("fc", Gemm(1, 1000, channels))]


def bert(sequence: int = 128, layers: int = 1, hidden: int = 768, heads: int = 12) -> list[tuple[str, Layer]]:
    """The matrix products of BERT-base encoder layers (Devlin et al. 2018, section 3)."""
    head = hidden // heads
    found: list[tuple[str, Layer]] = []
    for n in range(layers):
        found += [(f"L{n}_{name}", Gemm(sequence, hidden, hidden)) for name in "qkv"]
        found += [(f"L{n}_qk{h}", Gemm(sequence, sequence, head)) for h in range(heads)]
        found += [(f"L{n}_av{h}", Gemm(sequence, head, sequence)) for h in range(heads)]
        found += [
            (f"L{n}_o", Gemm(sequence, hidden, hidden)),
            (f"L{n}_ff1", Gemm(sequence, 4 * hidden, hidden)),
            (f"L{n}_ff2", Gemm(sequence, hidden, 4 * hidden)),
        ]
    return found


WORKLOADS: dict[str, list[tuple[str, Layer]]] = {
    "gemm1024": [("g", Gemm(1024, 1024, 1024))],
    "bert-layer": bert(),
    "resnet50": resnet50(),
}


def unique(layers: Iterable[tuple[str, Layer]]) -> dict[Layer, tuple[str, int]]:
    """Every different layer once, with the first name that it has and how often it occurs."""
    layers = list(layers)
    counts = Counter(layer for _, layer in layers)
    first: dict[Layer, str] = {}
    for name, layer in layers:
        first.setdefault(layer, name)
    return {layer: (first[layer], count) for layer, count in counts.items()}


def ideal(name: str) -> float:
    """Cycles of a workload when every multiplier works in every cycle."""
    return sum(layer.ideal_cycles for _, layer in WORKLOADS[name])


# ---- what SCALE-Sim counts, as formulas: held against runs of it by peers_scalesim.py


def scalesim_cycles(layer: Layer, dataflow: str) -> int:
    """Cycles that SCALE-Sim v3 counts for a layer (prefetch not counted), for dataflow `ws` or `os`.

    Each pass of the array loads (ws: one row a cycle), fills (rows + columns - 2) and streams; the last cycle's number
    is reported, hence - 1. A convolution's output size is rounded up: strided ones count rows that do not exist.
    """
    g = as_gemm(layer)
    rows = g.m
    if isinstance(layer, Conv):
        rows = ceil((layer.size + 2 * layer.pad - layer.kernel + layer.stride) / layer.stride) ** 2
    fill = ROWS + COLUMNS - 2
    if dataflow == "ws":
        return ceil(g.k / ROWS) * ceil(g.n / COLUMNS) * (ROWS + fill + rows) - 1
    return ceil(rows / ROWS) * ceil(g.n / COLUMNS) * (fill + g.k) - 1


def main() -> None:
    shapes = {w: [{"name": n, **asdict(layer)} for n, layer in layers] for w, layers in WORKLOADS.items()}
    print(json.dumps(shapes, indent=1))


if __name__ == "__main__":
    main()
