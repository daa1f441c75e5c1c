"""Small ONNX models for tests: one node, or a few, with chosen operands constant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Fixed:
    """An operand that is an initializer of the model."""

    data: np.ndarray


Operand = np.ndarray | Fixed | None


def fixed(*values: float, dtype: type = np.int64) -> Fixed:
    return Fixed(np.array(values, dtype))


def scalar(value: float, dtype: type = np.int64) -> Fixed:
    return Fixed(np.array(value, dtype))


def info(name: str, dtype: int = TensorProto.FLOAT, shape: Sequence[int | str | None] | None = None) -> Any:
    return helper.make_tensor_value_info(name, dtype, shape)


def make_model(
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    metadata: dict[str, str] | None = None,
) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(data, name) for name, data in (weights or {}).items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, stored)
    domains = {n.domain for n in nodes if n.domain}
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in sorted(domains))]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9)
    helper.set_model_props(model, metadata or {})
    return model


def one_node(
    op: str, operands: Sequence[Operand], opset: int = 17, outputs: int = 1, domain: str = "", **attributes: Any
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of one node, and what to feed it."""
    names = [f"in{i}" if v is not None else "" for i, v in enumerate(operands)]
    outs = [f"out{i}" for i in range(outputs)]
    node = helper.make_node(op, names, outs, name="the_node", domain=domain, **attributes)
    feeds = {n: v for n, v in zip(names, operands, strict=True) if isinstance(v, np.ndarray)}
    weights = {n: v.data for n, v in zip(names, operands, strict=True) if isinstance(v, Fixed)}
    inputs = [info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()]
    return make_model([node], inputs, [onnx.ValueInfoProto(name=o) for o in outs], weights, opset), feeds


def run_onnxruntime(model: onnx.ModelProto, feeds: dict[str, Any], optimised: bool = True) -> dict[str, Any]:
    """Its outputs. Quantised models should run unoptimised: on machines without VNNI its products of bytes saturate at
    16 bits (a tiny ResNet is three steps off)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))
