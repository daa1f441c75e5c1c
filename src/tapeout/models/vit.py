"""The vision transformer (Dosovitskiy et al. 2020, arXiv:2010.11929) and CLIP's pair of towers (Radford et al. 2021,
arXiv:2103.00020), seeded and untrained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tapeout.errors import UserError
from tapeout.models.blocks import INT, Blocks, heads_of

if TYPE_CHECKING:
    from tapeout.models.writer import Built


@dataclass(frozen=True, slots=True)
class VitConfig:
    """Options of `build("vit")`; the defaults are ViT-B/16 of 86.57 M parameters, 17.6 GMAC an image."""

    batch: int = 1
    height: int = 224
    width: int = 224
    precision: str = "fp32"
    patch: int = 16
    layers: int = 12
    channels: int = 768
    heads: int = 12
    hidden: int = 3072
    classes: int = 1000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ClipConfig:
    """Options of `build("clip")`; the defaults are CLIP ViT-B/32 of 151.28 M parameters. `tower` is "image", "text" or
    "both"; `channels` of the text tower follow from its heads as those of the image tower do."""

    batch: int = 1
    sequence: int = 77
    height: int = 224
    width: int = 224
    precision: str = "fp32"
    tower: str = "both"
    patch: int = 32
    layers: int = 12
    channels: int = 768
    heads: int = 12
    text_layers: int = 12
    text_channels: int = 512
    text_heads: int = 8
    vocabulary: int = 49408
    positions: int = 77
    embedding: int = 512
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TextConfig:
    """Options of `build("sd15-text")`; the defaults are the text encoder of Stable Diffusion 1.5, the text tower of
    CLIP ViT-L/14, of 123.06 M parameters."""

    batch: int = 1
    sequence: int = 77
    precision: str = "fp32"
    layers: int = 12
    channels: int = 768
    heads: int = 12
    vocabulary: int = 49408
    positions: int = 77
    seed: int = 0


class _Blocks(Blocks):
    def squares(self, model: str, batch: int, height: int, width: int, patch: int, channels: int, bias: bool) -> str:
        """The input `image` as tokens with a class token in front and learned positions added."""
        if height % patch or width % patch:
            raise UserError(f"an image of {height} x {width}", f"model {model}", f"give multiples of {patch}")
        image = self.out.input("image", self.dtype, (batch, 3, height, width))
        tokens = self.patches("patches", image, batch, channels, patch, bias)
        x = self.with_class_token("class", tokens, batch, channels)
        places = self.normal("positions", (1, height // patch * (width // patch) + 1, channels))
        return self.node("embedded", "Add", x, places)

    def text(
        self,
        name: str,
        ids: str,
        batch: int,
        sequence: int,
        sizes: tuple[int, int, int],
        vocabulary: int,
        positions: int,
    ) -> str:
        """CLIP's text tower of (layers, channels, heads): a causal transformer with a norm behind."""
        layers, channels, count = sizes
        heads, mask = heads_of(self.name, channels, count), self.causal_mask(sequence)
        tokens = self.embedding(f"{name}.token", ids, vocabulary, channels)
        places = self.embedding(f"{name}.position", self.places(sequence, positions), positions, channels, 0.01)
        x = self.node(f"{name}.embedded", "Add", tokens, places)
        for layer in range(layers):
            x = self.encoder_layer(f"{name}.{layer}", x, batch, heads, 4 * channels, "quick_gelu", mask)
        return self.layer_norm(f"{name}.ln_final", x, channels)


def build_vit(config: VitConfig, drawn: bool = True) -> Built:
    """`image [batch, 3, height, width]`, normalised to unit scale, -> `logits [batch, classes]`."""
    c, b = config, _Blocks("vit", config, drawn)
    heads = heads_of("vit", c.channels, c.heads)
    x = b.squares("vit", c.batch, c.height, c.width, c.patch, c.channels, bias=True)
    for layer in range(c.layers):
        x = b.encoder_layer(f"layer.{layer}", x, c.batch, heads, c.hidden)
    first = b.token("first", b.layer_norm("ln", x, c.channels, 1e-6), 0)
    b.output("logits", b.dense("head", first, c.channels, c.classes), (c.batch, c.classes))
    return b.finish()


