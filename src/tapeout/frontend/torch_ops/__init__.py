"""From PyTorch's operations to the graph IR: one table per namespace, from an operation's name to its handler.

A handler is called as `handler(lowering, *arguments)` with the arguments of the ATen schema: tensors are `Value`s,
sizes are `Dim`s, dtypes are `DType`s. It returns what the operation returns. Names are those of the overload packet
(`max`), or of one overload (`max.dim`) where that means something else.
"""

from collections.abc import Mapping

from tapeout.frontend.torch_ops import (
    activation,
    contraction,
    control,
    elementwise,
    indexing,
    pooling,
    quantized,
    reduction,
    scalar,
    shape,
)
from tapeout.frontend.torch_ops.lowering import Handler

_ATEN: Mapping[str, Handler] = {
    **elementwise.TABLE,
    **activation.TABLE,
    **reduction.TABLE,
    **contraction.TABLE,
    **pooling.TABLE,
    **shape.TABLE,
    **indexing.TABLE,
    **scalar.ATEN,
}

_PRIMS = (
    "abs neg hypot signbit where add sub mul maximum minimum eq ne lt le gt ge exp log log1p expm1 sqrt rsqrt sin cos "
    "tan tanh erf erfc floor ceil trunc"
).split()
"""Primitives that some of PyTorch's decompositions end in, where they mean the same as in ATen."""

TABLES: Mapping[str, Mapping[str, Handler]] = {
    "aten": _ATEN,
    "prims": {name: _ATEN[name] for name in _PRIMS},
    "python": scalar.TABLE,
    "higher_order": control.TABLE,
    "quantized_decomposed": quantized.TABLE,
}
