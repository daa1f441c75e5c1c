"""BERT (Devlin et al. 2018, arXiv:1810.04805), seeded and untrained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tapeout.models.blocks import INT, Blocks, heads_of

if TYPE_CHECKING:
    from tapeout.models.writer import Built

EPSILON = 1e-12


@dataclass(frozen=True, slots=True)
class BertConfig:
    """Options of `build("bert")`; the defaults are BERT-base, uncased, of 109.48 M parameters."""

    batch: int = 1
    sequence: int = 128
    precision: str = "fp32"
    layers: int = 12
    width: int = 768
    heads: int = 12
    hidden: int = 3072
    vocabulary: int = 30522
    positions: int = 512
    seed: int = 0


def build_bert(config: BertConfig, drawn: bool = True) -> Built:
    """`input_ids`, `token_type_ids` and `attention_mask` (all i64[batch, sequence], 1 where a token is) ->
    `last_hidden_state [batch, sequence, width]` and `pooler_output [batch, width]`."""
    c, b = config, Blocks("bert", config, drawn)
    heads, shape = heads_of("bert", c.width, c.heads), (c.batch, c.sequence)
    ids, types, given = (b.out.input(name, INT, shape) for name in ("input_ids", "token_type_ids", "attention_mask"))
    present = b.node("attention_mask_b1", "Greater", given, b.out.constant(np.array(0, INT)))
    mask = b.reshape("mask", present, c.batch, 1, 1, c.sequence)
    tokens = b.embedding("embeddings.word", ids, c.vocabulary, c.width)
    kinds = b.embedding("embeddings.type", types, 2, c.width)
    places = b.embedding("embeddings.position", b.places(c.sequence, c.positions), c.positions, c.width)
    x = b.node("embeddings.sum", "Add", b.node("embeddings.typed", "Add", tokens, kinds), places)
    x = b.layer_norm("embeddings.norm", x, c.width, EPSILON)
    for layer in range(c.layers):
        name = f"layer.{layer}"
        y = b.self_attention(f"{name}.attn", x, c.batch, heads, mask)
        x = b.layer_norm(f"{name}.ln_1", b.node(f"{name}.attn.residual", "Add", x, y), c.width, EPSILON)
        y = b.mlp(f"{name}.mlp", x, c.batch, c.width, c.hidden)
        x = b.layer_norm(f"{name}.ln_2", b.node(f"{name}.mlp.residual", "Add", x, y), c.width, EPSILON)
    b.output("last_hidden_state", x, (c.batch, c.sequence, c.width))
    pooled = b.dense("pooler", b.token("first", x, 0), c.width, c.width)
    b.output("pooler_output", b.node("pooler.tanh", "Tanh", pooled), (c.batch, c.width))
    return b.finish()
