"""Blocks of convolutional nets whose batch norms are given statistics without any run.

Weights are drawn by He's rule. Batch-norm statistics are not measured but propagated: an activation is summarised by
the mean and variance that every channel of it has, a convolution of independent inputs then has the mean
`mean * sum(w)` and the variance `variance * sum(w^2)` in each channel, and that is what its batch norm is given. So
each normalised tensor has about unit scale, and the same moments give the int8 ranges without any calibration run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeout.models.blocks import Blocks, Config
from tapeout.models.writer import PRECISIONS, Array

EPSILON = 1e-5
RANGE_SIGMAS = 8.0
"""int8 covers this many standard deviations: deep layers spread up to twice as far as their moments say."""
SLOPE = 0.25
"""A PReLU's slope for negative numbers before it is trained (He et al. 2015, arXiv:1502.01852)."""
BRANCH_GAIN = 0.5
"""Scale of a residual branch's last batch norm; it keeps the sum over a stage's blocks near unit scale."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and variance that each channel of an activation has."""

    mean: float
    variance: float

    @property
    def bound(self) -> float:
        """Magnitude that (almost) no element exceeds."""
        return abs(self.mean) + RANGE_SIGMAS * math.sqrt(self.variance)

    @property
    def square(self) -> float:
        """Mean of the squares."""
        return self.mean**2 + self.variance

    def plus(self, other: Moments) -> Moments:
        return Moments(self.mean + other.mean, self.variance + other.variance)

    def times(self, factor: float) -> Moments:
        return Moments(self.mean * factor, self.variance * factor * factor)

    def rectified(self) -> Moments:
        """Moments of max(x, 0) for normal x."""
        sigma = math.sqrt(self.variance)
        ratio = self.mean / sigma
        density = math.exp(-0.5 * ratio * ratio) / math.sqrt(2 * math.pi)
        below = 0.5 * (1 + math.erf(ratio / math.sqrt(2)))
        mean = self.mean * below + sigma * density
        square = self.square * below + self.mean * sigma * density
        return Moments(mean, square - mean * mean)

    def through(self, fn: Callable[[Array], Array]) -> Moments:
        """Moments of fn(x) for normal x, by summing over a grid."""
        grid = np.linspace(-6, 6, 1201)
        density = np.exp(-0.5 * grid * grid)
        density /= density.sum()
        y = fn(self.mean + math.sqrt(self.variance) * grid)
        mean = float(density @ y)
        return Moments(mean, float(density @ (y * y)) - mean * mean)

    def largest_of(self, count: int) -> Moments:
        """About the moments of the largest of `count` independent normal numbers (extreme value theory)."""
        if count < 2:
            return self
        spread = math.sqrt(2 * math.log(count))
        variance = self.variance * math.pi**2 / (6 * spread * spread)
        return Moments(self.mean + math.sqrt(self.variance) * spread, variance)


@dataclass(frozen=True, slots=True)
class Feature:
    """A tensor of the graph: its name, channels and moments, and its int8 scale once it is quantised."""

    name: str
    channels: int
    moments: Moments
    scale: float = 0.0


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "prelu": lambda x: np.where(x < 0, SLOPE * x, x),
}
"""What `activate` knows beside relu, as functions for the moments."""


