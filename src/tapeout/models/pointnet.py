"""PointNet (Qi et al. 2016, arXiv:1612.00593): classifies the points that a range sensor saw. Seeded and untrained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tapeout.models.convolution import ConvBlocks, Feature, Moments

if TYPE_CHECKING:
    from tapeout.models.writer import Built


@dataclass(frozen=True, slots=True)
class PointNetConfig:
    """Options of `build("pointnet")`; the defaults are the classifier of 3.5 M parameters for 1024 points.

    `channels` are those of the first layer; all others are multiples.
    """

    batch: int = 1
    points: int = 1024
    precision: str = "fp32"
    channels: int = 64
    classes: int = 40
    seed: int = 0


class _Blocks(ConvBlocks):
    def pointwise(self, name: str, x: Feature, channels: int, act: str = "relu") -> Feature:
        """One linear layer with batch norm for every point."""
        return self.conv_bn(name, x, channels, act=act, rank=1, bias=True)

    def largest(self, name: str, x: Feature, points: int) -> Feature:
        """[batch, channels, 1]: the maximum over all points, whatever their order."""
        pooled = self.node(name, "ReduceMax", x.name, self.out.ints(2), keepdims=1)
        return Feature(pooled, x.channels, Moments(0.0, 1.0).largest_of(points))

    def transform(self, name: str, x: Feature, config: PointNetConfig) -> Feature:
        """x turned by a square matrix that a small net makes of x; the matrix is the identity and a little more."""
        n, size = config.channels, x.channels
        y = x
        for i, width in enumerate((n, 2 * n, 16 * n)):
            y = self.pointwise(f"{name}.conv{i + 1}", y, width)
        y = self.largest(f"{name}.max", y, config.points)
        for i, width in enumerate((8 * n, 4 * n)):
            y = self.pointwise(f"{name}.fc{i + 1}", y, width)
        flat = self.node(f"{name}.flat", "Flatten", y.name, axis=1)
        entries = self.dense(f"{name}.fc3", flat, y.channels, size * size, 0.1 / (size * y.channels) ** 0.5)
        matrix = self.reshape(f"{name}.square", entries, config.batch, size, size)
        matrix = self.node(f"{name}.matrix", "Add", matrix, self.out.constant(np.eye(size).astype(self.dtype)))
        return Feature(self.node(name, "MatMul", matrix, x.name), size, x.moments)


def build_pointnet(config: PointNetConfig, drawn: bool = True) -> Built:
    """`points [batch, 3, points]`, centred and of unit scale, -> `logits [batch, classes]`."""
    b, c, n = _Blocks("pointnet", config, drawn), config, config.channels
    x = Feature(b.out.input("points", b.dtype, (c.batch, 3, c.points)), 3, Moments(0.0, 1.0))
    x = b.transform("input_transform", x, c)
    x = b.transform("feature_transform", b.pointwise("conv1", x, n), c)
    x = b.pointwise("conv3", b.pointwise("conv2", x, 2 * n), 16 * n, act="")
    x = b.largest("max", x, c.points)
    x = b.pointwise("fc2", b.pointwise("fc1", x, 8 * n), 4 * n)
    flat = Feature(b.node("flatten", "Flatten", x.name, axis=1), x.channels, x.moments)
    b.output("logits", b.classify("fc3", flat, c.classes).name, (c.batch, c.classes))
    return b.finish()
