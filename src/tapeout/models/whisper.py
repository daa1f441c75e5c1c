"""Speech recognition: Whisper (Radford et al. 2022, arXiv:2212.04356) and an acoustic model of recurrent layers (Miao
et al. 2015, arXiv:1507.08240), seeded and untrained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tapeout.errors import UserError
from tapeout.models.blocks import FLOAT, INT, SPREAD, Blocks, heads_of
from tapeout.models.cache import CachedBlocks, check_mode

if TYPE_CHECKING:
    from tapeout.models.writer import Built


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Options of `build("whisper-encoder")`; the defaults are those of Whisper base, 20.6 M of its 72.6 M parameters.

    `frames` are 10 ms of sound each; a token stands for two of them.
    """

    batch: int = 1
    frames: int = 3000
    precision: str = "fp32"
    mels: int = 80
    layers: int = 6
    width: int = 512
    heads: int = 8
    seed: int = 0


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Options of `build("whisper-decoder")`; the defaults are those of Whisper base, 52.0 M of its 72.6 M parameters.

    `mode` is "prefill" (`sequence` tokens, and what the encoder heard in `sound` tokens) or "decode" (one more token).
    Keys and values of both attentions are state.
    """

    mode: str = "prefill"
    batch: int = 1
    sequence: int = 4
    sound: int = 1500
    precision: str = "fp32"
    layers: int = 6
    width: int = 512
    heads: int = 8
    vocabulary: int = 51865
    positions: int = 448
    seed: int = 0


BIASES = "qvo"
"""Which projections of Whisper's attentions have a bias."""


