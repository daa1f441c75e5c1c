"""What the builders share: seeded weights, linear layers, norms, attention, feed-forward nets, plain convolutions.

A `Blocks` is one model under construction. Its methods append a part of a network and return the name of the result;
sequences are `[batch, tokens, width]`, images `[batch, channels, height, width]`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import ml_dtypes
import numpy as np

from tapeout.errors import UserError
from tapeout.ir.mapped import empty, may_stand_in, pieces, stand_in
from tapeout.models.writer import ELEMENT_TYPES, PRECISIONS, Array, Built, ModelWriter

SPREAD = 0.02
"""Standard deviation of a transformer's weights (Radford et al. 2019, Devlin et al. 2018)."""
OPSET, IR_VERSION = 24, 11
"""24 brings TensorScatter, the cache update, beside RotaryEmbedding and RMSNormalization of 23."""

FLOAT = np.dtype(np.float32)
INT = np.dtype(np.int64)


class Config(Protocol):
    """What the options of every builder have."""

    @property
    def precision(self) -> str: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Heads:
    """The shape of an attention: `key_value` heads of `width`, each shared by `heads // key_value` query heads."""

    heads: int
    key_value: int
    width: int

    @property
    def group(self) -> int:
        return self.heads // self.key_value


def heads_of(model: str, width: int, heads: int) -> Heads:
    """Plain multi-head attention over `width`; `UserError` where it does not divide."""
    if heads < 1 or width % heads:
        raise UserError(f"width {width} is not a multiple of {heads} heads", f"model {model}", "change one of them")
    return Heads(heads, heads, width // heads)


class Blocks:
    """A model called `name` of `config`'s precision. With `drawn=False` large weights have no contents."""

    def __init__(
        self,
        name: str,
        config: Config,
        drawn: bool = True,
        *,
        precisions: Sequence[str] = tuple(PRECISIONS),
        opset: int = OPSET,
        ir_version: int = IR_VERSION,
    ) -> None:
        if config.precision not in precisions:
            raise UserError(f"precision '{config.precision}'", f"model {name}", f"use one of {', '.join(precisions)}")
        self.name = name
        self.out = ModelWriter(name, opset, ir_version, drawn)
        self.dtype = PRECISIONS.get(config.precision, FLOAT)
        self.seed = config.seed
        self.residual_spread = SPREAD
        """Spread of what projects onto the residual stream."""

    # ---- weights and numbers

    def rng(self, name: str) -> np.random.Generator:
        """The randomness of one weight: it hangs on its name and the seed only, so that models which share a part
        of a network, such as the two modes of a language model, share its weights."""
        return np.random.default_rng((self.seed, zlib.crc32(name.encode())))

    def draw(
        self, name: str, shape: Sequence[int], spread: float = 1.0, mean: float = 0.0, needed: bool = False
    ) -> Array:
        """N(mean, spread) in f32; where large weights are not drawn, and not `needed`, a stand-in for it."""
        if not (self.out.drawn or needed) and may_stand_in(tuple(shape)):
            return stand_in(-np.float32(mean or spread), tuple(shape))  # no pass takes that for a 0, a 1 or a length
        rng, data = self.rng(name), empty(tuple(shape), FLOAT)
        for _, piece in pieces(data.reshape(-1)):
            rng.standard_normal(out=piece, dtype=np.float32)
            piece *= np.float32(spread)
            if mean:
                piece += np.float32(mean)
        return data

    def stored(self, name: str, data: Array) -> str:
        """A weight in the model's precision."""
        return self.out.weight(name, data, self.dtype)

    def normal(self, name: str, shape: Sequence[int], spread: float = SPREAD, mean: float = 0.0) -> str:
        return self.stored(name, self.draw(name, shape, spread, mean))

    def number(self, value: float) -> str:
        return self.out.constant(np.array(value).astype(self.dtype))

    def node(self, name: str, op: str, *inputs: str, **attributes: Any) -> str:
        return self.out.node(name, op, *inputs, **attributes)

    def reshape(self, name: str, x: str, *shape: int) -> str:
        return self.node(name, "Reshape", x, self.out.ints(*shape))

    def split(
        self, name: str, x: str, parts: Sequence[str], axis: int = -1, sizes: Sequence[int] = ()
    ) -> Sequence[str]:
        """x cut along `axis` into `name.part`s, equal ones where no sizes are given."""
        outputs = [f"{name}.{part}" for part in parts]
        inputs = (x, self.out.ints(*sizes)) if sizes else (x,)
        given = {} if sizes else {"num_outputs": len(parts)}
        return self.out.nodes(f"{name}.split", "Split", inputs, outputs, axis=axis, **given)

    def output(self, name: str, value: str, shape: Sequence[int | str], dtype: np.dtype[Any] | None = None) -> str:
        """Declares `value` as the output `name`, converted where it is to have another type."""
        if dtype is None or dtype == self.dtype:
            self.node(name, "Identity", value)
        else:
            self.node(name, "Cast", value, to=ELEMENT_TYPES[dtype])
        return self.out.output(name, dtype or self.dtype, shape)

    def finish(self, **metadata: str) -> Built:
        """The model; metadata keys are those of `tapeout.`."""
        return self.out.finish({f"tapeout.{key}": value for key, value in metadata.items() if value})

    # ---- layers

    def embedding(self, name: str, ids: str, rows: int, width: int, spread: float = SPREAD) -> str:
        return self.node(name, "Gather", self.normal(f"{name}.weight", (rows, width), spread), ids, axis=0)

    def places(self, tokens: int, rows: int) -> str:
        """The numbers of the first tokens, for an embedding of `rows` positions."""
        if not 0 < tokens <= rows:
            raise UserError(f"{tokens} tokens, and {rows} positions", f"model {self.name}", "change positions")
        return self.out.ints(*range(tokens))

    def affine(self, name: str, width: int) -> tuple[str, str]:
        """Weight about 1 and bias about 0 of a norm."""
        return self.normal(f"{name}.weight", (width,), mean=1.0), self.normal(f"{name}.bias", (width,))

    def layer_norm(self, name: str, x: str, width: int, epsilon: float = 1e-5) -> str:
        return self.node(name, "LayerNormalization", x, *self.affine(name, width), axis=-1, epsilon=epsilon)

    def rms_norm(self, name: str, x: str, width: int, epsilon: float = 1e-5) -> str:
        weight = self.normal(f"{name}.weight", (width,), mean=1.0)
        return self.node(name, "RMSNormalization", x, weight, axis=-1, epsilon=epsilon)

    def group_norm(self, name: str, x: str, channels: int, groups: int, epsilon: float = 1e-5) -> str:
        return self.node(
            name, "GroupNormalization", x, *self.affine(name, channels), num_groups=groups, epsilon=epsilon
        )

    def matrix(self, name: str, shape: tuple[int, ...], spread: float) -> str:
        """The weight W[.., in, out] of a linear layer; what stores it in another form overrides this."""
        return self.normal(name, shape, spread)

    def linear(
        self, name: str, x: str, batch: int, fan_in: int, fan_out: int, spread: float = SPREAD, bias: bool = True
    ) -> str:
        """x[batch, s, in] W[in, out] + b, as exporters write it: a Gemm between two reshapes."""
        w = self.matrix(f"{name}.weight", (fan_in, fan_out), spread)
        b = (self.normal(f"{name}.bias", (fan_out,)),) if bias else ()
        y = self.node(name, "Gemm", self.reshape(f"{name}.flat", x, -1, fan_in), w, *b)
        return self.reshape(f"{name}.unflat", y, batch, -1, fan_out)

    def dense(
        self, name: str, x: str, fan_in: int, fan_out: int, spread: float | None = None, bias: bool = True
    ) -> str:
        """x[n, in] W[out, in] + b; unit scale in, unit scale out where no spread is given."""
        w = self.normal(f"{name}.weight", (fan_out, fan_in), 1 / math.sqrt(fan_in) if spread is None else spread)
        b = (self.normal(f"{name}.bias", (fan_out,)),) if bias else ()
        return self.node(name, "Gemm", x, w, *b, transB=1)

    def gelu(self, name: str, x: str) -> str:
        return self.node(name, "Gelu", x)

    def gelu_tanh(self, name: str, x: str) -> str:
        return self.node(name, "Gelu", x, approximate="tanh")

    def silu(self, name: str, x: str, sharpness: float = 1.0) -> str:
        """x * sigmoid(sharpness * x)."""
        inner = x if sharpness == 1.0 else self.node(f"{name}.sharp", "Mul", x, self.number(sharpness))
        return self.node(name, "Mul", x, self.node(f"{name}.sigmoid", "Sigmoid", inner))

    def quick_gelu(self, name: str, x: str) -> str:
        return self.silu(name, x, 1.702)

    # ---- attention

    def split_heads(self, name: str, x: str, batch: int, heads: int, width: int) -> str:
        """x[batch, s, heads * width] as [batch, heads, s, width]."""
        return self.node(
            f"{name}.heads", "Transpose", self.reshape(name, x, batch, -1, heads, width), perm=[0, 2, 1, 3]
        )

    def attend(self, name: str, q: str, k: str, v: str, batch: int, heads: Heads, mask: str = "") -> str:
        """softmax(q k^T / sqrt(width)) v of [batch, heads, s, width], as [batch, s, heads * width].

        `mask` b1 says what may be looked at; it repeats over what broadcasts to the scores. The query heads of a group
        that shares keys and values are further rows: such a mask has `group * s` of them.
        """
        if heads.group > 1:
            q = self.reshape(f"{name}.q_grouped", q, batch, heads.key_value, -1, heads.width)
        k = self.node(f"{name}.k_t", "Transpose", k, perm=[0, 1, 3, 2])
        scores = self.node(f"{name}.scores", "MatMul", q, k)
        scores = self.node(f"{name}.scaled", "Mul", scores, self.number(1 / math.sqrt(heads.width)))
        if mask:
            scores = self.node(f"{name}.masked", "Where", mask, scores, self.out.constant(_lowest(self.dtype)))
        weights = self.node(f"{name}.weights", "Softmax", scores, axis=-1)
        mixed = self.node(f"{name}.mixed", "MatMul", weights, v)
        if heads.group > 1:
            mixed = self.reshape(f"{name}.ungrouped", mixed, batch, heads.heads, -1, heads.width)
        mixed = self.node(f"{name}.merged_t", "Transpose", mixed, perm=[0, 2, 1, 3])
        return self.reshape(f"{name}.merged", mixed, batch, -1, heads.heads * heads.width)

    def self_attention(
        self,
        name: str,
        x: str,
        batch: int,
        heads: Heads,
        mask: str = "",
        *,
        source: str = "",
        source_width: int = 0,
        biases: str = "qkvo",
    ) -> str:
        """q, k, v and output projections around `attend`; keys and values are of `source` where it is given."""
        width = heads.heads * heads.width

        def projected(part: str, of: str, fan_in: int) -> str:
            y = self.linear(f"{name}.{part}_proj", of, batch, fan_in, width, bias=part in biases)
            return self.split_heads(f"{name}.{part}", y, batch, heads.heads, heads.width)

        of, fan_in = (source, source_width) if source else (x, width)
        q, k, v = projected("q", x, width), projected("k", of, fan_in), projected("v", of, fan_in)
        mixed = self.attend(name, q, k, v, batch, heads, mask)
        return self.linear(f"{name}.out_proj", mixed, batch, width, width, self.residual_spread, "o" in biases)

    def causal_mask(self, tokens: int) -> str:
        """b1[tokens, tokens]: nothing looks at what comes after it."""
        return self.out.constant(np.tri(tokens, dtype=np.bool_))

    def mlp(self, name: str, x: str, batch: int, width: int, hidden: int, activation: str = "gelu") -> str:
        """Two linear layers around an activation, which is a method of this class."""
        y = self.linear(f"{name}.fc1", x, batch, width, hidden)
        y = getattr(self, activation)(f"{name}.act", y)
        return self.linear(f"{name}.fc2", y, batch, hidden, width, self.residual_spread)

    def encoder_layer(
        self,
        name: str,
        x: str,
        batch: int,
        heads: Heads,
        hidden: int,
        activation: str = "gelu",
        mask: str = "",
        biases: str = "qkvo",
    ) -> str:
        """A transformer layer with its norms in front: x + attention(norm(x)), then x + mlp(norm(x))."""
        width = heads.heads * heads.width
        y = self.layer_norm(f"{name}.ln_1", x, width)
        y = self.self_attention(f"{name}.attn", y, batch, heads, mask, biases=biases)
        x = self.node(f"{name}.attn.residual", "Add", x, y)
        y = self.layer_norm(f"{name}.ln_2", x, width)
        y = self.mlp(f"{name}.mlp", y, batch, width, hidden, activation)
        return self.node(f"{name}.mlp.residual", "Add", x, y)

    def patches(self, name: str, image: str, batch: int, width: int, patch: int, bias: bool = True) -> str:
        """Squares of `patch` pixels as tokens [batch, squares, width]."""
        y = self.conv(name, image, 3, width, patch, patch, pad=0, bias=bias)
        flat = self.reshape(f"{name}.flat", y, batch, width, -1)
        return self.node(f"{name}.tokens", "Transpose", flat, perm=[0, 2, 1])

    def with_class_token(self, name: str, tokens: str, batch: int, width: int) -> str:
        """A learned token in front of the others."""
        own = self.normal(name, (1, 1, width))
        if batch > 1:
            own = self.node(f"{name}.batch", "Expand", own, self.out.ints(batch, 1, width))
        return self.node(f"{name}.joined", "Concat", own, tokens, axis=1)

    def token(self, name: str, x: str, at: int) -> str:
        """x[:, at, :]."""
        return self.node(name, "Gather", x, self.out.constant(np.array(at, INT)), axis=1)

    # ---- images

    def conv(
        self,
        name: str,
        x: str,
        fan_in: int,
        fan_out: int,
        kernel: int,
        stride: int = 1,
        *,
        pad: int | None = None,
        bias: bool = True,
        gain: float = 1.0,
        rank: int = 2,
    ) -> str:
        """A convolution over `rank` dimensions that keeps unit scale times `gain`; it pads to keep the size."""
        spread = gain / math.sqrt(fan_in * kernel**rank)
        w = self.normal(f"{name}.weight", (fan_out, fan_in, *[kernel] * rank), spread)
        b = (self.normal(f"{name}.bias", (fan_out,)),) if bias else ()
        pads = [kernel // 2 if pad is None else pad] * 2 * rank
        return self.node(name, "Conv", x, w, *b, kernel_shape=[kernel] * rank, strides=[stride] * rank, pads=pads)

    def upsampled(self, name: str, x: str) -> str:
        """Every pixel four times."""
        scales = self.out.constant(np.array([1, 1, 2, 2], np.float32))
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.node(name, "Resize", x, "", scales, **how)


def _lowest(dtype: np.dtype[Any]) -> Array:
    """The lowest finite number: a masked score that even a wholly masked row can subtract from itself."""
    limits = cast(Any, ml_dtypes.finfo(dtype))
    return np.array(limits.min).astype(dtype)
