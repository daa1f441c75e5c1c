"""GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"), seeded and untrained.

Weights are N(0, 0.02), those of the projections onto the residual stream divided by sqrt(2 * layers) (section 2.3);
the output embedding is the input embedding. The key-value cache is state: `past_k_i` and `past_v_i`, updated in place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import ml_dtypes
import numpy as np

from tapeout.errors import UserError
from tapeout.models.writer import ELEMENT_TYPES, PRECISIONS, Array, ModelWriter

if TYPE_CHECKING:
    import onnx

EPSILON = 1e-5
SPREAD = 0.02


@dataclass(frozen=True, slots=True)
class Gpt2Config:
    """Options of `build("gpt2")`; the defaults are GPT-2 small of 124.44 M parameters.

    `mode` is "prefill" (a prompt of 1..`positions` tokens) or "decode" (one token at `position`).
    """

    mode: str = "prefill"
    precision: str = "fp32"
    layers: int = 12
    width: int = 768
    heads: int = 12
    vocabulary: int = 50257
    positions: int = 1024
    seed: int = 0


class _Writer:
    def __init__(self, config: Gpt2Config) -> None:
        self.out = ModelWriter("gpt2", opset=24, ir_version=11)  # 24 brings TensorScatter, the cache update
        self.config = config
        self.dtype = PRECISIONS[config.precision]
        self.rng = np.random.default_rng(config.seed)

    @property
    def head_width(self) -> int:
        return self.config.width // self.config.heads

    def normal(self, name: str, shape: tuple[int, ...], spread: float = SPREAD, mean: float = 0.0) -> str:
        data = self.rng.standard_normal(shape, np.float32)
        data *= np.float32(spread)
        if mean:
            data += np.float32(mean)
        return self.out.weight(name, data.astype(self.dtype, copy=False))

    def number(self, value: float) -> str:
        return self.out.constant(np.array(value).astype(self.dtype))

    def layer_norm(self, name: str, x: str) -> str:
        weights = (
            self.normal(f"{name}.weight", (self.config.width,), mean=1.0),
            self.normal(f"{name}.bias", (self.config.width,)),
        )
        return self.out.node(name, "LayerNormalization", x, *weights, axis=-1, epsilon=EPSILON)

    def linear(self, name: str, x: str, fan_in: int, fan_out: int, spread: float = SPREAD) -> str:
        """x[1, s, in] W[in, out] + b, as the exporters write it: a Gemm between two reshapes."""
        w = self.normal(f"{name}.weight", (fan_in, fan_out), spread)
        b = self.normal(f"{name}.bias", (fan_out,))
        flat = self.out.node(f"{name}.flat", "Reshape", x, self.out.ints(-1, fan_in))
        y = self.out.node(name, "Gemm", flat, w, b)
        return self.out.node(f"{name}.unflat", "Reshape", y, self.out.ints(1, -1, fan_out))

    def heads(self, name: str, x: str) -> str:
        """x[1, s, heads * d] as [1, heads, s, d]."""
        shape = self.out.ints(1, -1, self.config.heads, self.head_width)
        return self.out.node(f"{name}.heads", "Transpose", self.out.node(name, "Reshape", x, shape), perm=[0, 2, 1, 3])

    def cached(self, kind: str, layer: int, update: str, position: tuple[str, ...]) -> str:
        """The cache with `update` written at `position` (at 0 where none is given)."""
        c = self.config
        shape = (1, c.heads, c.positions, self.head_width)
        past = self.out.input(f"past_{kind}_{layer}", self.dtype, shape)
        present = self.out.node(f"present_{kind}_{layer}", "TensorScatter", past, update, *position, axis=2)
        return self.out.output(present, self.dtype, shape)

    def attention(self, layer: int, x: str, mask: str, position: tuple[str, ...]) -> str:
        name, width = f"h.{layer}.attn", self.config.width
        qkv = self.linear(f"{name}.c_attn", x, width, 3 * width)
        parts = [f"{name}.{p}_flat" for p in "qkv"]
        self.out.nodes(f"{name}.split", "Split", (qkv,), parts, axis=-1, num_outputs=3)
        q, k, v = (self.heads(f"{name}.{p}", part) for p, part in zip("qkv", parts, strict=True))
        present_k, present_v = self.cached("k", layer, k, position), self.cached("v", layer, v, position)
        if position:
            k, v = present_k, present_v
        k = self.out.node(f"{name}.k_t", "Transpose", k, perm=[0, 1, 3, 2])
        scores = self.out.node(f"{name}.scores", "MatMul", q, k)
        scores = self.out.node(f"{name}.scaled", "Mul", scores, self.number(1 / math.sqrt(self.head_width)))
        lowest = self.out.constant(_lowest(self.dtype))
        scores = self.out.node(f"{name}.masked", "Where", mask, scores, lowest)
        weights = self.out.node(f"{name}.weights", "Softmax", scores, axis=-1)
        mixed = self.out.node(f"{name}.mixed", "MatMul", weights, v)
        mixed = self.out.node(f"{name}.merged_t", "Transpose", mixed, perm=[0, 2, 1, 3])
        mixed = self.out.node(f"{name}.merged", "Reshape", mixed, self.out.ints(1, -1, width))
        return self.linear(f"{name}.c_proj", mixed, width, width, self.residual_spread)

    @property
    def residual_spread(self) -> float:
        return SPREAD / math.sqrt(2 * self.config.layers)

    def block(self, layer: int, x: str, mask: str, position: tuple[str, ...]) -> str:
        name, width = f"h.{layer}", self.config.width
        attended = self.attention(layer, self.layer_norm(f"{name}.ln_1", x), mask, position)
        x = self.out.node(f"{name}.attn.residual", "Add", x, attended)
        y = self.linear(f"{name}.mlp.c_fc", self.layer_norm(f"{name}.ln_2", x), width, 4 * width)
        y = self.out.node(f"{name}.mlp.gelu", "Gelu", y, approximate="tanh")
        y = self.linear(f"{name}.mlp.c_proj", y, 4 * width, width, self.residual_spread)
        return self.out.node(f"{name}.mlp.residual", "Add", x, y)

    def prefill_positions(self, ids: str) -> tuple[str, str]:
        """Positions 0..s-1 and the causal mask b1[s, s]."""
        shape = self.out.node("shape", "Shape", ids)
        length = self.out.node("length", "Gather", shape, self.out.constant(np.array(1, np.int64)), axis=0)
        zero, one = (self.out.constant(np.array(n, np.int64)) for n in (0, 1))
        positions = self.out.node("positions", "Range", zero, length, one)
        rows = self.out.node("mask_rows", "Unsqueeze", positions, self.out.ints(1))
        columns = self.out.node("mask_columns", "Unsqueeze", positions, self.out.ints(0))
        return positions, self.out.node("mask", "LessOrEqual", columns, rows)

    def decode_positions(self) -> tuple[str, str]:
        """The position of the token and the mask b1[positions] of what it may attend to."""
        position = self.out.input("position", np.dtype(np.int64), (1,))
        everything = self.out.constant(np.arange(self.config.positions, dtype=np.int64))
        return position, self.out.node("mask", "LessOrEqual", everything, position)

    def logits(self, x: str, embedding: str) -> None:
        x = self.layer_norm("ln_f", x)
        last = self.out.node("last", "Gather", x, self.out.constant(np.array(-1, np.int64)), axis=1)
        raw = self.out.node("lm_head", "Gemm", last, embedding, transB=1)
        self.out.node("logits", "Cast", raw, to=ELEMENT_TYPES[np.dtype(np.float32)])
        self.out.output("logits", np.dtype(np.float32), (1, self.config.vocabulary))


def _lowest(dtype: np.dtype[Any]) -> Array:
    """The lowest finite number: a masked score that even a wholly masked row can subtract from itself."""
    limits = cast(Any, ml_dtypes.finfo(dtype))
    return np.array(limits.min).astype(dtype)


def build_gpt2(config: Gpt2Config) -> onnx.ModelProto:
    """`input_ids i64[1, s]` (and `position i64[1]` in decode mode) -> `logits f32[1, vocabulary]` of the last token."""
    if config.precision not in PRECISIONS:
        raise UserError(f"precision '{config.precision}'", "model gpt2", f"use one of {', '.join(PRECISIONS)}")
    if config.mode not in ("prefill", "decode"):
        raise UserError(f"mode '{config.mode}'", "model gpt2", "use prefill or decode")
    if config.width % config.heads:
        raise UserError(f"width {config.width} is not a multiple of {config.heads} heads", "model gpt2")
    writer = _Writer(config)
    prefill = config.mode == "prefill"
    out = writer.out
    ids = out.input("input_ids", np.dtype(np.int64), (1, "sequence" if prefill else 1))
    positions, mask = writer.prefill_positions(ids) if prefill else writer.decode_positions()
    tokens = writer.normal("wte.weight", (config.vocabulary, config.width))
    places = writer.normal("wpe.weight", (config.positions, config.width), SPREAD / 2)
    embedded = out.node("wte", "Gather", tokens, ids, axis=0)
    x = out.node("embedding", "Add", embedded, out.node("wpe", "Gather", places, positions, axis=0))
    for layer in range(config.layers):
        x = writer.block(layer, x, mask, () if prefill else (positions,))
    writer.logits(x, tokens)
    pairs = [f"past_{kind}_{layer}=present_{kind}_{layer}" for layer in range(config.layers) for kind in "kv"]
    metadata = {"tapeout.state": ";".join(pairs)}
    if prefill:
        metadata["tapeout.symbols"] = f"sequence=1:{config.positions}"
    return out.finish(metadata)
