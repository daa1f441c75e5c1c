"""Typed views of ONNX's protocol buffers: the only module of the importer that touches them.

Weights stay where they are: stored bytes become read-only arrays without a copy; external data, and what is large in
the file itself, is memory-mapped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeout.errors import InvalidModel, UnsupportedOp
from tapeout.frontend.onnx_weights import light_model
from tapeout.ir.mapped import made_of
from tapeout.ir.types import DType, TensorType

if TYPE_CHECKING:
    import onnx
    from onnx import AttributeProto, TensorProto

Array = np.ndarray[Any, np.dtype[Any]]

# TensorProto.DataType as the standard numbers it (onnx.proto): importing this module does not import onnx.
DTYPES: dict[int, DType] = {
    1: DType.f32,
    2: DType.u8,
    3: DType.i8,
    4: DType.u16,
    5: DType.i16,
    6: DType.i32,
    7: DType.i64,
    9: DType.b1,
    10: DType.f16,
    11: DType.f64,
    12: DType.u32,
    13: DType.u64,
    16: DType.bf16,
    17: DType.f8e4m3,
    19: DType.f8e5m2,
}
NARROW: dict[int, DType] = {21: DType.u8, 22: DType.i8}
"""Four-bit weights are held in bytes."""
EXTERNAL = 1
"""TensorProto.DataLocation"""


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """A declared graph input: a dimension is a number, a symbol's name, or None when nothing is said."""

    name: str
    dtype: DType
    dims: tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One node; `reads` are its inputs and whatever its subgraphs read from outside."""

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    reads: frozenset[str]
    proto: Any = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class GraphView:
    """A graph or subgraph, or the body of a function (then `inputs` is empty and `parameters` names its inputs)."""

    name: str
    parameters: tuple[str, ...]
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    weights: Mapping[str, Callable[[], Array]]

    @property
    def free(self) -> frozenset[str]:
        """Names that it reads and does not define."""
        defined = {*self.parameters, *self.weights, *(o for n in self.nodes for o in n.outputs)}
        read = {*self.outputs, *(r for n in self.nodes for r in n.reads)}
        return frozenset(read - defined - {""})


@dataclass(frozen=True, slots=True, eq=False)
class ModelView:
    """A whole model; `where` is its file name for messages."""

    where: str
    graph: GraphView
    opsets: Mapping[str, int]
    functions: Mapping[tuple[str, str], Any]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the parts of one model: `folder` holds its external data (None when it came without a file)."""

    where: str
    folder: Path | None
    weights: Mapping[str, Array] = field(default_factory=dict[str, Array])
    """Contents of the graph's initializers that have none themselves."""

    # ---- tensors

    def tensor(self, t: TensorProto) -> Array:
        """Contents of a TensorProto, without a copy of stored bytes."""
        dims = tuple(t.dims)
        dtype = DTYPES.get(t.data_type)
        if t.data_location == EXTERNAL:
            return self._external(t, dims)
        if dtype is not None and t.HasField("raw_data"):
            raw = t.raw_data
            if len(raw) != math.prod(dims) * dtype.bytes:
                raise InvalidModel(
                    f"tensor '{t.name}' holds {len(raw)} bytes, not {dtype.value}{list(dims)}", self.where
                )
            return np.frombuffer(raw, dtype.numpy).reshape(dims)
        if dtype is None and t.data_type not in NARROW:
            raise self.unsupported_type(t.data_type, f"tensor '{t.name}'")
        from onnx import numpy_helper

        try:
            data = numpy_helper.to_array(t)
        except (ValueError, TypeError) as error:
            raise InvalidModel(f"tensor '{t.name}' cannot be read: {error}", self.where) from None
        return data.astype((dtype or NARROW[t.data_type]).numpy, copy=False)

    def weight(self, t: TensorProto) -> Array:
        """Contents of an initializer."""
        return self.weights[t.name] if t.name in self.weights else self.tensor(t)

    def _external(self, t: TensorProto, dims: tuple[int, ...]) -> Array:
        entries = {e.key: e.value for e in t.external_data}
        where = f"{self.where}: tensor '{t.name}'"
        dtype, narrow = DTYPES.get(t.data_type), NARROW.get(t.data_type)
        stored = dtype or narrow
        if stored is None:
            raise self.unsupported_type(t.data_type, f"tensor '{t.name}'")
        needed = -(-math.prod(dims) // 2) if narrow else math.prod(dims) * stored.bytes
        path = self._inside(entries.get("location", ""), where)
        try:
            offset, available = int(entries.get("offset", 0)), path.stat().st_size
            length = int(entries.get("length", needed))
        except (OSError, ValueError) as error:
            raise InvalidModel(f"external data '{path.name}': {error}", where) from None
        if length != needed:
            kind = f"{stored.value} of four bits " if narrow else stored.value
            raise InvalidModel(f"external data of {length} bytes is not {kind}{list(dims)}", where)
        if offset < 0 or offset + length > available:
            action = "copy the whole file again"
            raise InvalidModel(
                f"external data '{path.name}' has {available} bytes, {offset + length} needed", where, action
            )
        if not length:
            return np.zeros(dims, stored.numpy)
        data = np.memmap(path, np.uint8, "r", offset, (length,))
        if narrow:
            return _halves(data, narrow)[: math.prod(dims)].reshape(dims)
        return data.view(stored.numpy).reshape(dims)

    def _inside(self, location: str, where: str) -> Path:
        """The file at `location`, which may not leave the model's folder."""
        if self.folder is None:
            raise InvalidModel("external data, but the model has no folder", where, "import it by its path")
        path, folder = (self.folder / location).resolve(), self.folder.resolve()
        refused = not location or Path(location).is_absolute() or ".." in Path(location).parts
        if refused or not path.is_relative_to(folder):
            action = "put the file beside the model"
            raise InvalidModel(f"external data '{location}' lies outside the model's folder", where, action)
        if not path.is_file():
            raise InvalidModel(f"external data file '{location}' is missing", where, "copy it beside the model")
        return path

    def unsupported_type(self, kind: int, what: str) -> UnsupportedOp:
        from onnx import TensorProto

        name = TensorProto.DataType.Name(kind) if kind in TensorProto.DataType.values() else str(kind)
        return UnsupportedOp(
            f"{what} has element type {name}", self.where, "export with a numeric type of 8 bits or more"
        )

    # ---- graphs

    def attribute(self, a: AttributeProto) -> Any:
        """Value of an attribute as plain Python, an array or a `GraphView`."""
        match int(a.type):
            case 1:
                return a.f
            case 2:
                return a.i
            case 3:
                return a.s.decode("utf-8", "replace")
            case 4:
                return self.tensor(a.t)
            case 5:
                return self.graph(a.g)
            case 6:
                return tuple(a.floats)
            case 7:
                return tuple(a.ints)
            case 8:
                return tuple(s.decode("utf-8", "replace") for s in a.strings)
            case _:
                return None  # sparse tensors and types; a handler that needs one finds it missing

    def node(self, n: onnx.NodeProto, outer: Mapping[str, AttributeProto] | None) -> Node:
        """View of a node; `outer` gives the attributes of the function call that it stands in."""
        if any(a.ref_attr_name for a in n.attribute):
            n = _resolved(n, outer or {})
        attributes = {a.name: self.attribute(a) for a in n.attribute}
        inner = [v.free for v in attributes.values() if isinstance(v, GraphView)]
        domain = "" if n.domain == "ai.onnx" else n.domain
        reads = frozenset(n.input).union(*inner) - {""}
        return Node(n.op_type, domain, n.name, tuple(n.input), tuple(n.output), attributes, reads, n)

    def nodes(
        self, protos: Iterable[onnx.NodeProto], outer: Mapping[str, AttributeProto] | None = None
    ) -> tuple[Node, ...]:
        return tuple(self.node(n, outer) for n in protos)

    def graph(self, p: onnx.GraphProto) -> GraphView:
        """View of a graph or subgraph."""
        weights = {t.name: (lambda t=t: self.weight(t)) for t in p.initializer}
        if p.sparse_initializer:
            raise UnsupportedOp("sparse initializers", self.where, "store them dense")
        names = tuple(v.name for v in p.input if v.name not in weights)
        outputs = tuple(v.name for v in p.output)
        inputs = tuple(self.value_info(v) for v in p.input if v.name not in weights and v.HasField("type"))
        return GraphView(p.name, names, inputs, outputs, self.nodes(p.node), weights)

    def function(self, f: Any, call: onnx.NodeProto) -> GraphView:
        """Body of a FunctionProto under the attributes of its `call`, or the standard's defaults for them."""
        given = _defaults(call.op_type, call.domain) | {a.name: a for a in f.attribute_proto}
        given |= {a.name: a for a in call.attribute}
        return GraphView(f.name, tuple(f.input), (), tuple(f.output), self.nodes(f.node, given), {})

    def value_info(self, v: onnx.ValueInfoProto) -> ValueInfo:
        if not v.type.HasField("tensor_type"):
            raise UnsupportedOp(f"input '{v.name}' is not a tensor", self.where, "export it as plain tensors")
        t = v.type.tensor_type
        if t.elem_type not in DTYPES:
            raise self.unsupported_type(t.elem_type, f"input '{v.name}'")
        dims: list[int | str | None] = []
        for d in t.shape.dim:
            dims.append(d.dim_value if d.HasField("dim_value") else d.dim_param or None)
        return ValueInfo(v.name, DTYPES[t.elem_type], tuple(dims))


def _halves(data: Array, dtype: DType) -> Array:
    """Numbers of four bits, two in a byte, the lower half first, as one byte each."""

    def apart(rows: slice, pairs: Array) -> Array:
        low, high = (pairs[:, 0] << np.uint8(shift) for shift in (4, 0))
        return np.stack([low.view(dtype.numpy) >> 4, high.view(dtype.numpy) >> 4], axis=1)

    return made_of(np.broadcast_to(data[:, None], (len(data), 2)), dtype.numpy, apart).reshape(-1)


def _resolved(n: onnx.NodeProto, outer: Mapping[str, AttributeProto]) -> onnx.NodeProto:
    """`n` with its references to attributes of the function call replaced by their values."""
    out = type(n)()
    out.CopyFrom(n)
    del out.attribute[:]
    for a in n.attribute:
        if not a.ref_attr_name:
            out.attribute.append(a)
        elif a.ref_attr_name in outer:
            given = out.attribute.add()
            given.CopyFrom(outer[a.ref_attr_name])
            given.name = a.name
    return out


def read_model(
    source: str | Path | onnx.ModelProto, weights: Mapping[str, Array] | None = None
) -> tuple[ModelView, Reader]:
    """Parses a model file, or takes a model in memory, `weights` beside it; `InvalidModel` when it is none."""
    import onnx

    if isinstance(source, onnx.ModelProto):
        proto, reader = source, Reader(source.graph.name or "model", None, weights or {})
    else:
        path = Path(source)
        proto, reader = _parse(path), Reader(path.name, path.parent)
    if not proto.graph.output:
        raise InvalidModel("no ONNX graph in it", reader.where, "give the .onnx file of a model")
    opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in proto.opset_import}
    functions = {("" if f.domain == "ai.onnx" else f.domain, f.name): f for f in proto.functions}
    metadata = {e.key: e.value for e in proto.metadata_props}
    return ModelView(reader.where, reader.graph(proto.graph), opsets or {"": 1}, functions, metadata), reader


