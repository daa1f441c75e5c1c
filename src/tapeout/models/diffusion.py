"""The UNet and the image decoder of Stable Diffusion 1.5 (Rombach et al. 2021, arXiv:2112.10752), seeded and untrained.

The text encoder is in `vit`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tapeout.errors import UserError
from tapeout.models.blocks import FLOAT, Blocks, Config, Heads, heads_of
from tapeout.models.writer import ELEMENT_TYPES

if TYPE_CHECKING:
    from tapeout.models.writer import Built

LATENT = 4
"""Channels of a latent image, which has an eighth of the image's height and width."""
SHRUNK = 8


@dataclass(frozen=True, slots=True)
class UnetConfig:
    """Options of `build("sd15-unet")`; the defaults are those of Stable Diffusion 1.5: 859.5 M parameters.

    Level i has `channels * multipliers[i]` channels and half the size of the level before; all levels but the last have
    attention. `height` and `width` are those of the image, `sequence` and `text` those of the encoded prompt.
    """

    batch: int = 1
    height: int = 512
    width: int = 512
    sequence: int = 77
    precision: str = "fp32"
    channels: int = 320
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    layers: int = 2
    heads: int = 8
    groups: int = 32
    text: int = 768
    seed: int = 0


@dataclass(frozen=True, slots=True)
class VaeConfig:
    """Options of `build("sd15-vae")`; the defaults are those of Stable Diffusion 1.5's image decoder: 49.5 M
    parameters. `height` and `width` are those of the image."""

    batch: int = 1
    height: int = 512
    width: int = 512
    precision: str = "fp32"
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    layers: int = 2
    groups: int = 32
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Image:
    """An activation [batch, channels, height, width]."""

    name: str
    channels: int
    height: int
    width: int


