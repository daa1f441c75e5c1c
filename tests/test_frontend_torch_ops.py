"""PyTorch import: every family of operations and layer against eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tapeout.frontend.torch_export import import_torch
from tapeout.ir.interp import interpret

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  as above
from torch.nn import functional as F  # noqa: E402  as above

from models_torch import Bottleneck  # noqa: E402  needs torch
from torch_cases import A, B, assert_same, bf16, check, f16, f32, inf, ints, nan, positive, run, trained, unit  # noqa: E402  needs torch

aten = torch.ops.aten


SPECIAL = torch.tensor([-inf, -3e9, -20.0, -1.5, -0.5, -1e-6, -0.0, 0.0, 1e-6, 0.5, 1.5, 2.5, 20.0, 3e9, inf, nan])
MASK = f32(3, 4) > 0
I, J = ints(3, 4), ints(3, 4, low=1)

ELEMENTWISE: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [
    ("add", lambda x, y: x + y, (A, f32(4))),
    ("add_alpha", lambda x, y: torch.add(x, y, alpha=0.3), (A, B)),
    ("add_alpha_f16", lambda x, y: torch.add(x, y, alpha=0.3), (f16(3, 4), f16(4))),
    ("add_int_float", lambda x, y: x + y, (I, A)),
    ("add_int_number", lambda x: x + 2.5, (I,)),
    ("add_bf16_number", lambda x: x + 0.3, (bf16(3, 4),)),
    ("mul_f16_number", lambda x: x * 0.3, (f16(3, 4),)),
    ("add_u8_i8", lambda x, y: x + y, (ints(3, low=0, dtype=torch.uint8), ints(3, dtype=torch.int8))),
    ("add_f16_scalar_tensor", lambda x, y: x + y, (f16(3, 4), f32())),
    ("rsub", lambda x: 1 - x, (A,)),
    ("sub_alpha", lambda x, y: torch.sub(x, y, alpha=2), (I, J)),
    ("mul_bool", lambda x, y: x * y, (MASK, ~MASK)),
    ("add_bool", lambda x, y: x + y, (MASK, MASK)),
    ("div", lambda x, y: x / y, (A, B)),
    ("div_int", lambda x, y: x / y, (I, J)),
    ("div_zero", lambda x: x / 0, (A,)),
    ("floor_divide", lambda x, y: x // y, (I, J)),
    ("floor_divide_negative", lambda x: x // -4, (I,)),
    ("div_floor_float", lambda x, y: torch.div(x, y, rounding_mode="floor"), (10 * A, B)),
    ("div_trunc_float", lambda x, y: torch.div(x, y, rounding_mode="trunc"), (10 * A, B)),
    ("div_trunc_int", lambda x, y: torch.div(x, y, rounding_mode="trunc"), (I, J)),
    ("remainder", lambda x, y: x % y, (10 * A, B)),
    ("remainder_int", lambda x: x % 4, (I,)),
    ("fmod", torch.fmod, (I, J)),
    ("pow_2", lambda x: x**2, (A,)),
    ("pow_half", lambda x: x**0.5, (positive(3, 4),)),
    ("pow_minus_half", lambda x: x**-0.5, (positive(3, 4),)),
    ("pow_3_int", lambda x: x**3, (I,)),
    ("pow_number", lambda x: x**1.7, (positive(3, 4),)),
    ("pow_tensor", torch.pow, (positive(3, 4), A)),
    ("pow_scalar_base", lambda x: 2.0**x, (A,)),
    ("pow_0", lambda x: x**0, (A,)),
    ("lerp", lambda x, y: torch.lerp(x, y, 0.3), (A, B)),
    ("addcmul", lambda x, y, z: torch.addcmul(x, y, z, value=0.5), (A, B, A)),
    ("addcdiv", lambda x, y, z: torch.addcdiv(x, y, z, value=0.5), (A, B, positive(3, 4))),
    ("maximum_nan", torch.maximum, (SPECIAL, SPECIAL.flip(0))),
    ("fmax_nan", torch.fmax, (SPECIAL, SPECIAL.flip(0))),
    ("fmin_nan", torch.fmin, (SPECIAL, SPECIAL.flip(0))),
    ("clamp", lambda x: x.clamp(-0.5, 0.5), (A,)),
    ("clamp_min_int", lambda x: x.clamp(min=0), (I,)),
    ("clamp_int_by_float", lambda x: x.clamp(-1.5, 2.5), (I,)),
    ("clamp_tensor", lambda x, y: torch.clamp(x, max=y), (A, B)),
    ("atan2", torch.atan2, (A, B)),
    ("compare_int_float", lambda x: (x > 1.5, x <= 3, x == 2, x != 2), (I,)),
    ("compare_f16_number", lambda x: x > 0.1, (torch.tensor([0.1]).half(),)),
    ("compare_nan", lambda x: (x < 1, x >= 1, x != SPECIAL), (SPECIAL,)),
    ("logical", lambda x, y: (x.logical_and(y), x.logical_or(y), x.logical_xor(y), x.logical_not()), (I, MASK)),
    ("bitwise", lambda x, y: (x & y, x | y, x ^ y, ~x), (I, J)),
    ("shift", lambda x: (x << 2, x >> 1), (I,)),
    ("where", lambda c, x: torch.where(c, x, 0.0), (MASK, A)),
    ("where_promotes", lambda c, x, y: torch.where(c, x, y), (MASK, I, A)),
    ("masked_fill", lambda x, c: x.masked_fill(c, -inf), (A, MASK)),
    ("isnan_isinf_isfinite", lambda x: (x.isnan(), x.isinf(), x.isfinite()), (SPECIAL,)),
    ("isinf_int", lambda x: (x.isinf(), x.isnan()), (I,)),
    ("nan_to_num", lambda x: torch.nan_to_num(x, 7.0), (SPECIAL,)),
    ("neg_abs_sign", lambda x: (-x, x.abs(), x.sign()), (SPECIAL,)),
    ("neg_abs_sign_int", lambda x: (-x, x.abs(), x.sign()), (I,)),
    ("rounding", lambda x: (x.floor(), x.ceil(), x.round(), x.trunc(), x.frac()), (3 * A,)),
    ("rounding_int", lambda x: (x.floor(), x.round(), x.trunc()), (I,)),
    ("round_decimals", lambda x: x.round(decimals=2), (A,)),
    ("exp_int", torch.exp, (ints(5),)),
    ("to_int", lambda x: x.to(torch.int32), (9 * A,)),
    ("to_bool", lambda x: x.bool(), (I,)),
    ("to_bf16", lambda x: x.bfloat16() + 1, (A,)),
    ("type_as", lambda x, y: x.type_as(y), (A, I)),
    ("hypot", torch.hypot, (A, B)),
    ("signbit_copysign", lambda x, y: (x.signbit(), torch.copysign(x, y)), (SPECIAL, -SPECIAL.nan_to_num())),
    ("square_reciprocal", lambda x: (x.square(), x.reciprocal()), (A,)),
    ("view_dtype", lambda x: x.view(torch.int32), (A,)),
    ("f64", lambda x: (x.sin() * 0.1).exp(), (A.double(),)),
    ("inplace", lambda x: x.mul(2).add_(1).relu_(), (A,)),
]  # fmt: skip

FUNCTIONS = "exp exp2 expm1 log log2 log10 log1p sqrt rsqrt sin cos tan sinh cosh tanh asin acos atan asinh acosh \
atanh erf erfc sigmoid".split()

ACTIVATIONS: list[tuple[str, Callable[..., Any]]] = [
    ("relu", F.relu), ("relu6", F.relu6), ("hardtanh", F.hardtanh), ("leaky_relu", lambda x: F.leaky_relu(x, 0.1)),
    ("elu", F.elu), ("selu", F.selu), ("celu", lambda x: F.celu(x, 1.3)), ("gelu", F.gelu),
    ("gelu_tanh", lambda x: F.gelu(x, approximate="tanh")), ("silu", F.silu), ("softplus", F.softplus),
    ("softplus_beta", lambda x: F.softplus(x, 2.0, 3.0)), ("mish", F.mish), ("hardsigmoid", F.hardsigmoid),
    ("hardswish", F.hardswish), ("logsigmoid", F.logsigmoid), ("glu", F.glu), ("softsign", F.softsign),
    ("tanhshrink", F.tanhshrink), ("softshrink", F.softshrink), ("hardshrink", F.hardshrink),
    ("threshold", lambda x: F.threshold(x, 0.1, 2.0)), ("softmax", lambda x: x.softmax(-1)),
    ("softmax_0", lambda x: x.softmax(0)), ("log_softmax", lambda x: x.log_softmax(1)),
]  # fmt: skip

REDUCTIONS: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [
    ("sum", lambda x: (x.sum(), x.sum(1), x.sum((0, -1), keepdim=True)), (f32(2, 3, 4),)),
    ("sum_int", lambda x: (x.sum(), x.sum(0, dtype=torch.float32)), (I,)),
    ("sum_bool", lambda x: x.sum(1), (MASK,)),
    ("sum_f16", lambda x: x.sum(), (f16(64, 64),)),
    ("mean", lambda x: (x.mean(), x.mean(-1, keepdim=True)), (A,)),
    ("mean_f16", lambda x: x.mean(0), (f16(300, 4) * 300,)),
    ("prod", lambda x: (x.prod(), x.prod(1)), (A,)),
    ("amax_amin", lambda x: (x.amax(1), x.amin((0, 1))), (A,)),
    ("max_min", lambda x: (x.max(), x.min()), (I,)),
    ("max_dim", lambda x: (*x.max(1), *x.min(0, keepdim=True)), (A,)),
    ("max_other", torch.max, (A, B)),
    ("aminmax", lambda x: tuple(x.aminmax(dim=1)), (A,)),
    ("argmax", lambda x: (x.argmax(), x.argmax(1), x.argmin(0, keepdim=True)), (A,)),
    ("any_all", lambda x: (x.any(), x.all(1), x.any(0, keepdim=True)), (MASK,)),
    ("any_float", lambda x: (x > 0.9).any(1), (A,)),
    ("var", lambda x: (x.var(), x.var(1), x.var(0, correction=0), x.std(1, keepdim=True)), (A,)),
    ("var_mean", lambda x: torch.var_mean(x, 1), (A,)),
    ("logsumexp", lambda x: x.logsumexp(1), (torch.cat([A, torch.full((1, 4), -inf)]),)),
    ("norms", lambda x: (x.norm(), x.norm(1, dim=1), x.norm(inf, dim=0), x.norm(3.0, dim=1, keepdim=True)), (A,)),
    ("normalize", lambda x: F.normalize(x, dim=-1), (A,)),
    ("cumsum", lambda x: (x.cumsum(0), x.cumsum(-1)), (A,)),
    ("cumsum_int", lambda x: x.cumsum(1), (ints(3, 4, dtype=torch.int32),)),
    ("cumprod", lambda x: x.cumprod(1), (A,)),
    ("cummax", lambda x: (x.cummax(1).values, x.cummin(0).values), (A,)),
    ("logcumsumexp", lambda x: x.logcumsumexp(1), (A,)),
    ("quantile_nansum", lambda x: (x.quantile(0.3, dim=1), x.nansum(1)), (A,)),
    ("sort", lambda x: (*x.sort(), *torch.sort(x, 0, descending=True)), (A,)),
    ("sort_stable", lambda x: torch.sort(x, stable=True, dim=0), (ints(9, 2, low=0, high=3),)),
    ("argsort", lambda x: x.argsort(dim=0), (A,)),
    ("topk", lambda x: (*x.topk(2), *x.topk(2, 0, largest=False)), (A,)),
    ("kthvalue_median", lambda x: (*x.kthvalue(2, 1), *x.median(1), x.median()), (A,)),
    ("cosine", lambda x, y: F.cosine_similarity(x, y), (A, B)),
    ("cdist", lambda x, y: torch.cdist(x, y), (f32(2, 3, 4), f32(2, 5, 4, seed=3))),
    ("pdist", lambda x: (F.pdist(x), F.pdist(x, 1.0)), (f32(5, 4),)),
    ("cross_entropy", lambda x, y: F.cross_entropy(x, y), (A, ints(3, low=0, high=4))),
]

CONTRACTIONS: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [
    ("mm", lambda x, y: x @ y, (A, f32(4, 5))),
    ("mv_dot_outer", lambda x, y: (x @ y, y @ y, torch.outer(y, y)), (A, f32(4))),
    ("bmm", torch.bmm, (f32(2, 3, 4), f32(2, 4, 5))),
    ("matmul_broadcast", lambda x, y: x @ y, (f32(2, 1, 3, 4), f32(5, 4, 2))),
    ("matmul_vector", lambda x, y: x @ y, (f32(4), f32(2, 4, 3))),
    ("matmul_int", lambda x, y: x @ y, (I, ints(4, 2))),
    ("matmul_f16", lambda x, y: x @ y, (f16(8, 32), f16(32, 8))),
    ("addmm", lambda c, x, y: torch.addmm(c, x, y, beta=0.5, alpha=2.0), (f32(5), A, f32(4, 5))),
    ("baddbmm", lambda c, x, y: torch.baddbmm(c, x, y), (f32(2, 3, 5), f32(2, 3, 4), f32(2, 4, 5))),
    ("linear", F.linear, (f32(2, 3, 4), f32(5, 4), f32(5))),
    ("linear_bf16", F.linear, (bf16(2, 3, 64), bf16(5, 64), bf16(5))),
    ("einsum", lambda x, y: torch.einsum("bik,bjk->bij", x, y), (f32(2, 3, 4), f32(2, 5, 4))),
    ("conv1d", lambda x, w, b: F.conv1d(x, w, b, 2, 1), (f32(2, 3, 9), f32(4, 3, 3), f32(4))),
    ("conv2d", lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 0)), (f32(2, 3, 8, 7), f32(4, 3, 3, 3), f32(4))),
    ("conv2d_f16", lambda x, w, b: F.conv2d(x, w, b), (f16(1, 3, 8, 8), f16(4, 3, 3, 3), f16(4))),
    ("conv2d_groups", lambda x, w: F.conv2d(x, w, None, 1, 2, 2, 2), (f32(1, 4, 8, 8), f32(6, 2, 3, 3))),
    ("conv2d_depthwise", lambda x, w: F.conv2d(x, w, None, 1, 1, 1, 4), (f32(1, 4, 6, 6), f32(4, 1, 3, 3))),
    ("conv2d_same", lambda x, w: F.conv2d(x, w, padding="same"), (f32(1, 2, 6, 6), f32(3, 2, 4, 4))),
    ("conv2d_unbatched", lambda x, w: F.conv2d(x, w), (f32(3, 6, 6), f32(4, 3, 3, 3))),
    ("conv3d", lambda x, w: F.conv3d(x, w, padding=1), (f32(1, 2, 4, 5, 6), f32(3, 2, 3, 3, 3))),
    ("deconv1d", lambda x, w, b: F.conv_transpose1d(x, w, b, 2), (f32(1, 3, 5), f32(3, 4, 3), f32(4))),
    (
        "deconv2d",
        lambda x, w: F.conv_transpose2d(x, w, None, 2, 1, 1, 2, (1, 2)),
        (f32(1, 4, 5, 6), f32(4, 3, 3, 3)),
    ),
    ("deconv2d_crop", lambda x, w: F.conv_transpose2d(x, w, None, 2, 1), (f32(1, 2, 5, 6), f32(2, 3, 1, 1))),
    ("attention", F.scaled_dot_product_attention, (f32(2, 4, 5, 8), f32(2, 4, 7, 8), f32(2, 4, 7, 8, seed=4))),
    (
        "attention_causal",
        lambda q, k: F.scaled_dot_product_attention(q, k, k, is_causal=True, scale=0.3),
        (f32(2, 5, 8), f32(2, 5, 8, seed=4)),
    ),
    (
        "attention_mask",
        lambda q, m: F.scaled_dot_product_attention(q, q, q, m),
        (f32(1, 2, 5, 8), (f32(1, 1, 5, 5) > 0) & (torch.arange(5) != 2)[:, None]),
    ),
    (
        "attention_bias",
        lambda q, m: F.scaled_dot_product_attention(q, q, q, m),
        (f16(1, 2, 5, 8), f16(2, 5, 5)),
    ),
    (
        "attention_grouped",
        lambda q, k, m: F.scaled_dot_product_attention(q, k, k, m, enable_gqa=True),
        (f32(2, 6, 5, 8), f32(2, 2, 5, 8, seed=4), f32(2, 6, 5, 5)),
    ),
]


def images(*shape: int) -> Any:
    return f32(*(shape or (2, 3, 7, 6)))


POOLS: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [
    ("max_pool1d", lambda x: F.max_pool1d(x, 3, 2, 1), (f32(2, 3, 9),)),
    ("max_pool2d", lambda x: F.max_pool2d(x, 3, 2, 1), (images(),)),
    ("max_pool2d_ceil", lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True), (images(),)),
    ("max_pool2d_dilated", lambda x: F.max_pool2d(x, (2, 3), 1, dilation=2), (images(),)),
    ("max_pool3d", lambda x: F.max_pool3d(x, 2), (images(1, 2, 4, 4, 6),)),
    ("avg_pool1d", lambda x: F.avg_pool1d(x, 3, 2, 1), (f32(2, 3, 9),)),
    ("avg_pool2d", lambda x: F.avg_pool2d(x, 3, 2, 1), (images(),)),
    ("avg_pool2d_inner", lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), (images(),)),
    ("avg_pool2d_ceil", lambda x: F.avg_pool2d(x, (2, 4), (2, 3), ceil_mode=True), (images(),)),
    ("avg_pool2d_divisor", lambda x: F.avg_pool2d(x, 2, divisor_override=3), (images(),)),
    ("avg_pool3d", lambda x: F.avg_pool3d(x, 2), (images(1, 2, 4, 4, 6),)),
    ("adaptive_avg_1", lambda x: F.adaptive_avg_pool2d(x, 1), (images(),)),
    ("adaptive_avg_even", lambda x: F.adaptive_avg_pool2d(x, (7, 3)), (images(),)),
    ("adaptive_avg_ragged", lambda x: F.adaptive_avg_pool2d(x, (3, 4)), (images(),)),
    ("adaptive_avg_1d", lambda x: F.adaptive_avg_pool1d(x, 4), (f32(2, 3, 9),)),
    ("adaptive_max", lambda x: F.adaptive_max_pool2d(x, (3, 4)), (images(),)),
    ("nearest_twice", lambda x: F.interpolate(x, scale_factor=2), (images(),)),
    ("nearest_size", lambda x: F.interpolate(x, (5, 11)), (images(),)),
    ("nearest_exact", lambda x: F.interpolate(x, (5, 11), mode="nearest-exact"), (images(),)),
    ("linear", lambda x: F.interpolate(x, 13, mode="linear"), (f32(1, 2, 7),)),
    ("bilinear", lambda x: F.interpolate(x, (5, 11), mode="bilinear"), (images(),)),
    ("bilinear_aligned", lambda x: F.interpolate(x, (5, 11), mode="bilinear", align_corners=True), (images(),)),
    ("bilinear_scale", lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear"), (images(),)),
    ("bicubic", lambda x: F.interpolate(x, (10, 9), mode="bicubic"), (images(),)),
    ("trilinear", lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"), (images(1, 1, 3, 4, 5),)),
    ("pixel_shuffle", lambda x: (F.pixel_shuffle(x, 2), F.pixel_unshuffle(x, 2)), (f32(1, 8, 4, 6),)),
    (
        "grid_sample",
        lambda x, at: F.grid_sample(x, at, align_corners=False),
        (images(), unit(2, 4, 5, 2)),
    ),
    ("fold", lambda x: F.fold(x, (6, 5), (3, 2), 1, (1, 0), 2), (f32(2, 12, 6),)),
    ("unfold", lambda x: F.unfold(x, 3, padding=1), (images(),)),
]

SHAPES: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [
    ("view_reshape", lambda x: (x.view(4, 3), x.reshape(-1), x.unflatten(1, (2, 2))), (A,)),
    ("squeeze", lambda x: (x.squeeze(), x.unsqueeze(-1), x.squeeze(1)), (f32(2, 1, 3, 1),)),
    ("expand", lambda x: (x.expand(2, 3, 4), x[:, None].expand(-1, 5, -1)), (A,)),
    ("permute", lambda x: (x.permute(2, 0, 1), x.transpose(-1, 0), x.movedim(0, 1)), (f32(2, 3, 4),)),
    ("t", lambda x: (x.t(), x.mT, x.T), (A,)),
    ("slices", lambda x: (x[1:], x[:, ::2], x[-2:, 1:3], x[..., -1], x[0], x[:, 5:]), (A,)),
    ("narrow_select", lambda x: (x.narrow(1, 1, 2), x.select(1, -1)), (A,)),
    ("split_chunk", lambda x: (*x.split([1, 3], 1), *x.chunk(2), *x.unbind(1), *x.tensor_split(3, 1)), (A,)),
    ("cat_stack", lambda x, y: (torch.cat([x, y], 1), torch.stack([x, y], -1), torch.hstack([x, y])), (A, B)),
    ("cat_promotes", lambda x, y: torch.cat([x, y]), (A, I)),
    ("repeat", lambda x: (x.repeat(2, 3), x.repeat(2, 1, 2), x.tile(2)), (A,)),
    ("repeat_interleave", lambda x: (x.repeat_interleave(2, 1), x.repeat_interleave(3)), (A,)),
    ("flip_roll", lambda x: (x.flip(0), x.flip(0, 1), x.roll(1), x.roll((1, -2), (0, 1)), x.rot90()), (A,)),
    ("pad", lambda x: (F.pad(x, (1, 2)), F.pad(x, (1, -1, 0, 2), value=3.0)), (A,)),
    ("pad_reflect", lambda x: F.pad(x, (2, 1, 1, 3), mode="reflect"), (f32(1, 2, 5, 4),)),
    ("pad_replicate", lambda x: F.pad(x, (2, 1, 1, 3), mode="replicate"), (f32(1, 2, 5, 4),)),
    ("pad_circular", lambda x: F.pad(x, (2, 1), mode="circular"), (f32(1, 2, 5),)),
    ("diagonal", lambda x: (x.diagonal(), x.diagonal(1), x.diagonal(-1, 1, 2)), (f32(3, 4, 5),)),
    ("diag_trace", lambda x: (x.trace(), torch.diag_embed(x)), (A,)),
    ("as_strided", lambda x: x.as_strided((2, 3), (4, 1), 1), (A,)),
    ("unfold_dim", lambda x: x.unfold(1, 2, 2), (A,)),
    ("tril_triu", lambda x: (x.tril(), x.triu(1), x.tril(-1)), (A,)),
    ("arange", lambda x: x + torch.arange(4) + torch.arange(1, 9, 2) + torch.arange(0.5, 2.5, 0.5), (A,)),
    ("linspace_eye", lambda x: x @ torch.eye(4) + torch.linspace(0, 1, 4), (A,)),
    ("filled", lambda x: (torch.zeros_like(x), x.new_ones(2), torch.full((2,), 7), x.new_full((3,), 2.5)), (A,)),
    ("copy", lambda x, y: x.clone().copy_(y), (A, f32(4))),
    ("channel_shuffle", lambda x: F.channel_shuffle(x, 2), (f32(1, 4, 2, 2),)),
    ("meshgrid", lambda x: torch.meshgrid(x, x, indexing="ij"), (f32(3),)),
]  # fmt: skip


def put(index: Any) -> Callable[..., Any]:
    def fn(x: Any, value: Any) -> Any:
        x = x.clone()
        x[index] = value
        return x

    return fn


INDEXING: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [
    ("embedding", F.embedding, (ints(2, 3, low=0, high=5), f32(5, 4))),
    ("index_select", lambda x, i: x.index_select(1, i), (A, torch.tensor([3, 0, 0]))),
    ("index_one", lambda x, i: (x[i], x[:, i]), (A, torch.tensor([2, -1, 0]))),
    ("index_pair", lambda x, i, j: x[i, j], (A, torch.tensor([[0], [-1]]), torch.tensor([3, 1]))),
    ("index_apart", lambda x, i, j: x[i, :, j], (f32(3, 4, 5), torch.tensor([0, 2]), torch.tensor([4, -5]))),
    ("index_middle", lambda x, i: x[:, i, i], (f32(2, 3, 4, 2), torch.tensor([0, 2]))),
    ("gather", lambda x, i: x.gather(0, i), (A, ints(2, 3, low=0, high=3))),
    ("gather_last", lambda x, i: x.gather(-1, i), (f32(2, 3, 4), ints(2, 3, 2, low=0, high=4))),
    ("take_along", lambda x: x.take_along_dim(x.argsort(1), 1), (A,)),
    ("scatter", lambda x, i: x.scatter(1, i, 9.0), (A, torch.tensor([[1, 3], [0, 2]]))),
    ("scatter_src", lambda x, i, y: x.scatter(0, i, y), (A, torch.tensor([[1, 0, 2, 0]]), B)),
    ("scatter_add", lambda x, i, y: x.scatter_add(1, i, y), (A, ints(3, 4, low=0, high=4), B)),
    (
        "scatter_reduce",
        lambda x, i, y: (x.scatter_reduce(1, i, y, "amax"), x.scatter_reduce(1, i, y, "prod")),
        (A, ints(3, 4, low=0, high=4), B),
    ),
    ("index_add", lambda x, i, y: x.index_add(0, i, y, alpha=2), (A, torch.tensor([0, 0]), f32(2, 4))),
    ("index_copy", lambda x, i, y: x.index_copy(1, i, y), (A, torch.tensor([1, 3]), f32(3, 2))),
    ("index_fill", lambda x, i: x.index_fill(1, i, 3.0), (A, torch.tensor([1, 3]))),
    ("put_rows", put(torch.tensor([0, 2])), (A, f32(2, 4))),
    ("put_pair", put((torch.tensor([0, 2]), torch.tensor([1, -1]))), (A, f32(2))),
    ("put_apart", put((torch.tensor([0, 2]), slice(None), torch.tensor([1, -1]))), (f32(3, 4, 5), f32(2, 4))),
    ("put_one", put((slice(None), torch.tensor([-2]))), (A, f32(3, 1))),
    ("put_mask", put(MASK), (A, torch.tensor(5.0))),
    ("put_slice", put((slice(1, None), slice(0, 2))), (A, f32(2, 2))),
    ("put_step", put((slice(None), slice(0, None, 2))), (A, f32(3, 2))),
    ("put_select", put((slice(None), -1)), (A, f32(3))),
    ("put_number", put(0), (A, torch.tensor(2.0))),
    (
        "accumulate",
        lambda x, i, y: x.index_put((i,), y, accumulate=True),
        (A, torch.tensor([1, 1, 0]), f32(3, 4)),
    ),
    ("masked_scatter", lambda x, m, y: x.masked_scatter(m, y), (A, MASK, B)),
    ("diagonal_scatter", lambda x, y: torch.diagonal_scatter(x, y, 1), (A, f32(3))),
    ("one_hot", lambda i: F.one_hot(i, 6), (ints(4, low=0, high=6),)),
    ("bucketize", torch.bucketize, (I, torch.tensor([-3, 0, 4]))),
    ("bucketize_right", lambda x, e: torch.bucketize(x, e, right=True), (I, torch.tensor([-3, 0, 4]))),
    ("searchsorted", lambda e, x: torch.searchsorted(e, x, side="right"), (A.sort().values, B)),
]  # fmt: skip

Case = tuple[str, Callable[..., Any], tuple[Any, ...]]


def chunks(size: int) -> list[Any]:
    """Cases together: tracing is what takes the time, and one program can hold many."""
    found: list[Any] = []
    for family in (ELEMENTWISE, REDUCTIONS, CONTRACTIONS, POOLS, SHAPES, INDEXING):
        for i in range(0, len(family), size):
            part = family[i : i + size]
            found.append(pytest.param(part, id=f"{part[0][0]}-{part[-1][0]}"))
    return found


class Together(nn.Module):
    """Many functions, each with its arguments."""

    def __init__(self, cases: list[Case]) -> None:
        super().__init__()
        self.cases = cases

    def forward(self, *args: Any) -> list[Any]:
        return [fn(*given) for (_, fn, _), given in zip(self.cases, args, strict=True)]


@pytest.mark.parametrize("cases", chunks(8))
def test_operations(cases: list[Case]) -> None:
    args = tuple(args for _, _, args in cases)
    program = import_torch(Together(cases), args)
    results = run(program, *args)
    for (name, fn, given), result in zip(cases, results, strict=True):
        try:
            assert_same(result, fn(*(a.clone() for a in given)), factor=2)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name: str) -> None:
    """Elementary functions on ordinary, tiny, huge and special arguments."""
    fn = getattr(torch, name)
    domain = {"acosh": unit(64) + 2, "asin": unit(64), "acos": unit(64), "atanh": unit(64)}
    x = domain.get(name, torch.cat([f32(64), f32(16) * 1e-4]))
    x = x.abs() if name.startswith(("log", "sqrt", "rsqrt")) else x
    special = SPECIAL if name not in ("sin", "cos", "tan") else SPECIAL.clamp(-1e3, 1e3)
    check(lambda *xs: tuple(fn(x) for x in xs), x, x.abs().half(), special, factor=4)


@pytest.mark.parametrize(("name", "fn"), ACTIVATIONS, ids=[name for name, _ in ACTIVATIONS])
def test_activation(name: str, fn: Callable[..., Any]) -> None:
    x = torch.cat([f32(6, 8), 12 * f32(2, 8)])
    check(lambda *xs: tuple(fn(x) for x in xs), x, f16(6, 8), bf16(6, 8), factor=4)


# ---- layers with parameters


LAYERS: list[tuple[str, Callable[[], nn.Module], Any]] = [
    ("layer_norm", lambda: nn.LayerNorm((3, 4)), f32(2, 3, 4)),
    ("layer_norm_bf16", lambda: nn.LayerNorm(16).bfloat16(), bf16(5, 16)),
    ("rms_norm", lambda: nn.RMSNorm(8), f32(3, 8)),
    ("group_norm", lambda: nn.GroupNorm(2, 6), f32(2, 6, 5, 4)),
    ("instance_norm", lambda: nn.InstanceNorm2d(3, affine=True), images()),
    ("batch_norm", lambda: nn.BatchNorm2d(3), images()),
    ("batch_norm_f16", lambda: nn.BatchNorm2d(3).half(), f16(2, 3, 4, 4)),
    ("local_response_norm", lambda: nn.LocalResponseNorm(2), images()),
    ("prelu", lambda: nn.PReLU(3), images()),
    ("embedding_bag", lambda: nn.Sequential(nn.Embedding(9, 4), nn.LayerNorm(4)), ints(2, 3, low=0, high=9)),
    ("bilinear", lambda: Fn2(nn.Bilinear(3, 4, 5)), f32(2, 7)),
    ("lstm", lambda: nn.LSTM(4, 5, 2, batch_first=True, bidirectional=True), f32(2, 3, 4)),
    ("gru", lambda: nn.GRU(4, 5), f32(3, 2, 4)),
    ("attention", lambda: nn.MultiheadAttention(8, 2, batch_first=True), f32(2, 5, 8)),
    ("encoder", lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True), f32(2, 5, 8)),
    ("bottleneck", lambda: Bottleneck(8, 4, 2), f32(1, 8, 8, 8)),
]


class Fn2(nn.Module):
    """A module of two inputs, given one that holds both."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any) -> Any:
        return self.inner(x[:, :3], x[:, 3:])


class SelfAttention(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any) -> Any:
        return self.inner(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize(("name", "make", "x"), LAYERS, ids=[name for name, _, _ in LAYERS])
def test_layer(name: str, make: Callable[[], nn.Module], x: Any) -> None:
    module = trained(make())
    check(SelfAttention(module) if name == "attention" else module, x, factor=4)


def test_batch_norm_in_training_updates_its_statistics() -> None:
    module = trained(nn.BatchNorm1d(3, momentum=0.3)).train()
    x = f32(8, 3)
    program = import_torch(module, (x,))
    result = interpret(program.graph, program.pack(x))
    want = module(x).detach()
    assert_same(program.unpack(result.outputs), want, factor=4)
    assert set(result.states) == {"running_mean", "running_var", "num_batches_tracked"}
    for name, after in result.states.items():
        assert_same(torch.from_numpy(after), module.get_buffer(name), factor=4)
