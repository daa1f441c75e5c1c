"""Language models of Llama's shape (Touvron et al. 2023, arXiv:2302.13971; Dubey et al. 2024, arXiv:2407.21783) and
with Qwen3's mixture of experts (Yang et al. 2025, arXiv:2505.09388), seeded and untrained.

RMS norms, rotary positions, grouped key-value heads, a gated feed-forward net. Weights may be stored in four bits, with
a scale for each group of inputs. The key-value cache is state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tapeout.errors import UserError
from tapeout.ir.mapped import reshaped
from tapeout.ir.post_training import symmetric
from tapeout.models.blocks import FLOAT, INT, SPREAD, Heads
from tapeout.models.cache import CachedBlocks, check_mode
from tapeout.models.writer import INT4, Array, Built


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """Options of `build("llama")`; the defaults are Llama 3.2 1B of 1235.8 M parameters.

    `mode` is "prefill" (a prompt of `sequence` tokens) or "decode" (one token at `position`); the cache holds
    `positions` tokens. `weights` is "float" (as `precision` says) or "int4", whose scales stand for `block` inputs
    each. With `experts` each token is served by `top_k` feed-forward nets of that many; `qk_norm` normalises queries
    and keys; `tied` makes the input embedding the output embedding, too.
    """

    mode: str = "prefill"
    batch: int = 1
    sequence: int = 128
    precision: str = "fp32"
    weights: str = "float"
    block: int = 32
    layers: int = 16
    width: int = 2048
    heads: int = 32
    kv_heads: int = 8
    head_width: int = 64
    hidden: int = 8192
    experts: int = 0
    top_k: int = 0
    qk_norm: bool = False
    tied: bool = True
    vocabulary: int = 128256
    positions: int = 1024
    rope_base: int = 500_000
    seed: int = 0


class _Blocks(CachedBlocks):
    def __init__(self, config: LlamaConfig, drawn: bool) -> None:
        super().__init__("llama", config, drawn)
        self.config = config
        self.heads = Heads(config.heads, config.kv_heads, config.head_width)
        self.residual_spread = SPREAD / math.sqrt(2 * config.layers)

    # ---- weights

    def matrix(self, name: str, shape: tuple[int, ...], spread: float) -> str:
        """W[.., in, out], in four bits behind a DequantizeLinear where the config says so."""
        if self.config.weights == "float":
            return super().matrix(name, shape, spread)
        block, axis = self.config.block, len(shape) - 2
        if shape[axis] % block:
            raise UserError(f"{shape[axis]} inputs in blocks of {block}", "model llama", "change block")
        stored, scales = _four_bits(self.draw(name, shape, spread), block)
        inputs = self.out.weight(f"{name}_int4", stored, INT4), self.stored(f"{name}_scale", scales)
        return self.node(name, "DequantizeLinear", *inputs, axis=axis, block_size=block)

    def angles(self, positions: Array) -> tuple[str, str]:
        """Cosines and sines [.., width / 2] by which rotary positions turn pairs of a head's elements."""
        c = self.config
        rates = c.rope_base ** (-np.arange(0, c.head_width, 2) / c.head_width)
        turned = positions[..., None] * rates
        cosines, sines = np.cos(turned).astype(self.dtype), np.sin(turned).astype(self.dtype)
        return self.out.constant(cosines), self.out.constant(sines)

    # ---- layers

    def attention(self, layer: int, x: str, angles: tuple[str, str], mask: str, position: str) -> str:
        c, name = self.config, f"layers.{layer}.attn"
        parts: list[str] = []
        for part, count in (("q", c.heads), ("k", c.kv_heads), ("v", c.kv_heads)):
            y = self.linear(f"{name}.{part}_proj", x, c.batch, c.width, count * c.head_width, bias=False)
            y = self.split_heads(f"{name}.{part}", y, c.batch, count, c.head_width)
            if part != "v":
                if c.qk_norm:
                    y = self.rms_norm(f"{name}.{part}_norm", y, c.head_width)
                y = self.node(f"{name}.{part}_turned", "RotaryEmbedding", y, *angles)
            parts.append(y)
        q, k, v = parts
        k, v = self.cached(layer, k, v, position, c.batch, self.heads, c.positions)
        mixed = self.attend(name, q, k, v, c.batch, self.heads, mask)
        width = c.heads * c.head_width
        return self.linear(f"{name}.o_proj", mixed, c.batch, width, c.width, self.residual_spread, bias=False)

    def gated(self, name: str, x: str) -> str:
        """down(silu(gate(x)) * up(x))."""
        c = self.config
        gate = self.linear(f"{name}.gate", x, c.batch, c.width, c.hidden, bias=False)
        up = self.linear(f"{name}.up", x, c.batch, c.width, c.hidden, bias=False)
        y = self.node(f"{name}.gated", "Mul", self.silu(f"{name}.act", gate), up)
        return self.linear(f"{name}.down", y, c.batch, c.hidden, c.width, self.residual_spread, bias=False)

    def mixture(self, name: str, x: str) -> str:
        """The weighted sum of what the `top_k` experts that a token is routed to make of it.

        One token reads the weights of its own experts only. In a prompt nearly every expert has some token: each serves
        all tokens, those that are not its own with the weight 0, as how many are its own is not known before the run.
        """
        c = self.config
        tokens = c.batch * (c.sequence if c.mode == "prefill" else 1)
        flat = self.reshape(f"{name}.flat", x, tokens, c.width)
        raw = self.dense(f"{name}.router", flat, c.width, c.experts, bias=False)
        chances = self.node(f"{name}.chances", "Softmax", raw, axis=-1)
        chosen = (f"{name}.top", f"{name}.experts")
        self.out.nodes(f"{name}.top_k", "TopK", (chances, self.out.ints(c.top_k)), chosen, axis=-1)
        total = self.node(f"{name}.total", "ReduceSum", chosen[0], self.out.ints(-1), keepdims=1)
        shares = self.node(f"{name}.shares", "Div", chosen[0], total)
        served = self.chosen_experts if c.mode == "decode" else self.all_experts
        y = served(name, flat, chosen[1], shares, tokens)
        return self.reshape(f"{name}.unflat", y, c.batch, -1, c.width)

    def expert_weights(self, name: str) -> tuple[str, str, str]:
        """gate and up [experts, width, hidden], down [experts, hidden, width]."""
        c = self.config
        inner, outer = (c.experts, c.width, c.hidden), (c.experts, c.hidden, c.width)
        return (
            self.matrix(f"{name}.gate.weight", inner, SPREAD),
            self.matrix(f"{name}.up.weight", inner, SPREAD),
            self.matrix(f"{name}.down.weight", outer, self.residual_spread),
        )

    def expert_net(self, name: str, x: str, gate: str, up: str, down: str) -> str:
        act = self.silu(f"{name}.act", self.node(f"{name}.gate", "MatMul", x, gate))
        inner = self.node(f"{name}.gated", "Mul", act, self.node(f"{name}.up", "MatMul", x, up))
        return self.node(f"{name}.down", "MatMul", inner, down)

    def chosen_experts(self, name: str, x: str, experts: str, shares: str, tokens: int) -> str:
        """Weights gathered by number: [tokens, top_k, in, out]."""
        c = self.config
        rows = self.reshape(f"{name}.rows", x, tokens, 1, 1, c.width)
        parts = zip(("gate", "up", "down"), self.expert_weights(name), strict=True)
        own = (self.node(f"{name}.{part}.own", "Gather", w, experts, axis=0) for part, w in parts)
        y = self.expert_net(name, rows, *own)
        weighted = self.node(f"{name}.weighted", "Mul", y, self.reshape(f"{name}.share", shares, tokens, c.top_k, 1, 1))
        return self.node(f"{name}.sum", "ReduceSum", weighted, self.out.ints(1, 2), keepdims=0)

    def all_experts(self, name: str, x: str, experts: str, shares: str, tokens: int) -> str:
        c = self.config
        nothing = self.out.constant(np.zeros((tokens, c.experts), self.dtype))
        spread = self.node(f"{name}.spread", "ScatterElements", nothing, experts, shares, axis=1)
        turned = self.node(f"{name}.by_expert", "Transpose", spread, perm=[1, 0])
        y = self.expert_net(name, x, *self.expert_weights(name))
        share = self.reshape(f"{name}.share", turned, c.experts, tokens, 1)
        return self.node(
            f"{name}.sum", "ReduceSum", self.node(f"{name}.weighted", "Mul", y, share), self.out.ints(0), keepdims=0
        )

    def block(self, layer: int, x: str, angles: tuple[str, str], mask: str, position: str) -> str:
        c, name = self.config, f"layers.{layer}"
        y = self.attention(layer, self.rms_norm(f"{name}.ln_1", x, c.width), angles, mask, position)
        x = self.node(f"{name}.attn.residual", "Add", x, y)
        y = self.rms_norm(f"{name}.ln_2", x, c.width)
        y = self.mixture(f"{name}.moe", y) if c.experts else self.gated(f"{name}.mlp", y)
        return self.node(f"{name}.mlp.residual", "Add", x, y)


