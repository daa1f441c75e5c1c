"""ResNet v1.5 (He et al. 2015, arXiv:1512.03385, with the stride on the 3x3 convolution), seeded and untrained.

Weights are drawn by He's rule. Batch-norm statistics are not measured but propagated: an activation is summarised by
the mean and variance that every channel of it has, a convolution of independent inputs then has the mean
`mean * sum(w)` and the variance `variance * sum(w^2)` in each channel, and that is what its batch norm is given. So
each normalised tensor has about unit scale, and the same moments give the int8 ranges without any calibration run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeout.errors import UserError
from tapeout.models.writer import PRECISIONS, Array, ModelWriter

if TYPE_CHECKING:
    import onnx

EPSILON = 1e-5
RANGE_SIGMAS = 8.0
"""int8 covers this many standard deviations: deep layers spread up to twice as far as their moments say."""
POOLED = (1.24, 0.53)
"""Mean and variance of the maximum over 3x3 overlapping windows of rectified unit normals: measured once."""
BRANCH_GAIN = 0.5
"""Scale of a residual branch's last batch norm; it keeps the sum over a stage's blocks near unit scale."""


@dataclass(frozen=True, slots=True)
class ResNetConfig:
    """Options of `build("resnet50")`; the defaults are ResNet-50 of 25.557 M parameters, 4.1 GMAC an image."""

    batch: int | str = 1
    height: int = 224
    width: int = 224
    precision: str = "fp32"
    stages: tuple[int, ...] = (3, 4, 6, 3)
    channels: int = 64
    classes: int = 1000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and variance that each channel of an activation has."""

    mean: float
    variance: float

    @property
    def bound(self) -> float:
        """Magnitude that (almost) no element exceeds."""
        return abs(self.mean) + RANGE_SIGMAS * math.sqrt(self.variance)

    def plus(self, other: Moments) -> Moments:
        return Moments(self.mean + other.mean, self.variance + other.variance)

    def rectified(self) -> Moments:
        """Moments of max(x, 0) for normal x."""
        sigma = math.sqrt(self.variance)
        ratio = self.mean / sigma
        density = math.exp(-0.5 * ratio * ratio) / math.sqrt(2 * math.pi)
        below = 0.5 * (1 + math.erf(ratio / math.sqrt(2)))
        mean = self.mean * below + sigma * density
        square = (self.mean**2 + self.variance) * below + self.mean * sigma * density
        return Moments(mean, square - mean * mean)


@dataclass(frozen=True, slots=True)
class Activation:
    """A tensor of the graph: its name, channels and moments, and its int8 scale once it is quantised."""

    name: str
    channels: int
    moments: Moments
    scale: float = 0.0


