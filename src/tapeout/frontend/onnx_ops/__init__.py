"""Lowering of ONNX ops to the primitive ops of the graph IR: one module per family, one short handler per op."""

from __future__ import annotations

from collections.abc import Mapping

from tapeout.frontend.onnx_ops import (
    activation,
    contract,
    control,
    elementwise,
    index,
    norm,
    pool,
    quant,
    recurrent,
    reduce,
    resize,
    sequence,
    shape,
)
from tapeout.frontend.onnx_ops.call import Handler

_FAMILIES = (
    activation, contract, control, elementwise, index, norm, pool, quant, recurrent, reduce, resize, sequence, shape,
)  # fmt: skip

HANDLERS: Mapping[tuple[str, str], Handler] = {
    (domain, op): handler for family in _FAMILIES for (domain, op), handler in family.OPS.items()
}
