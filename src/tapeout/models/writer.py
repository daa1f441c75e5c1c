"""Writes ONNX models: names values, appends nodes and keeps large weights beside them, where nobody copies them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from tapeout.ir.mapped import elementwise, may_stand_in

if TYPE_CHECKING:
    import onnx

Array = np.ndarray[Any, np.dtype[Any]]

# By the numbers of TensorProto.DataType in the standard (onnx.proto).
ELEMENT_TYPES: dict[np.dtype[Any], int] = {
    np.dtype(np.float32): 1,
    np.dtype(np.int8): 3,
    np.dtype(np.int32): 6,
    np.dtype(np.int64): 7,
    np.dtype(np.bool_): 9,
    np.dtype(np.float16): 10,
    np.dtype(ml_dtypes.bfloat16): 16,
    np.dtype(ml_dtypes.int4): 22,
}
PRECISIONS: dict[str, np.dtype[Any]] = {
    "fp32": np.dtype(np.float32),
    "fp16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
}
INT4 = np.dtype(ml_dtypes.int4)


@dataclass(frozen=True, slots=True)
class Built:
    """A model, and its large weights as arrays by name (those of four bits in bytes): of them the model has shapes and
    types only."""

    model: onnx.ModelProto
    weights: dict[str, Array]

    def whole(self) -> onnx.ModelProto:
        """The model with all its weights, which are no longer beside it."""
        for tensor in self.model.graph.initializer:
            if tensor.name in self.weights:
                tensor.raw_data = _raw(self.weights.pop(tensor.name), tensor.data_type)
        return self.model


class ModelWriter:
    """One ONNX model under construction. A node's name is also the name of its (first) result.

    With `drawn=False` large weights have shapes and types but no contents: a model to be counted or timed, not run.
    """

    def __init__(self, name: str, opset: int, ir_version: int, drawn: bool = True) -> None:
        import onnx

        self.drawn = drawn

        self.model = onnx.ModelProto()
        self.model.ir_version = ir_version
        self.model.producer_name = "tapeout"
        self.model.opset_import.add().version = opset
        self.model.graph.name = name
        self._constants: dict[tuple[str, bytes, tuple[int, ...]], str] = {}
        self._large: dict[str, Array] = {}

    def input(self, name: str, dtype: np.dtype[Any], shape: Sequence[int | str]) -> str:
        """Declares a graph input; a string dimension is symbolic."""
        kind = ELEMENT_TYPES[np.dtype(dtype)]
        self.model.graph.input.append(_value_info(name, kind, shape))
        return name

    def output(self, name: str, dtype: np.dtype[Any], shape: Sequence[int | str]) -> str:
        """Declares a graph output."""
        kind = ELEMENT_TYPES[np.dtype(dtype)]
        self.model.graph.output.append(_value_info(name, kind, shape))
        return name

    def weight(self, name: str, data: Array, dtype: np.dtype[Any] | None = None) -> str:
        """Stores an initializer, as `dtype` where that is given."""
        tensor = self.model.graph.initializer.add()
        tensor.name = name
        tensor.data_type = ELEMENT_TYPES[dtype or data.dtype]
        tensor.dims.extend(data.shape)
        stored = data if dtype in (None, data.dtype, INT4) else elementwise(data, dtype, lambda x: x.astype(dtype))
        if may_stand_in(data.shape):
            self._large[name] = stored
        else:
            tensor.raw_data = _raw(stored, tensor.data_type)
        return name

    def constant(self, data: Array) -> str:
        """A small initializer, shared between all uses of the same contents."""
        key = (data.dtype.name, data.tobytes(), data.shape)
        if key not in self._constants:
            self._constants[key] = self.weight(f"const_{len(self._constants)}", data)
        return self._constants[key]

    def ints(self, *values: int) -> str:
        """The constant i64[n] of `values`."""
        return self.constant(np.array(values, np.int64))

    def node(self, name: str, op: str, *inputs: str, **attributes: Any) -> str:
        """Appends a node of one result called `name`."""
        return self.nodes(name, op, inputs, (name,), **attributes)[0]

    def nodes(
        self, name: str, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> Sequence[str]:
        """Appends a node with the given results."""
        from onnx import helper

        self.model.graph.node.append(helper.make_node(op, inputs, outputs, name=name, **attributes))
        return outputs

    def finish(self, metadata: Mapping[str, str]) -> Built:
        """The model, with `metadata` as its metadata_props."""
        for key, value in metadata.items():
            entry = self.model.metadata_props.add()
            entry.key, entry.value = key, value
        return Built(self.model, self._large)


def _raw(data: Array, kind: int) -> bytes:
    """Elements in row-major order; of four-bit ones two a byte, the lower half first."""
    if kind != ELEMENT_TYPES[INT4]:
        return data.tobytes()
    flat = data.view(np.uint8).reshape(-1) & np.uint8(15)
    flat = np.concatenate([flat, np.zeros(flat.size % 2, np.uint8)])
    return (flat[::2] | flat[1::2] << np.uint8(4)).tobytes()


def _value_info(name: str, kind: int, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    from onnx import helper

    return helper.make_tensor_value_info(name, kind, shape)
