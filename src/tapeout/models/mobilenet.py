"""Nets of inverted residual blocks, seeded and untrained.

MobileNetV3-Large (Howard et al. 2019, arXiv:1905.02244, table 1) and EfficientNet-B0 (Tan and Le 2019,
arXiv:1905.11946, table 1) classify images; MobileFaceNet (Chen et al. 2018, arXiv:1804.07573, table 1) turns a face
into a vector of length 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tapeout.models.convolution import ConvBlocks, Feature

if TYPE_CHECKING:
    from tapeout.models.writer import Built


@dataclass(frozen=True, slots=True)
class Block:
    """One inverted residual block: channels inside and behind it, and what it does between them."""

    expanded: int
    channels: int
    kernel: int
    stride: int
    act: str
    squeeze: bool = False


LARGE = (
    Block(16, 16, 3, 1, "relu"),
    Block(64, 24, 3, 2, "relu"),
    Block(72, 24, 3, 1, "relu"),
    Block(72, 40, 5, 2, "relu", True),
    Block(120, 40, 5, 1, "relu", True),
    Block(120, 40, 5, 1, "relu", True),
    Block(240, 80, 3, 2, "hard_swish"),
    Block(200, 80, 3, 1, "hard_swish"),
    Block(184, 80, 3, 1, "hard_swish"),
    Block(184, 80, 3, 1, "hard_swish"),
    Block(480, 112, 3, 1, "hard_swish", True),
    Block(672, 112, 3, 1, "hard_swish", True),
    Block(672, 160, 5, 2, "hard_swish", True),
    Block(960, 160, 5, 1, "hard_swish", True),
    Block(960, 160, 5, 1, "hard_swish", True),
)
"""MobileNetV3-Large."""


def _stages(act: str, first: int, *stages: tuple[int, int, int, int, int], squeeze: bool) -> tuple[Block, ...]:
    """Blocks of stages (expansion, kernel, stride of the first block, channels, blocks) behind `first` channels."""
    blocks: list[Block] = []
    before = first
    for expansion, kernel, stride, channels, count in stages:
        for i in range(count):
            blocks.append(Block(expansion * before, channels, kernel, stride if i == 0 else 1, act, squeeze))
            before = channels
    return tuple(blocks)


B0 = _stages(
    "silu", 32, (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4), (6, 3, 1, 320, 1), squeeze=True,
)  # fmt: skip
"""EfficientNet-B0."""
FACE = _stages(
    "prelu", 64, (2, 3, 2, 64, 5), (4, 3, 2, 128, 1), (2, 3, 1, 128, 6), (4, 3, 2, 128, 1), (2, 3, 1, 128, 2),
    squeeze=False,
)  # fmt: skip
"""MobileFaceNet."""


@dataclass(frozen=True, slots=True)
class ImageNetConfig:
    """Options of `build("mobilenetv3")` (5.483 M parameters) and `build("efficientnet-b0")` (5.289 M).

    `blocks` is how many of the net's blocks there are (0: all); every number of channels is multiplied by `percent`.
    """

    batch: int = 1
    height: int = 224
    width: int = 224
    precision: str = "fp32"
    blocks: int = 0
    percent: int = 100
    classes: int = 1000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FaceConfig:
    """Options of `build("mobilefacenet")`, 0.99 M parameters."""

    batch: int = 1
    height: int = 112
    width: int = 112
    precision: str = "fp32"
    blocks: int = 0
    percent: int = 100
    embedding: int = 128
    seed: int = 0


def _divisible(channels: float) -> int:
    """The multiple of 8 next to a number of channels, not less than nine tenths of it."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near if near >= 0.9 * channels else near + 8


def _scaled(channels: int, percent: int) -> int:
    return channels if percent == 100 else _divisible(channels * percent / 100)


def _walk(b: ConvBlocks, x: Feature, blocks: tuple[Block, ...], config: ImageNetConfig | FaceConfig) -> Feature:
    """The blocks one after another. Squeeze-excite is that of the net: relu and a hard sigmoid behind a quarter of the
    expanded channels, or silu and a sigmoid behind a quarter of those that came in."""
    for i, block in enumerate(blocks[: config.blocks or None]):
        expanded, channels = _scaled(block.expanded, config.percent), _scaled(block.channels, config.percent)
        squeeze: tuple[int, str, str] | None = None
        if block.squeeze and block.act == "silu":
            squeeze = (x.channels // 4, "silu", "sigmoid")
        elif block.squeeze:
            squeeze = (_divisible(expanded / 4), "relu", "hard_sigmoid")
        x = b.inverted_residual(f"blocks.{i}", x, expanded, channels, block.kernel, block.stride, block.act, squeeze)
    return x


def build_mobilenetv3(config: ImageNetConfig, drawn: bool = True) -> Built:
    """`image [batch, 3, height, width]`, normalised to unit scale, -> `logits [batch, classes]`."""
    b = ConvBlocks("mobilenetv3", config, drawn)
    x = b.image(config.batch, config.height, config.width)
    x = b.conv_bn("stem", x, _scaled(16, config.percent), 3, 2, act="hard_swish")
    x = _walk(b, x, LARGE, config)
    x = b.pooled(b.conv_bn("last", x, 6 * x.channels, act="hard_swish"))
    x = b.activate(b.classify("hidden", x, _scaled(1280, config.percent)), "hard_swish")
    b.output("logits", b.classify("classifier", x, config.classes).name, (config.batch, config.classes))
    return b.finish()


def build_efficientnet(config: ImageNetConfig, drawn: bool = True) -> Built:
    """`image [batch, 3, height, width]`, normalised to unit scale, -> `logits [batch, classes]`."""
    b = ConvBlocks("efficientnet-b0", config, drawn)
    x = b.image(config.batch, config.height, config.width)
    x = b.conv_bn("stem", x, _scaled(32, config.percent), 3, 2, act="silu")
    x = _walk(b, x, B0, config)
    x = b.pooled(b.conv_bn("last", x, _scaled(1280, config.percent), act="silu"))
    b.output("logits", b.classify("classifier", x, config.classes).name, (config.batch, config.classes))
    return b.finish()


def build_mobilefacenet(config: FaceConfig, drawn: bool = True) -> Built:
    """`image [batch, 3, height, width]`, normalised to unit scale, -> `embedding [batch, embedding]` of length 1."""
    b = ConvBlocks("mobilefacenet", config, drawn)
    x = b.image(config.batch, config.height, config.width)
    x = b.conv_bn("stem", x, _scaled(64, config.percent), 3, 2, act="prelu")
    x = b.conv_bn("stem_depthwise", x, x.channels, 3, groups=x.channels, act="prelu")
    x = _walk(b, x, FACE, config)
    x = b.conv_bn("wide", x, _scaled(512, config.percent), act="prelu")
    # a depthwise convolution over all that is left, instead of a mean: places of a face differ in weight
    strides = [2, *(block.stride for block in FACE[: config.blocks or None])]
    sizes = [config.height, config.width]
    for stride in strides:
        sizes = [(n - 1) // stride + 1 for n in sizes]
    x = b.conv_bn("global", x, x.channels, sizes, groups=x.channels, pad=0)
    x = b.conv_bn("project", x, config.embedding)
    flat = b.node("flatten", "Flatten", x.name, axis=1)
    unit = b.node("unit", "LpNormalization", flat, axis=1, p=2)
    b.output("embedding", unit, (config.batch, config.embedding))
    return b.finish()