class ConvBlocks(Blocks):
    """A convolutional net under construction; `config.precision` may be int8 where its builder says so."""

    def __init__(self, name: str, config: Config, drawn: bool = True, precisions: Sequence[str] = tuple(PRECISIONS)):
        super().__init__(name, config, drawn, precisions=precisions, opset=22, ir_version=10)
        self.int8 = config.precision == "int8"

    def image(self, batch: int | str, height: int, width: int, channels: int = 3) -> Feature:
        """The input `image`, normalised to unit scale."""
        name = self.out.input("image", self.dtype, (batch, channels, height, width))
        return self.quantised(Feature(name, channels, Moments(0.0, 1.0)))

    # ---- int8

    def quantised(self, x: Feature) -> Feature:
        """x rounded to int8 and back, one symmetric scale for the tensor (nothing in the float precisions)."""
        return self.rounded(x, x.moments.bound / 127) if self.int8 else x

    def rounded(self, x: Feature, scale: float) -> Feature:
        parameters = (self.out.constant(np.array(scale, np.float32)), self.out.constant(np.array(0, np.int8)))
        stored = self.node(f"{x.name}_QuantizeLinear", "QuantizeLinear", x.name, *parameters)
        name = self.node(f"{x.name}_DequantizeLinear", "DequantizeLinear", stored, *parameters)
        return Feature(name, x.channels, x.moments, scale)

    def _int8_weight(self, name: str, w: Array, bias: Array, x_scale: float) -> tuple[str, str]:
        """w as int8 with one scale per output channel, and its i32 bias, each behind a DequantizeLinear."""
        rows = w.reshape(len(w), -1)
        scale = np.maximum(np.maximum(rows.max(1), -rows.min(1)) / 127, 1e-9).astype(np.float32)
        rows = rows * (1 / scale)[:, None]
        stored = np.rint(rows, out=rows).astype(np.int8).reshape(w.shape)
        bias_scale = scale * np.float32(x_scale)
        parts = (("weight", stored, scale), ("bias", np.rint(bias / bias_scale).astype(np.int32), bias_scale))
        names: list[str] = []
        for part, data, scales in parts:
            base = f"{name}.{part}"
            zero = self.out.constant(np.zeros(len(scales), data.dtype))
            inputs = (
                self.out.weight(f"{base}_quantized", data),
                self.out.weight(f"{base}_scale", scales),
                zero,
            )
            names.append(self.node(f"{base}_DequantizeLinear", "DequantizeLinear", *inputs, axis=0))
        return names[0], names[1]

    # ---- layers

    def conv_bn(
        self,
        name: str,
        x: Feature,
        channels: int,
        kernel: int | Sequence[int] = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        gain: float = 1.0,
        act: str = "",
        pad: int | None = None,
        rank: int = 2,
        bias: bool = False,
    ) -> Feature:
        """Convolution, batch norm and activation; the normalised tensor has about mean 0 and standard deviation
        `gain`."""
        taps = [kernel] * rank if isinstance(kernel, int) else list(kernel)
        fan_in = x.channels // groups * math.prod(taps)
        w = self.draw(name, (channels, x.channels // groups, *taps), math.sqrt(2 / fan_in), needed=self.int8)
        rows = w.reshape(channels, fan_in)
        mean = np.float32(x.moments.mean) * rows.sum(1)
        variance = np.float32(x.moments.variance) * np.einsum("ij,ij->i", rows, rows)
        rng = self.rng(f"{name}.bn")
        gamma = np.float32(gain) * rng.uniform(0.9, 1.1, channels).astype(np.float32)
        beta = np.float32(0.05 * gain) * rng.standard_normal(channels, np.float32)
        window: dict[str, Any] = {
            "kernel_shape": taps,
            "strides": [stride] * rank,
            "pads": [k // 2 if pad is None else pad for k in taps] * 2,
            **({"group": groups} if groups > 1 else {}),
        }
        moments = Moments(0.0, gain * gain)
        if self.int8:
            factor = gamma / np.sqrt(variance + EPSILON)
            w = w * factor[:, None, None, None]
            inputs = self._int8_weight(name, w, beta - mean * factor, x.scale)
            return self.activate(Feature(self.node(name, "Conv", x.name, *inputs, **window), channels, moments), act)
        inputs = (self.stored(f"{name}.weight", w), *((self.normal(f"{name}.bias", (channels,)),) if bias else ()))
        convolved = self.node(name, "Conv", x.name, *inputs, **window)
        statistics = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
        inputs = tuple(self.stored(f"{name}.bn.{k}", v) for k, v in statistics.items())
        normal = self.node(f"{name}_bn", "BatchNormalization", convolved, *inputs, epsilon=EPSILON)
        return self.activate(Feature(normal, channels, moments), act, rank)

    def activate(self, x: Feature, act: str, rank: int = 2) -> Feature:
        """relu, sigmoid, hard_sigmoid, silu, hard_swish or prelu of x; x itself for none."""
        if not act:
            return x
        name = f"{x.name}_{act}"
        match act:
            case "relu":
                self.node(name, "Relu", x.name)
            case "sigmoid":
                self.node(name, "Sigmoid", x.name)
            case "hard_sigmoid":
                self.node(name, "HardSigmoid", x.name, alpha=1 / 6, beta=0.5)
            case "hard_swish":
                self.node(name, "HardSwish", x.name)
            case "prelu":
                slopes = self.normal(f"{name}.slope", (x.channels, *[1] * rank), mean=SLOPE)
                self.node(name, "PRelu", x.name, slopes)
            case _:
                self.silu(name, x.name)
        moments = x.moments.rectified() if act == "relu" else x.moments.through(ACTIVATIONS[act])
        return self.quantised(Feature(name, x.channels, moments))

    def add(self, name: str, x: Feature, y: Feature) -> Feature:
        return Feature(self.node(name, "Add", x.name, y.name), x.channels, x.moments.plus(y.moments))

    def concat(self, name: str, xs: Sequence[Feature]) -> Feature:
        """Channels one after the other; the moments are means over them."""
        channels = sum(x.channels for x in xs)
        joined = self.node(name, "Concat", *(x.name for x in xs), axis=1)
        mean = sum(x.moments.mean * x.channels for x in xs) / channels
        square = sum(x.moments.square * x.channels for x in xs) / channels
        return Feature(joined, channels, Moments(mean, square - mean * mean))

    def squeeze_excite(self, name: str, x: Feature, hidden: int, inner: str, gate: str) -> Feature:
        """x scaled by a factor for each channel, which two 1x1 convolutions make of the channels' means (Hu et al.
        2017, arXiv:1709.01507)."""
        pooled = self.node(f"{name}.pool", "GlobalAveragePool", x.name)
        gain = 1 / math.sqrt(max(x.moments.square, 1e-3))
        y = Feature(self.conv(f"{name}.fc1", pooled, x.channels, hidden, 1, gain=gain), hidden, Moments(0.0, 1.0))
        y = self.activate(y, inner)
        y = self.activate(Feature(self.conv(f"{name}.fc2", y.name, hidden, x.channels, 1), 0, Moments(0.0, 1.0)), gate)
        return Feature(self.node(name, "Mul", x.name, y.name), x.channels, x.moments.times(y.moments.mean))

    def inverted_residual(
        self,
        name: str,
        x: Feature,
        expanded: int,
        channels: int,
        kernel: int,
        stride: int,
        act: str,
        squeeze: tuple[int, str, str] | None = None,
    ) -> Feature:
        """1x1 expansion, depthwise convolution, squeeze-excite of (channels, activation, gate), 1x1 projection (Sandler
        et al. 2018, arXiv:1801.04381); x is added where shapes allow."""
        y = x if expanded == x.channels else self.conv_bn(f"{name}.expand", x, expanded, act=act)
        y = self.conv_bn(f"{name}.depthwise", y, expanded, kernel, stride, groups=expanded, act=act)
        if squeeze:
            y = self.squeeze_excite(f"{name}.se", y, *squeeze)
        kept = stride == 1 and channels == x.channels
        y = self.conv_bn(f"{name}.project", y, channels, gain=BRANCH_GAIN if kept else 1.0)
        return self.add(f"{name}.add", x, y) if kept else y

    def pooled(self, x: Feature) -> Feature:
        """[batch, channels]: the mean over the image."""
        pooled = self.quantised(
            Feature(self.node("avgpool", "GlobalAveragePool", x.name), x.channels, x.moments, x.scale)
        )
        flat = self.node("flatten", "Flatten", pooled.name, axis=1)
        return Feature(flat, x.channels, x.moments, pooled.scale)

    def classify(self, name: str, x: Feature, classes: int) -> Feature:
        """A linear layer with logits of about unit scale."""
        w = self.draw(name, (classes, x.channels), 1 / math.sqrt(x.moments.square * x.channels), needed=self.int8)
        bias = self.draw(f"{name}.bias", (classes,), 0.01)
        if self.int8:
            names = self._int8_weight(name, w, bias, x.scale)
        else:
            names = self.stored(f"{name}.weight", w), self.stored(f"{name}.bias", bias)
        logits = self.node(name, "Gemm", x.name, *names, transB=1)
        return self.quantised(Feature(logits, classes, Moments(0.0, 1.0)))
