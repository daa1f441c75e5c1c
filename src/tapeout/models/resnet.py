"""ResNet v1.5 (He et al. 2015, arXiv:1512.03385, with the stride on the 3x3 convolution), seeded and untrained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tapeout.models.convolution import BRANCH_GAIN, ConvBlocks, Feature, Moments
from tapeout.models.writer import PRECISIONS

if TYPE_CHECKING:
    from tapeout.models.writer import Built

POOLED = (1.24, 0.53)
"""Mean and variance of the maximum over 3x3 overlapping windows of rectified unit normals: measured once."""


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


class _Blocks(ConvBlocks):
    def stem(self, x: Feature, channels: int) -> Feature:
        y = self.conv_bn("conv1", x, channels, 7, stride=2, act="relu")
        attributes: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        pooled = self.node("maxpool", "MaxPool", y.name, **attributes)
        y = Feature(pooled, channels, Moments(*POOLED), y.scale)
        return self.rounded(y, y.scale) if self.int8 else y

    def bottleneck(self, name: str, x: Feature, channels: int, stride: int, project: bool) -> Feature:
        """1x1, 3x3 (strided) and 1x1 convolution beside the shortcut, which is projected where shapes change."""
        y = self.conv_bn(f"{name}.conv1", x, channels, act="relu")
        y = self.conv_bn(f"{name}.conv2", y, channels, 3, stride, act="relu")
        y = self.quantised(self.conv_bn(f"{name}.conv3", y, 4 * channels, gain=BRANCH_GAIN))
        if project:
            x = self.quantised(self.conv_bn(f"{name}.downsample", x, 4 * channels, 1, stride))
        return self.activate(self.add(f"{name}.add", y, x), "relu")


def build_resnet(config: ResNetConfig, drawn: bool = True) -> Built:
    """`image [batch, 3, height, width]`, normalised to unit scale, -> `logits [batch, classes]`.

    The float precisions keep Conv, BatchNormalization and Relu apart. int8 folds the batch norms and stores int8
    weights (a scale per output channel) with a QuantizeLinear/DequantizeLinear pair at each activation; its interface
    is f32.
    """
    b = _Blocks("resnet", config, drawn, (*PRECISIONS, "int8"))
    x = b.stem(b.image(config.batch, config.height, config.width), config.channels)
    for stage, blocks in enumerate(config.stages):
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 0 else 1
            x = b.bottleneck(f"layer{stage + 1}.{block}", x, config.channels << stage, stride, project=block == 0)
    logits = b.classify("fc", b.pooled(x), config.classes)
    b.output("logits", logits.name, (config.batch, config.classes))
    return b.finish()