class _Blocks(Blocks):
    def __init__(self, name: str, config: Config, drawn: bool, batch: int, groups: int, epsilon: float) -> None:
        super().__init__(name, config, drawn)
        self.batch, self.groups, self.epsilon = batch, groups, epsilon

    def latent(self, height: int, width: int, levels: int) -> Image:
        """The input `latent` of an image's size."""
        unit = SHRUNK << (levels - 1)
        if height % unit or width % unit:
            raise UserError(f"an image of {height} x {width}", f"model {self.name}", f"give multiples of {unit}")
        height, width = height // SHRUNK, width // SHRUNK
        return Image(self.out.input("latent", self.dtype, (self.batch, LATENT, height, width)), LATENT, height, width)

    def convolved(self, name: str, x: Image, channels: int, kernel: int = 3, stride: int = 1) -> Image:
        y = self.conv(name, x.name, x.channels, channels, kernel, stride)
        return Image(y, channels, x.height // stride, x.width // stride)

    def added(self, name: str, x: Image, y: str) -> Image:
        return Image(self.node(name, "Add", x.name, y), x.channels, x.height, x.width)

    def normed(self, name: str, x: Image, epsilon: float = 0.0) -> Image:
        if x.channels % self.groups:
            what = f"{x.channels} channels in {self.groups} groups"
            raise UserError(what, f"model {self.name}", "change channels or groups")
        y = self.group_norm(name, x.name, x.channels, self.groups, epsilon or self.epsilon)
        return Image(y, x.channels, x.height, x.width)

    def activated(self, name: str, x: Image) -> Image:
        """silu of the group norm."""
        y = self.silu(f"{name}.silu", self.normed(name, x).name)
        return Image(y, x.channels, x.height, x.width)

    def residual(self, name: str, x: Image, channels: int, time: str = "", time_width: int = 0) -> Image:
        """Two convolutions with norms in front, the time's embedding added between them, beside a shortcut."""
        y = self.convolved(f"{name}.conv1", self.activated(f"{name}.norm1", x), channels)
        if time:
            shift = self.dense(f"{name}.time", time, time_width, channels)
            y = self.added(f"{name}.timed", y, self.reshape(f"{name}.shift", shift, self.batch, channels, 1, 1))
        y = self.convolved(f"{name}.conv2", self.activated(f"{name}.norm2", y), channels)
        if x.channels != channels:
            x = self.convolved(f"{name}.shortcut", x, channels, 1)
        return self.added(f"{name}.add", x, y.name)

    def tokens(self, name: str, x: Image) -> str:
        """[batch, height * width, channels]."""
        return self.node(
            name, "Transpose", self.reshape(f"{name}.flat", x.name, self.batch, x.channels, -1), perm=[0, 2, 1]
        )

    def image_of(self, name: str, tokens: str, like: Image) -> Image:
        turned = self.node(f"{name}.turned", "Transpose", tokens, perm=[0, 2, 1])
        y = self.reshape(name, turned, self.batch, like.channels, like.height, like.width)
        return Image(y, like.channels, like.height, like.width)

    def transformer(self, name: str, x: Image, heads: Heads, text: str, text_width: int) -> Image:
        """Pixels attend to each other, then to the text, then a gated feed-forward net; all beside a shortcut."""
        c = x.channels
        inner = self.convolved(f"{name}.proj_in", self.normed(f"{name}.norm", x, 1e-6), c, 1)
        t = self.tokens(f"{name}.tokens", inner)
        for i, source in enumerate(("", text)):
            part = f"{name}.attn{i + 1}"
            y = self.layer_norm(f"{part}.norm", t, c)
            y = self.self_attention(part, y, self.batch, heads, source=source, source_width=text_width, biases="o")
            t = self.node(f"{part}.residual", "Add", t, y)
        y = self.linear(f"{name}.ff.in", self.layer_norm(f"{name}.ff.norm", t, c), self.batch, c, 8 * c)
        kept, gate = self.split(f"{name}.ff", y, ("kept", "gate"))
        y = self.node(f"{name}.ff.gated", "Mul", kept, self.gelu(f"{name}.ff.gelu", gate))
        t = self.node(f"{name}.ff.residual", "Add", t, self.linear(f"{name}.ff.out", y, self.batch, 4 * c, c))
        y = self.convolved(f"{name}.proj_out", self.image_of(f"{name}.image", t, inner), c, 1)
        return self.added(f"{name}.add", x, y.name)

    def pixel_attention(self, name: str, x: Image) -> Image:
        """Pixels attend to each other with one head, beside a shortcut."""
        t = self.tokens(f"{name}.tokens", self.normed(f"{name}.norm", x))
        y = self.self_attention(name, t, self.batch, heads_of(self.name, x.channels, 1))
        return self.added(f"{name}.add", x, self.image_of(f"{name}.image", y, x).name)

    def enlarged(self, name: str, x: Image) -> Image:
        """Twice as high and wide, then convolved."""
        wide = Image(self.upsampled(f"{name}.nearest", x.name), x.channels, 2 * x.height, 2 * x.width)
        return self.convolved(name, wide, x.channels)

    def last(self, x: Image, channels: int) -> Image:
        return self.convolved("conv_out", self.activated("norm_out", x), channels)

    def time(self, width: int, out: int) -> str:
        """The input `timestep f32[batch]` as cosines and sines of `width / 2` rates, then two linear layers."""
        step = self.reshape("timestep_column", self.out.input("timestep", FLOAT, (self.batch,)), self.batch, 1)
        rates = np.exp(-math.log(10000) * np.arange(width // 2) / (width // 2)).astype(np.float32)
        turned = self.node("time.turned", "Mul", step, self.out.constant(rates))
        both = self.node(
            "time.waves", "Concat", self.node("time.cos", "Cos", turned), self.node("time.sin", "Sin", turned), axis=1
        )
        waves = self.node("time.cast", "Cast", both, to=ELEMENT_TYPES[self.dtype])
        y = self.silu("time.silu", self.dense("time.fc1", waves, width, out))
        return self.silu("time.act", self.dense("time.fc2", y, out, out))


def build_unet(config: UnetConfig, drawn: bool = True) -> Built:
    """`latent [batch, 4, height / 8, width / 8]`, `timestep f32[batch]`, `text [batch, sequence, text]` -> `noise` of
    the latent's shape."""
    c = config
    b = _Blocks("sd15-unet", c, drawn, c.batch, c.groups, 1e-5)
    widths, time_width = [c.channels * m for m in c.multipliers], 4 * c.channels
    x = b.latent(c.height, c.width, len(widths))
    time = b.time(c.channels, time_width)
    text = b.out.input("text", b.dtype, (c.batch, c.sequence, c.text))

    def level(name: str, x: Image, width: int, attends: bool) -> Image:
        x = b.residual(f"{name}.res", x, width, time, time_width)
        return b.transformer(f"{name}.attn", x, heads_of("sd15-unet", width, c.heads), text, c.text) if attends else x

    x = b.convolved("conv_in", x, c.channels)
    skips = [x]
    for i, width in enumerate(widths):
        for j in range(c.layers):
            x = level(f"down.{i}.{j}", x, width, i < len(widths) - 1)
            skips.append(x)
        if i < len(widths) - 1:
            x = b.convolved(f"down.{i}.smaller", x, width, stride=2)
            skips.append(x)
    x = b.residual("mid.1", level("mid.0", x, widths[-1], True), widths[-1], time, time_width)
    for i, width in reversed(list(enumerate(widths))):
        for j in range(c.layers + 1):
            skip = skips.pop()
            joined = b.node(f"up.{i}.{j}.concat", "Concat", x.name, skip.name, axis=1)
            x = Image(joined, x.channels + skip.channels, x.height, x.width)
            x = level(f"up.{i}.{j}", x, width, i < len(widths) - 1)
        if i:
            x = b.enlarged(f"up.{i}.larger", x)
    noise = b.last(x, LATENT)
    b.output("noise", noise.name, (c.batch, LATENT, noise.height, noise.width))
    return b.finish()


def build_vae(config: VaeConfig, drawn: bool = True) -> Built:
    """`latent [batch, 4, height / 8, width / 8]` -> `image [batch, 3, height, width]`."""
    c = config
    b = _Blocks("sd15-vae", c, drawn, c.batch, c.groups, 1e-6)
    if len(c.multipliers) != 4:
        raise UserError(
            f"{len(c.multipliers)} levels", "model sd15-vae", "give 4 multipliers: the image is 8 times larger"
        )
    widths = [c.channels * m for m in c.multipliers]
    x = b.convolved("post_quant", b.latent(c.height, c.width, 1), LATENT, 1)
    x = b.convolved("conv_in", x, widths[-1])
    x = b.pixel_attention("mid.attn", b.residual("mid.0", x, widths[-1]))
    x = b.residual("mid.1", x, widths[-1])
    for i, width in reversed(list(enumerate(widths))):
        for j in range(c.layers + 1):
            x = b.residual(f"up.{i}.{j}", x, width)
        if i:
            x = b.enlarged(f"up.{i}.larger", x)
    image = b.last(x, 3)
    b.output("image", image.name, (c.batch, 3, image.height, image.width))
    return b.finish()