def _sinusoids(tokens: int, width: int) -> np.ndarray:
    """Fixed positions [tokens, width]: sines, then cosines, of rates from 1 down to 1 / 10000."""
    rates = np.exp(-math.log(10000) / (width // 2 - 1) * np.arange(width // 2))
    turned = np.arange(tokens)[:, None] * rates
    return np.concatenate([np.sin(turned), np.cos(turned)], 1)


def build_encoder(config: EncoderConfig, drawn: bool = True) -> Built:
    """`mel [batch, mels, frames]`, normalised to unit scale, -> `encoded [batch, frames / 2, width]`."""
    c, b = config, Blocks("whisper-encoder", config, drawn)
    heads = heads_of("whisper-encoder", c.width, c.heads)
    b.residual_spread = SPREAD / math.sqrt(2 * c.layers)
    if c.frames % 2:
        raise UserError(f"{c.frames} frames", "model whisper-encoder", "give an even number")
    x = b.out.input("mel", b.dtype, (c.batch, c.mels, c.frames))
    x = b.gelu("conv1.gelu", b.conv("conv1", x, c.mels, c.width, 3, gain=math.sqrt(2), rank=1))
    x = b.gelu("conv2.gelu", b.conv("conv2", x, c.width, c.width, 3, 2, gain=math.sqrt(2), rank=1))
    x = b.node("tokens", "Transpose", x, perm=[0, 2, 1])
    positions = b.stored("positions", _sinusoids(c.frames // 2, c.width).astype(np.float32))
    x = b.node("embedded", "Add", x, positions)
    for layer in range(c.layers):
        x = b.encoder_layer(f"layer.{layer}", x, c.batch, heads, 4 * c.width, biases=BIASES)
    b.output("encoded", b.layer_norm("ln_post", x, c.width), (c.batch, c.frames // 2, c.width))
    return b.finish()


class _Decoder(CachedBlocks):
    def __init__(self, config: DecoderConfig, drawn: bool) -> None:
        super().__init__("whisper-decoder", config, drawn)
        self.config = config
        self.heads = heads_of("whisper-decoder", config.width, config.heads)
        self.residual_spread = SPREAD / math.sqrt(3 * config.layers)

    def projected(self, name: str, x: str) -> str:
        """q, k or v of all heads; k has no bias."""
        c = self.config
        y = self.linear(f"{name}_proj", x, c.batch, c.width, c.width, bias=name[-1] in BIASES)
        return self.split_heads(name, y, c.batch, c.heads, self.heads.width)

    def attention(self, name: str, x: str, keys: tuple[str, str], mask: str = "") -> str:
        """Attention of x to given keys and values."""
        c = self.config
        mixed = self.attend(name, self.projected(f"{name}.q", x), *keys, c.batch, self.heads, mask)
        return self.linear(f"{name}.out_proj", mixed, c.batch, c.width, c.width, self.residual_spread)

    def block(self, layer: int, x: str, encoded: str, mask: str, position: str) -> str:
        """Attention to the text so far, attention to the sound, feed-forward net, each with a norm in front."""
        c, name = self.config, f"layer.{layer}"
        y = self.layer_norm(f"{name}.ln_1", x, c.width)
        k, v = (self.projected(f"{name}.attn.{p}", y) for p in "kv")
        keys = self.cached(layer, k, v, position, c.batch, self.heads, c.positions)
        x = self.node(f"{name}.attn.residual", "Add", x, self.attention(f"{name}.attn", y, keys, mask))
        y = self.layer_norm(f"{name}.ln_2", x, c.width)
        heard = (self.projected(f"{name}.cross.{p}", encoded) for p in "kv") if encoded else None
        k, v = self.kept("cross", layer, heard, (c.batch, c.heads, c.sound, self.heads.width))
        x = self.node(f"{name}.cross.residual", "Add", x, self.attention(f"{name}.cross", y, (k, v)))
        y = self.mlp(f"{name}.mlp", self.layer_norm(f"{name}.ln_3", x, c.width), c.batch, c.width, 4 * c.width)
        return self.node(f"{name}.mlp.residual", "Add", x, y)


def build_decoder(config: DecoderConfig, drawn: bool = True) -> Built:
    """`input_ids i64[batch, s]` with `encoded [batch, sound, width]` (or `position i64[batch]` in decode mode) ->
    `logits f32[batch, vocabulary]` of the last token."""
    check_mode("whisper-decoder", config.mode)
    c, b = config, _Decoder(config, drawn)
    tokens = c.sequence if c.mode == "prefill" else 1
    ids = b.out.input("input_ids", INT, (c.batch, tokens))
    if c.mode == "prefill":
        position, mask, at = "", b.causal_mask(tokens), b.places(tokens, c.positions)
        encoded = b.out.input("encoded", b.dtype, (c.batch, c.sound, c.width))
    else:
        position, at, mask = b.decode_positions(c.batch, c.positions)
        encoded = ""
    embedding = b.normal("embed.weight", (c.vocabulary, c.width))
    x = b.node("embed", "Gather", embedding, ids, axis=0)
    x = b.node("embedded", "Add", x, b.embedding("positions", at, c.positions, c.width, SPREAD / 2))
    for layer in range(c.layers):
        x = b.block(layer, x, encoded, mask, position)
    last = b.token("last", b.layer_norm("ln", x, c.width), -1)
    b.output("logits", b.node("lm_head", "Gemm", last, embedding, transB=1), (c.batch, c.vocabulary), FLOAT)
    return b.finish(state=b.states)


@dataclass(frozen=True, slots=True)
class AcousticConfig:
    """Options of `build("lstm-acoustic")`; the defaults are the phoneme model of EESEN of 8.5 M parameters: four
    bidirectional layers of 320 cells each way, 40 filter banks with their first and second differences."""

    batch: int = 1
    frames: int = 100
    precision: str = "fp32"
    features: int = 120
    layers: int = 4
    cells: int = 320
    phones: int = 46
    seed: int = 0


def build_acoustic(config: AcousticConfig, drawn: bool = True) -> Built:
    """`features [frames, batch, features]`, normalised to unit scale, -> `phones [frames, batch, phones]`, the
    logarithms of their probabilities, as CTC takes them."""
    c, b = config, Blocks("lstm-acoustic", config, drawn)
    x, width = b.out.input("features", b.dtype, (c.frames, c.batch, c.features)), c.features
    for layer in range(c.layers):
        name, gates = f"lstm.{layer}", 4 * c.cells
        weights = (
            b.normal(f"{name}.w", (2, gates, width), 1 / math.sqrt(width)),
            b.normal(f"{name}.r", (2, gates, c.cells), 1 / math.sqrt(c.cells)),
            b.normal(f"{name}.b", (2, 2 * gates)),
        )
        y = b.node(name, "LSTM", x, *weights, hidden_size=c.cells, direction="bidirectional")
        width = 2 * c.cells
        y = b.node(f"{name}.last", "Transpose", y, perm=[0, 2, 1, 3])  # [frames, batch, direction, cells]
        x = b.reshape(f"{name}.joined", y, c.frames, c.batch, width)
    y = b.linear("phone_logits", x, c.frames, width, c.phones, 2 / math.sqrt(width))
    b.output("phones", b.node("phone_scores", "LogSoftmax", y, axis=-1), (c.frames, c.batch, c.phones))
    return b.finish()