def _four_bits(w: Array, block: int) -> tuple[Array, Array]:
    """w[.., in, out] as four-bit integers, and a scale for each block of inputs."""
    *lead, rows, columns = w.shape
    grouped = reshaped(w, (*lead, rows // block, block, columns))
    stored, scales = symmetric(grouped, (grouped.ndim - 2,), 7)
    return reshaped(stored, w.shape), scales.squeeze(-2)


def _check(config: LlamaConfig) -> None:
    check_mode("llama", config.mode)
    if config.weights not in ("float", "int4"):
        raise UserError(f"weights '{config.weights}'", "model llama", "use float or int4")
    if config.kv_heads < 1 or config.heads % config.kv_heads:
        raise UserError(f"{config.heads} heads in {config.kv_heads} groups", "model llama", "change heads or kv_heads")
    if config.head_width % 2:
        raise UserError(f"heads of odd width {config.head_width}", "model llama", "rotary positions turn pairs")
    if config.experts and not 0 < config.top_k <= config.experts:
        raise UserError(f"top_k {config.top_k} of {config.experts} experts", "model llama", "change top_k")
    if config.mode == "prefill" and not 0 < config.sequence <= config.positions:
        raise UserError(f"{config.sequence} tokens, a cache for {config.positions}", "model llama", "change positions")


def build_llama(config: LlamaConfig, drawn: bool = True) -> Built:
    """`input_ids i64[batch, s]` (and `position i64[batch]` in decode mode) -> `logits f32[batch, vocabulary]` of the
    last token."""
    _check(config)
    b, c = _Blocks(config, drawn), config
    tokens = c.sequence if c.mode == "prefill" else 1
    ids = b.out.input("input_ids", INT, (c.batch, tokens))
    if c.mode == "prefill":
        position, mask = "", b.out.constant(np.tile(np.tri(tokens, dtype=np.bool_), (b.heads.group, 1)))
        angles = b.angles(np.broadcast_to(np.arange(tokens), (c.batch, tokens)))
    else:
        position, column, mask = b.decode_positions(c.batch, c.positions)
        rows = b.angles(np.arange(c.positions))
        cosines, sines = (b.node(n, "Gather", r, column, axis=0) for n, r in zip(("cos", "sin"), rows, strict=True))
        angles = cosines, sines
    embedding = b.normal("embed.weight", (c.vocabulary, c.width))
    x = b.node("embed", "Gather", embedding, ids, axis=0)
    for layer in range(c.layers):
        x = b.block(layer, x, angles, mask, position)
    last = b.token("last", b.rms_norm("norm", x, c.width), -1)
    out = embedding if c.tied else b.normal("lm_head.weight", (c.vocabulary, c.width))
    b.output("logits", b.node("lm_head", "Gemm", last, out, transB=1), (c.batch, c.vocabulary), FLOAT)
    return b.finish(state=b.states)
