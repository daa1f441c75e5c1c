"""A detector of YOLOv5's shape (Jocher 2020, version 6.0: CSPDarknet, PANet, three anchored heads), untrained.

Boxes are decoded to pixels; the choice among them (non-maximum suppression) is left to the host, as its result has no
static shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeout.errors import UserError
from tapeout.models.convolution import BRANCH_GAIN, ConvBlocks, Feature

if TYPE_CHECKING:
    from tapeout.models.writer import Built

ANCHORS = (
    (8, ((10, 13), (16, 30), (33, 23))),
    (16, ((30, 61), (62, 45), (59, 119))),
    (32, ((116, 90), (156, 198), (373, 326))),
)
"""Stride of each head and the boxes (pixels) that its predictions scale."""


@dataclass(frozen=True, slots=True)
class YoloConfig:
    """Options of `build("yolov5s")`; the defaults are YOLOv5s of 7.235 M parameters, 8.2 GMAC an image of 640 x 640.

    `channels` are those of the first convolution, `blocks` the bottlenecks of the first stage.
    """

    batch: int = 1
    height: int = 640
    width: int = 640
    precision: str = "fp32"
    channels: int = 32
    blocks: int = 1
    classes: int = 80
    seed: int = 0


class _Blocks(ConvBlocks):
    def silu_conv(self, name: str, x: Feature, channels: int, kernel: int = 1, stride: int = 1) -> Feature:
        return self.conv_bn(name, x, channels, kernel, stride, act="silu")

    def c3(self, name: str, x: Feature, channels: int, blocks: int, shortcut: bool = True) -> Feature:
        """Bottlenecks on one half of the channels, the other half goes around them."""
        half = channels // 2
        y = self.silu_conv(f"{name}.cv1", x, half)
        for i in range(blocks):
            inner = self.silu_conv(f"{name}.m.{i}.cv1", y, half)
            z = self.conv_bn(f"{name}.m.{i}.cv2", inner, half, 3, gain=BRANCH_GAIN if shortcut else 1.0, act="silu")
            y = self.add(f"{name}.m.{i}.add", y, z) if shortcut else z
        around = self.silu_conv(f"{name}.cv2", x, half)
        return self.silu_conv(f"{name}.cv3", self.concat(f"{name}.concat", [y, around]), channels)

    def pyramid_pooling(self, name: str, x: Feature, channels: int) -> Feature:
        """Maxima over windows of 5, 9 and 13 pixels, each pool on top of the one before."""
        window: dict[str, Any] = {"kernel_shape": [5, 5], "strides": [1, 1], "pads": [2, 2, 2, 2]}
        parts = [self.silu_conv(f"{name}.cv1", x, x.channels // 2)]
        for i, side in enumerate((5, 9, 13)):
            pooled = self.node(f"{name}.m.{i}", "MaxPool", parts[-1].name, **window)
            parts.append(Feature(pooled, x.channels // 2, parts[0].moments.largest_of(side * side)))
        return self.silu_conv(f"{name}.cv2", self.concat(f"{name}.concat", parts), channels)

    def widened(self, name: str, x: Feature) -> Feature:
        return Feature(self.upsampled(name, x.name), x.channels, x.moments)

    def head(self, x: Feature, batch: int, size: tuple[int, int], level: int, classes: int) -> str:
        """Predictions [batch, 3 * height * width, 5 + classes]: centre and size in pixels, objectness, classes."""
        (stride, anchors), name = ANCHORS[level], f"detect.{level}"
        (height, width), count = size, 5 + classes
        gain = 1 / math.sqrt(x.moments.square)
        y = self.conv(name, x.name, x.channels, len(anchors) * count, 1, gain=gain)
        y = self.reshape(f"{name}.anchors", y, batch, len(anchors), count, height, width)
        y = self.node(f"{name}.last", "Transpose", y, perm=[0, 1, 3, 4, 2])
        y = self.node(f"{name}.sigmoid", "Sigmoid", y)
        centre, extent, scores = self.split(name, y, ("centre", "extent", "scores"), sizes=(2, 2, count - 4))
        columns, rows = np.meshgrid(np.arange(width), np.arange(height))
        grid = (np.stack([columns, rows], -1) - 0.5) * stride
        # centre = (2 s - 0.5 + grid) stride, extent = (2 s)^2 anchor
        centre = self.node(f"{name}.centre_scaled", "Mul", centre, self.number(2 * stride))
        centre = self.node(f"{name}.centre_placed", "Add", centre, self.out.constant(grid.astype(self.dtype)))
        extent = self.node(f"{name}.extent_squared", "Mul", extent, extent)
        sizes = 4 * np.array(anchors, np.float32).reshape(len(anchors), 1, 1, 2)
        extent = self.node(f"{name}.extent_scaled", "Mul", extent, self.out.constant(sizes.astype(self.dtype)))
        joined = self.node(f"{name}.joined", "Concat", centre, extent, scores, axis=-1)
        return self.reshape(f"{name}.flat", joined, batch, len(anchors) * height * width, count)


def build_yolo(config: YoloConfig, drawn: bool = True) -> Built:
    """`image [batch, 3, height, width]`, normalised to unit scale, -> `boxes [batch, n, 5 + classes]`."""
    c = config
    if c.height % 32 or c.width % 32:
        raise UserError(f"an image of {c.height} x {c.width}", "model yolov5s", "give multiples of 32")
    b, n, k = _Blocks("yolov5s", c, drawn), c.channels, c.blocks
    x = b.conv_bn("0", b.image(c.batch, c.height, c.width), n, 6, 2, act="silu", pad=2)
    x = b.c3("2", b.silu_conv("1", x, 2 * n, 3, 2), 2 * n, k)
    fine = b.c3("4", b.silu_conv("3", x, 4 * n, 3, 2), 4 * n, 2 * k)
    middle = b.c3("6", b.silu_conv("5", fine, 8 * n, 3, 2), 8 * n, 3 * k)
    x = b.c3("8", b.silu_conv("7", middle, 16 * n, 3, 2), 16 * n, k)
    coarse = b.silu_conv("10", b.pyramid_pooling("9", x, 16 * n), 8 * n)
    x = b.c3("13", b.concat("12", [b.widened("11", coarse), middle]), 8 * n, k, shortcut=False)
    narrow = b.silu_conv("14", x, 4 * n)
    first = b.c3("17", b.concat("16", [b.widened("15", narrow), fine]), 4 * n, k, shortcut=False)
    x = b.concat("19", [b.silu_conv("18", first, 4 * n, 3, 2), narrow])
    second = b.c3("20", x, 8 * n, k, shortcut=False)
    x = b.concat("22", [b.silu_conv("21", second, 8 * n, 3, 2), coarse])
    third = b.c3("23", x, 16 * n, k, shortcut=False)
    heads: list[str] = []
    total = 0
    for level, (x, (stride, anchors)) in enumerate(zip((first, second, third), ANCHORS, strict=True)):
        size = c.height // stride, c.width // stride
        heads.append(b.head(x, c.batch, size, level, c.classes))
        total += len(anchors) * size[0] * size[1]
    joined = b.node("joined", "Concat", *heads, axis=1)
    b.output("boxes", joined, (c.batch, total, 5 + c.classes))
    return b.finish()