class _Writer:
    def __init__(self, config: ResNetConfig) -> None:
        self.out = ModelWriter("resnet", opset=17, ir_version=8)
        self.rng = np.random.default_rng(config.seed)
        self.int8 = config.precision == "int8"
        self.dtype = np.dtype(np.float32) if self.int8 else PRECISIONS[config.precision]

    def quantised(self, x: Activation) -> Activation:
        """x rounded to int8 and back, one symmetric scale for the tensor (nothing in the float precisions)."""
        return self._rounded(x, x.moments.bound / 127) if self.int8 else x

    def _rounded(self, x: Activation, scale: float) -> Activation:
        parameters = (self.out.constant(np.array(scale, np.float32)), self.out.constant(np.array(0, np.int8)))
        stored = self.out.node(f"{x.name}_QuantizeLinear", "QuantizeLinear", x.name, *parameters)
        name = self.out.node(f"{x.name}_DequantizeLinear", "DequantizeLinear", stored, *parameters)
        return Activation(name, x.channels, x.moments, scale)

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
            names.append(self.out.node(f"{base}_DequantizeLinear", "DequantizeLinear", *inputs, axis=0))
        return names[0], names[1]

    def conv_bn(
        self, name: str, x: Activation, channels: int, kernel: int, stride: int = 1, gain: float = 1.0
    ) -> Activation:
        """Convolution and batch norm; the result has about mean 0 and standard deviation `gain`."""
        fan_in = x.channels * kernel * kernel
        w = self.rng.standard_normal((channels, x.channels, kernel, kernel), np.float32)
        w *= np.float32(math.sqrt(2 / fan_in))
        rows = w.reshape(channels, fan_in)
        mean = np.float32(x.moments.mean) * rows.sum(1)
        variance = np.float32(x.moments.variance) * np.einsum("ij,ij->i", rows, rows)
        gamma = np.float32(gain) * self.rng.uniform(0.9, 1.1, channels).astype(np.float32)
        beta = np.float32(0.05 * gain) * self.rng.standard_normal(channels, np.float32)
        window: dict[str, Any] = {
            "kernel_shape": [kernel, kernel],
            "strides": [stride, stride],
            "pads": [kernel // 2] * 4,
        }
        moments = Moments(0.0, gain * gain)
        if self.int8:
            factor = gamma / np.sqrt(variance + EPSILON)
            w *= factor[:, None, None, None]
            inputs = self._int8_weight(name, w, beta - mean * factor, x.scale)
            return Activation(self.out.node(name, "Conv", x.name, *inputs, **window), channels, moments)
        weight = self.out.weight(f"{name}.weight", w.astype(self.dtype, copy=False))
        convolved = self.out.node(name, "Conv", x.name, weight, **window)
        statistics = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
        inputs = tuple(
            self.out.weight(f"{name}.bn.{k}", v.astype(self.dtype, copy=False)) for k, v in statistics.items()
        )
        normal = self.out.node(f"{name}_bn", "BatchNormalization", convolved, *inputs, epsilon=EPSILON)
        return Activation(normal, channels, moments)

    def relu(self, x: Activation) -> Activation:
        name = self.out.node(f"{x.name}_relu", "Relu", x.name)
        return self.quantised(Activation(name, x.channels, x.moments.rectified()))

    def stem(self, x: Activation, channels: int) -> Activation:
        y = self.relu(self.conv_bn("conv1", x, channels, 7, stride=2))
        attributes: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        pooled = self.out.node("maxpool", "MaxPool", y.name, **attributes)
        y = Activation(pooled, channels, Moments(*POOLED), y.scale)
        return self._rounded(y, y.scale) if self.int8 else y

    def bottleneck(self, name: str, x: Activation, channels: int, stride: int, project: bool) -> Activation:
        """1x1, 3x3 (strided) and 1x1 convolution beside the shortcut, which is projected where shapes change."""
        y = self.relu(self.conv_bn(f"{name}.conv1", x, channels, 1))
        y = self.relu(self.conv_bn(f"{name}.conv2", y, channels, 3, stride))
        y = self.quantised(self.conv_bn(f"{name}.conv3", y, 4 * channels, 1, gain=BRANCH_GAIN))
        if project:
            x = self.quantised(self.conv_bn(f"{name}.downsample", x, 4 * channels, 1, stride))
        total = self.out.node(f"{name}.add", "Add", y.name, x.name)
        return self.relu(Activation(total, y.channels, y.moments.plus(x.moments)))

    def head(self, x: Activation, classes: int) -> Activation:
        name = self.out.node("avgpool", "GlobalAveragePool", x.name)
        pooled = self.quantised(Activation(name, x.channels, x.moments))
        flat = self.out.node("flatten", "Flatten", pooled.name, axis=1)
        square = x.moments.mean**2 + x.moments.variance
        w = self.rng.standard_normal((classes, x.channels), np.float32)
        w *= np.float32(1 / math.sqrt(square * x.channels))
        bias = np.float32(0.01) * self.rng.standard_normal(classes, np.float32)
        if self.int8:
            names = self._int8_weight("fc", w, bias, pooled.scale)
        else:
            names = (
                self.out.weight("fc.weight", w.astype(self.dtype, copy=False)),
                self.out.weight("fc.bias", bias.astype(self.dtype, copy=False)),
            )
        logits = self.out.node("fc", "Gemm", flat, *names, transB=1)
        return self.quantised(Activation(logits, classes, Moments(0.0, 1.0)))


def build_resnet(config: ResNetConfig) -> onnx.ModelProto:
    """`image [batch, 3, height, width]`, normalised to unit scale, -> `logits [batch, classes]`.

    fp32 and fp16 keep Conv, BatchNormalization and Relu apart. int8 folds the batch norms and stores int8 weights (a
    scale per output channel) with a QuantizeLinear/DequantizeLinear pair at each activation; its interface is f32.
    """
    if config.precision not in ("fp32", "fp16", "int8"):
        raise UserError(f"precision '{config.precision}'", "model resnet50", "use one of fp32, fp16, int8")
    writer = _Writer(config)
    image = writer.out.input("image", writer.dtype, (config.batch, 3, config.height, config.width))
    x = writer.quantised(Activation(image, 3, Moments(0.0, 1.0)))
    x = writer.stem(x, config.channels)
    for stage, blocks in enumerate(config.stages):
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 0 else 1
            x = writer.bottleneck(f"layer{stage + 1}.{block}", x, config.channels << stage, stride, project=block == 0)
    logits = writer.head(x, config.classes)
    writer.out.node("logits", "Identity", logits.name)
    writer.out.output("logits", writer.dtype, (config.batch, config.classes))
    return writer.out.finish({})