def _parse(path: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.ModelProto.FromString(light_model(path))
    except OSError as error:
        raise InvalidModel(error.strerror or "cannot be read", str(path), "check the path") from None
    except (DecodeError, ValueError) as error:
        raise InvalidModel(f"not a whole ONNX file ({error})", str(path), "export or copy it again") from None


def schema_function(node: Node, opset: int, types: Iterable[TensorType | None]) -> Any:
    """The FunctionProto by which the ONNX standard defines an op, or None where it is primitive."""
    import onnx

    try:
        schema: Any = onnx.defs.get_schema(node.op, opset, node.domain)
    except onnx.defs.SchemaError:
        return None
    if schema.has_function:
        return schema.function_body
    if not schema.has_context_dependent_function:
        return None
    return _context_function(schema, node, types)


def _defaults(op: str, domain: str) -> dict[str, AttributeProto]:
    import onnx

    if not onnx.defs.has(op, domain):
        return {}
    attributes = onnx.defs.get_schema(op, domain).attributes
    return {name: a.default_value for name, a in attributes.items() if a.default_value.name}


def _context_function(schema: Any, node: Node, types: Iterable[TensorType | None]) -> Any:
    import onnx

    kinds = {dtype: kind for kind, dtype in DTYPES.items()}
    encoded: list[bytes] = []
    for type_ in types:
        proto = onnx.TypeProto()
        if type_ is not None:
            proto.tensor_type.elem_type = kinds[type_.dtype]
            proto.tensor_type.shape.SetInParent()
            for d in type_.shape:
                dim = proto.tensor_type.shape.dim.add()
                if isinstance(d, int):
                    dim.dim_value = d
        encoded.append(proto.SerializeToString())
    body = schema.get_context_dependent_function(node.proto.SerializeToString(), encoded)
    function = onnx.FunctionProto()
    function.ParseFromString(body)
    return function if function.node else None
