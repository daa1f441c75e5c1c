"""GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"), seeded and untrained.

Weights are N(0, 0.02), those of the projections onto the residual stream divided by sqrt(2 * layers) (section 2.3);
the output embedding is the input embedding. The key-value cache is state: `past_k_i` and `past_v_i`, updated in place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tapeout.models.blocks import FLOAT, INT, SPREAD, heads_of
from tapeout.models.cache import CachedBlocks, check_mode

if TYPE_CHECKING:
    from tapeout.models.writer import Built


@dataclass(frozen=True, slots=True)
class Gpt2Config:
    """Options of `build("gpt2")`; the defaults are GPT-2 small of 124.44 M parameters.

    `mode` is "prefill" (a prompt of 1..`positions` tokens) or "decode" (one token at `position`).
    """

    mode: str = "prefill"
    batch: int = 1
    precision: str = "fp32"
    layers: int = 12
    width: int = 768
    heads: int = 12
    vocabulary: int = 50257
    positions: int = 1024
    seed: int = 0


class _Blocks(CachedBlocks):
    def __init__(self, config: Gpt2Config, drawn: bool) -> None:
        super().__init__("gpt2", config, drawn)
        self.config = config
        self.heads = heads_of("gpt2", config.width, config.heads)
        self.residual_spread = SPREAD / math.sqrt(2 * config.layers)

    def attention(self, layer: int, x: str, mask: str, position: str) -> str:
        c, name = self.config, f"h.{layer}.attn"
        qkv = self.linear(f"{name}.c_attn", x, c.batch, c.width, 3 * c.width)
        parts = self.split(name, qkv, [f"{p}_flat" for p in "qkv"])
        q, k, v = (
            self.split_heads(f"{name}.{p}", part, c.batch, c.heads, self.heads.width)
            for p, part in zip("qkv", parts, strict=True)
        )
        k, v = self.cached(layer, k, v, position, c.batch, self.heads, c.positions)
        mixed = self.attend(name, q, k, v, c.batch, self.heads, mask)
        return self.linear(f"{name}.c_proj", mixed, c.batch, c.width, c.width, self.residual_spread)

    def block(self, layer: int, x: str, mask: str, position: str) -> str:
        c, name = self.config, f"h.{layer}"
        attended = self.attention(layer, self.layer_norm(f"{name}.ln_1", x, c.width), mask, position)
        x = self.node(f"{name}.attn.residual", "Add", x, attended)
        y = self.layer_norm(f"{name}.ln_2", x, c.width)
        y = self.mlp(f"{name}.mlp", y, c.batch, c.width, 4 * c.width, "gelu_tanh")
        return self.node(f"{name}.mlp.residual", "Add", x, y)

    def prefill_positions(self, ids: str) -> tuple[str, str]:
        """Positions 0..s-1 and the causal mask b1[s, s]."""
        shape = self.node("shape", "Shape", ids)
        length = self.node("length", "Gather", shape, self.out.constant(np.array(1, INT)), axis=0)
        zero, one = (self.out.constant(np.array(n, INT)) for n in (0, 1))
        positions = self.node("positions", "Range", zero, length, one)
        rows = self.node("mask_rows", "Unsqueeze", positions, self.out.ints(1))
        columns = self.node("mask_columns", "Unsqueeze", positions, self.out.ints(0))
        return positions, self.node("mask", "LessOrEqual", columns, rows)


def build_gpt2(config: Gpt2Config, drawn: bool = True) -> Built:
    """`input_ids i64[batch, s]` (and `position i64[batch]` in decode mode) -> `logits f32[batch, vocabulary]` of the
    last token."""
    check_mode("gpt2", config.mode)
    b, c = _Blocks(config, drawn), config
    prefill = c.mode == "prefill"
    ids = b.out.input("input_ids", INT, (c.batch, "sequence" if prefill else 1))
    if prefill:
        position, (positions, mask) = "", b.prefill_positions(ids)
    else:
        position, positions, mask = b.decode_positions(c.batch, c.positions)
    tokens = b.normal("wte.weight", (c.vocabulary, c.width))
    places = b.normal("wpe.weight", (c.positions, c.width), SPREAD / 2)
    embedded = b.node("wte", "Gather", tokens, ids, axis=0)
    x = b.node("embedding", "Add", embedded, b.node("wpe", "Gather", places, positions, axis=0))
    for layer in range(c.layers):
        x = b.block(layer, x, mask, position)
    last = b.token("last", b.layer_norm("ln_f", x, c.width), -1)
    logits = b.node("lm_head", "Gemm", last, tokens, transB=1)
    b.output("logits", logits, (c.batch, c.vocabulary), FLOAT)
    symbols = f"sequence=1:{c.positions}" if prefill else ""
    return b.finish(state=b.states, symbols=symbols)