def _image_tower(b: _Blocks, c: ClipConfig) -> str:
    """Image embeddings [batch, embedding] of length 1."""
    heads = heads_of("clip", c.channels, c.heads)
    x = b.squares("clip", c.batch, c.height, c.width, c.patch, c.channels, bias=False)
    x = b.layer_norm("image.ln_pre", x, c.channels)
    for layer in range(c.layers):
        x = b.encoder_layer(f"image.{layer}", x, c.batch, heads, 4 * c.channels, "quick_gelu")
    first = b.layer_norm("image.ln_post", b.token("image.first", x, 0), c.channels)
    projected = b.dense("image.projection", first, c.channels, c.embedding, bias=False)
    return b.node("image.unit", "LpNormalization", projected, axis=1, p=2)


def _text_tower(b: _Blocks, c: ClipConfig) -> str:
    """Text embeddings [batch, embedding] of length 1, each of the token with the largest number, its end."""
    ids = b.out.input("input_ids", INT, (c.batch, c.sequence))
    sizes = c.text_layers, c.text_channels, c.text_heads
    x = b.text("text", ids, c.batch, c.sequence, sizes, c.vocabulary, c.positions)
    ends = b.node("text.end", "ArgMax", b.node("text.ids", "Cast", ids, to=6), axis=1, keepdims=0)
    rows = b.out.ints(*(i * c.sequence for i in range(c.batch)))
    at = b.node("text.row", "Add", ends, rows)
    last = b.node("text.last", "Gather", b.reshape("text.flat", x, -1, c.text_channels), at, axis=0)
    projected = b.dense("text.projection", last, c.text_channels, c.embedding, bias=False)
    return b.node("text.unit", "LpNormalization", projected, axis=1, p=2)


def build_clip(config: ClipConfig, drawn: bool = True) -> Built:
    """`image [batch, 3, height, width]` -> `image_embeds`, `input_ids i64[batch, sequence]` -> `text_embeds`, both
    [batch, embedding]; and where there are both towers `logits_per_image [batch, batch]`."""
    c, b = config, _Blocks("clip", config, drawn)
    if c.tower not in ("both", "image", "text"):
        raise UserError(f"tower '{c.tower}'", "model clip", "use both, image or text")
    units: list[str] = []
    for tower, make in (("image", _image_tower), ("text", _text_tower)):
        if c.tower in ("both", tower):
            units.append(make(b, c))
            b.output(f"{tower}_embeds", units[-1], (c.batch, c.embedding))
    if c.tower == "both":
        scale = b.stored("logit_scale", b.draw("logit_scale", (), 0.0, float(np.log(1 / 0.07))))
        turned = b.node("text.turned", "Transpose", units[1], perm=[1, 0])
        similar = b.node("similarity", "MatMul", units[0], turned)
        logits = b.node("scaled", "Mul", similar, b.node("scale", "Exp", scale))
        b.output("logits_per_image", logits, (c.batch, c.batch))
    return b.finish()


def build_text(config: TextConfig, drawn: bool = True) -> Built:
    """`input_ids i64[batch, sequence]` -> `last_hidden_state [batch, sequence, channels]`."""
    c, b = config, _Blocks("sd15-text", config, drawn)
    ids = b.out.input("input_ids", INT, (c.batch, c.sequence))
    sizes = c.layers, c.channels, c.heads
    x = b.text("text", ids, c.batch, c.sequence, sizes, c.vocabulary, c.positions)
    b.output("last_hidden_state", x, (c.batch, c.sequence, c.channels))
    return b.finish()
