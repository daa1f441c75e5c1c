"""PyTorch front end: an `nn.Module`, an `ExportedProgram` or a saved `.pt2` becomes a graph.

`torch.export` traces the module, PyTorch's own decompositions reduce it to operations that `torch_ops` has a handler
for, and one walk over the result builds the graph. Nothing of PyTorch is left in it.
"""

from __future__ import annotations

import importlib
import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from tapeout.errors import InvalidModel, TapeoutError, UnsupportedOp, UserError
from tapeout.frontend.torch_ops import TABLES
from tapeout.frontend.torch_ops.lowering import DTYPES, Lowering, numpy_to_tensor, tensor_to_numpy
from tapeout.ir import graph as g
from tapeout.ir.build import Builder
from tapeout.ir.types import Dim, DimExpr, TensorType, dim_add, dim_scale, symbol

UNBOUNDED = 2**31 - 1
"""Upper bound of a dimension for which the program gives none."""

_SETTINGS = ("device", "layout", "pin_memory", "memory_format", "non_blocking", "generator", "requires_grad")


@dataclass(frozen=True, slots=True)
class Result:
    """An output of the graph as part of the module's result: a tensor, or a Python number made of it."""

    output: str
    is_number: bool


@dataclass(frozen=True, slots=True, eq=False)
class TorchProgram:
    """A graph and how PyTorch's nested arguments and results map to its inputs and outputs.

    Tensors that the program writes in place are outputs of the graph too: `written` names them by input.
    """

    graph: g.Graph
    in_spec: Any
    out_spec: Any
    leaves: tuple[str | None, ...]
    """For each leaf of the arguments the graph input it is, or nothing where the program has it as a constant."""
    results: tuple[Any, ...]
    """For each leaf of the result a `Result`, or the constant itself."""
    written: Mapping[str, str]
    """Name of the output that holds what the program leaves in an input."""

    def pack(self, *args: Any, **kwargs: Any) -> dict[str, np.ndarray]:
        """The graph's inputs from the arguments of the module."""
        pytree = torch_module("torch.utils._pytree")
        order: list[str] = self.in_spec.child(1).context if kwargs else []
        named = {name: kwargs[name] for name in order if name in kwargs}
        return self.pack_leaves(pytree.tree_leaves((args, named)))

    def pack_leaves(self, leaves: Sequence[Any]) -> dict[str, np.ndarray]:
        """The graph's inputs from the flattened arguments of the module."""
        if len(leaves) != len(self.leaves):
            names = ", ".join(name for name in self.leaves if name)
            raise UserError(
                f"{len(leaves)} arguments are given", self.graph.name, f"give {len(self.leaves)} of them: {names}"
            )
        return {n: _array(v) for n, v in zip(self.leaves, leaves, strict=True) if n is not None}

    def tensor(self, array: np.ndarray) -> Any:
        """An output as a torch tensor."""
        return numpy_to_tensor(array)

    def unpack(self, outputs: Mapping[str, np.ndarray]) -> Any:
        """The module's result, with torch tensors, from the graph's outputs."""
        pytree = torch_module("torch.utils._pytree")
        leaves: list[Any] = []
        for result in self.results:
            if isinstance(result, Result):
                array = outputs[result.output]
                leaves.append(array.item() if result.is_number else numpy_to_tensor(array))
            else:
                leaves.append(result)
        return pytree.tree_unflatten(leaves, self.out_spec)


def import_torch(
    model: Any,
    example_inputs: Sequence[Any] | None = None,
    dynamic_shapes: Any = None,
    name: str | None = None,
    constants: Mapping[int, Any] | None = None,
) -> TorchProgram:
    """Imports a module, an exported program or the path of a `.pt2` file.

    `example_inputs` are the positional arguments to trace a module with and `dynamic_shapes` is what `torch.export`
    takes; both are for modules only. `constants` fixes flattened arguments that the program does not write, by
    position, to tensors. Parameters share the memory of the model. Raises `UserError` without PyTorch, `InvalidModel`
    for what cannot be read or traced and `UnsupportedOp` for what the graph IR cannot express.
    """
    torch = torch_module("torch")
    title = name or (model.__class__.__name__ if isinstance(model, torch.nn.Module) else "torch")
    names: Mapping[str, str] = {}
    if isinstance(model, str | os.PathLike):
        title = name or os.path.splitext(os.path.basename(os.fspath(cast("os.PathLike[str]", model))))[0]
        model = _load(torch, os.fspath(cast("os.PathLike[str]", model)))
    elif isinstance(model, torch.nn.Module):
        example_inputs = (example_inputs,) if isinstance(example_inputs, torch.Tensor) else example_inputs
        model = _export(torch, model, title, example_inputs, dynamic_shapes)
        names = _dim_names(model, example_inputs or (), dynamic_shapes)
    elif not isinstance(model, torch.export.ExportedProgram):
        what = f"{type(model).__name__} is no PyTorch model"
        raise InvalidModel(what, title, "give an nn.Module, an ExportedProgram or the path of a .pt2 file")
    return _Importer(torch, _decompose(model, title), title, names, constants or {}).program()


# ---- PyTorch's side


def torch_module(module: str) -> Any:
    """A module of PyTorch, imported when it is needed; `UserError` where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        what = "PyTorch is not installed"
        raise UserError(what, "the PyTorch front end", "run pip install tapeout[torch]") from error


def _load(torch: Any, path: str) -> Any:
    if not os.path.exists(path):
        raise InvalidModel("no such file", path, "give the path of a file that torch.export.save wrote")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(path)
    except Exception as error:
        what = f"not a readable .pt2 file ({_first_line(error)})"
        raise InvalidModel(what, path, "write it with torch.export.save") from error


def _export(torch: Any, module: Any, title: str, example_inputs: Any, dynamic_shapes: Any) -> Any:
    if example_inputs is None:
        raise UserError("a module is traced with inputs and none are given", title, "pass example_inputs")
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(module, tuple(example_inputs), dynamic_shapes=dynamic_shapes)
    except Exception as error:
        what = f"torch.export cannot trace it ({_first_line(error)})"
        raise InvalidModel(what, title, "make torch.export.export(model, example_inputs) work first") from error


def _decompose(program: Any, title: str) -> Any:
    """The program in terms of operations that have a handler, as far as PyTorch can decompose the others."""
    export, decompositions = torch_module("torch.export"), torch_module("torch._decomp")
    aten = TABLES["aten"]
    table = export.default_decompositions()
    for op in list(table):
        if _handler(op) is not None:
            del table[op]
    for op, function in decompositions.decomposition_table.items():
        name = _name_of(op)
        if name.startswith("aten.") and name.split(".")[1] not in aten and op not in table:
            table[op] = function
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return program.run_decompositions(table)
    except Exception as error:
        what = f"PyTorch cannot decompose it ({_first_line(error)})"
        raise InvalidModel(what, title, "export it again with the installed PyTorch") from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def _dim_names(program: Any, example_inputs: Sequence[Any], dynamic_shapes: Any) -> dict[str, str]:
    """The user's names of symbols: `Dim("batch")` at a dimension that the program calls `s77`."""
    if not dynamic_shapes:
        return {}
    specs = _items(dynamic_shapes)
    asked: list[Any] = []
    for spec, value in zip(specs, example_inputs, strict=False):
        asked += _leaf_specs(spec, value)
    user = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in program.graph_signature.user_inputs]
    found: dict[str, str] = {}
    for node, spec in zip(user, asked, strict=False):
        for axis, dim in _by_axis(spec).items():
            given = getattr(dim, "__name__", "")
            held = str(node.meta["val"].shape[axis]) if given and hasattr(node.meta["val"], "shape") else ""
            if held.isidentifier() and given.isidentifier():
                found.setdefault(held, given)
    return found if len(set(found.values())) == len(found) else {}


def _leaf_specs(spec: Any, value: Any) -> list[Any]:
    """One shape specification for each tensor inside an argument."""
    if not isinstance(value, Mapping | list | tuple):
        return [spec]
    items = _items(value)
    given = _items(spec) or [None] * len(items)
    return [leaf for s, item in zip(given, items, strict=False) for leaf in _leaf_specs(s, item)]


def _items(container: Any) -> list[Any]:
    """The values of a dictionary or list; nothing for anything else."""
    if isinstance(container, Mapping):
        return list(cast("Mapping[Any, Any]", container).values())
    return list(cast("Iterable[Any]", container)) if isinstance(container, list | tuple) else []


def _by_axis(spec: Any) -> Mapping[int, Any]:
    """The shape specification of one tensor, which may be a list, as a dictionary by axis."""
    return cast("Mapping[int, Any]", spec) if isinstance(spec, Mapping) else dict(enumerate(_items(spec)))


def _array(value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return np.asarray(cast("Any", value))
    if isinstance(value, bool | int | float):
        return np.asarray(value, np.float32 if isinstance(value, float) else None)
    return tensor_to_numpy(value)


# ---- the walk


class _RuntimeExtent(ValueError):
    """A size that is not an affine expression of the graph's symbols."""


class _Importer:
    """One import: walks the decomposed program and builds the graph."""

    def __init__(
        self, torch: Any, program: Any, title: str, names: Mapping[str, str], constants: Mapping[int, Any]
    ) -> None:
        self.torch = torch
        self.ep = program
        self.names = names
        self.fixed = constants
        self.b = Builder(title)
        self.symbols: dict[str, str] = {}
        self.shared: dict[Any, g.Value] = {}
        self.leaves: list[str | None] = []

    def program(self) -> TorchProgram:
        self._declare_symbols()
        lowering = Lowering(self.b, self._run_submodule)
        env = self._placeholders()
        flat = self._walk(lowering, self.ep.graph_module, env)
        results, written = self._outputs(lowering, flat)
        spec = self.ep.call_spec
        graph = g.drop_dead(self.b.finish())
        return TorchProgram(graph, spec.in_spec, spec.out_spec, tuple(self.leaves), tuple(results), written)

    # ---- symbols and types

    def _declare_symbols(self) -> None:
        """Symbols are those that shapes of inputs decide; all other unknown sizes are values."""
        for node in self.ep.graph.nodes:
            value = node.meta.get("val")
            if node.op == "placeholder" and isinstance(value, self.torch.Tensor):
                for extent in value.shape:
                    if not isinstance(extent, int):
                        self._declare(extent.node.expr)

    def _declare(self, expression: Any) -> None:
        for free in sorted(expression.free_symbols, key=str):
            if free.name in self.symbols:
                continue
            bounds = self.ep.range_constraints.get(free)
            lo, hi = (_bound(bounds.lower, 0), _bound(bounds.upper, UNBOUNDED)) if bounds else (0, UNBOUNDED)
            self.symbols[free.name] = self.names.get(free.name, free.name)
            self.b.symbol(self.symbols[free.name], lo, hi)

    def dim(self, extent: Any) -> Dim:
        """A size of PyTorch as a dimension; `_RuntimeExtent` when it is none."""
        if isinstance(extent, int):
            return extent
        total: Dim = 0
        for term, coefficient in extent.node.expr.expand().as_coefficients_dict().items():
            if not coefficient.is_Integer or not (term == 1 or term.is_Symbol):
                raise _RuntimeExtent(f"the size {extent} is no affine expression of input sizes")
            if term != 1 and term.name not in self.symbols:
                raise _RuntimeExtent(f"the size {extent} is known only when the model runs")
            one: Dim = 1 if term == 1 else symbol(self.symbols[term.name])
            total = dim_add(total, dim_scale(one, int(coefficient)))
        return total

    def type_of(self, value: Any) -> Any:
        """The IR type of a fake tensor, of each in a tuple; nothing for what is no tensor."""
        if isinstance(value, list | tuple):
            return tuple(self.type_of(v) for v in cast("Iterable[Any]", value))
        if not isinstance(value, self.torch.Tensor):
            return None
        dtype = DTYPES.get(str(value.dtype))
        if dtype is None:
            raise _RuntimeExtent(f"tensors of {value.dtype} have no counterpart")
        return TensorType(dtype, tuple(self.dim(d) for d in value.shape))

    # ---- inputs

    def _placeholders(self) -> list[Any]:
        """What stands for each placeholder of the program, in order."""
        nodes = [n for n in self.ep.graph.nodes if n.op == "placeholder"]
        signature = self.ep.graph_signature
        mutated = set(signature.buffers_to_mutate.values())
        held: list[Any] = []
        for node, spec in zip(nodes, signature.input_specs, strict=True):
            kind = spec.kind.name
            if kind == "USER_INPUT":
                held.append(self._user_input(node, spec))
            elif kind in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
                tensor = self._stored(spec.target)
                if spec.target in mutated:
                    held.append(self.b.state(spec.target, np.array(tensor_to_numpy(tensor))))
                else:
                    held.append(self._constant(tensor, spec.target) if node.users else None)
            else:
                raise UnsupportedOp(f"input of kind {kind}", node.name, "pass tensors only")
        return held

    def _stored(self, target: str) -> Any:
        return self.ep.constants[target] if target in self.ep.constants else self.ep.state_dict[target]

    def _user_input(self, node: Any, spec: Any) -> Any:
        value = node.meta.get("val")
        position = len(self.leaves)
        if isinstance(value, self.torch.Tensor):
            written = self.ep.graph_signature.user_inputs_to_mutate.values()
            if position in self.fixed and node.name not in written:
                self.leaves.append(None)
                return self._constant(self.fixed[position], node.name)
            self.leaves.append(node.name)
            return self.b.input(node.name, self._typed(node))
        if isinstance(value, self.torch.SymInt):
            try:
                found = self.dim(value)
                self.leaves.append(None)
                return found
            except _RuntimeExtent:
                self.leaves.append(node.name)
                return self.b.input(node.name, TensorType(DTYPES["torch.int64"], ()))
        self.leaves.append(None)
        return getattr(spec.arg, "value", value)

    def _constant(self, tensor: Any, name: str) -> g.Value:
        """The same memory, seen the same way, is one constant."""
        if str(tensor.dtype) not in DTYPES or tensor.layout != self.torch.strided:
            what = f"a tensor of {tensor.dtype} ({tensor.layout})"
            raise UnsupportedOp(what, name, "convert it to a dense real tensor first")
        key = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()))
        if key not in self.shared or not tensor.numel():
            self.shared[key] = self.b.constant(tensor_to_numpy(tensor), name)
        return self.shared[key]

    # ---- operations

    def _walk(self, t: Lowering, module: Any, held: Sequence[Any]) -> list[Any]:
        """Imports the nodes of one graph module; its flat results."""
        env: dict[Any, Any] = {}
        given = iter(held)
        for node in module.graph.nodes:
            if node.op == "placeholder":
                env[node] = next(given)
            elif node.op == "get_attr":
                env[node] = self._attribute(t, module, node)
            elif node.op == "output":
                return [self._argument(env, a) for a in _flat(node.args[0])]
            else:
                env[node] = self._call(t, env, node)
        raise InvalidModel("the program returns nothing", self.b.name, "export it again")

    def _run_submodule(self, builder: Builder, module: Any, operands: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(self._walk(Lowering(builder, self._run_submodule), module, operands))

    def _attribute(self, t: Lowering, module: Any, node: Any) -> Any:
        found = module
        for part in node.target.split("."):
            found = getattr(found, part)
        if not isinstance(found, self.torch.Tensor):
            return found
        return t.b.constant(tensor_to_numpy(found), node.target)

    def _call(self, t: Lowering, env: Mapping[Any, Any], node: Any) -> Any:
        value = node.meta.get("val")
        if _name_of(node.target) == "python.getitem":
            return self._argument(env, node.args[0])[node.args[1]]
        if isinstance(value, bool | int | float):
            return value
        if isinstance(value, self.torch.SymInt):
            try:
                return self.dim(value)
            except _RuntimeExtent:
                pass
        t.where, t.b.source = _where(node), _source(node)
        handler = _handler(node.target)
        if handler is None:
            if isinstance(value, self.torch.SymBool):
                return None  # for assertions only
            action = "express it with other operations, or add a handler to tapeout.frontend.torch_ops"
            raise UnsupportedOp(f"operation {_name_of(node.target)} is not supported", t.where, action)
        args = [self._argument(env, a) for a in node.args]
        kwargs = {k: self._argument(env, a) for k, a in node.kwargs.items() if k not in _SETTINGS}
        t.used = frozenset(u.args[1] for u in node.users if _name_of(u.target) == "python.getitem")
        try:
            t.out = self.type_of(value)
            return handler(t, *args, **kwargs)
        except UserError:
            raise
        except (TapeoutError, ValueError) as error:
            what = f"operation {_name_of(node.target)} cannot be expressed ({_first_line(error)})"
            raise UnsupportedOp(what, t.where, "fix the sizes concerned, or rewrite this part") from error

    def _argument(self, env: Mapping[Any, Any], argument: Any) -> Any:
        """An argument of a node with nodes, dtypes and lists resolved."""
        if isinstance(argument, self.torch.fx.Node):
            return env[argument]
        if isinstance(argument, list | tuple):
            return [self._argument(env, a) for a in cast("Iterable[Any]", argument)]
        if isinstance(argument, self.torch.dtype):
            return DTYPES.get(str(argument))
        if isinstance(argument, self.torch.SymInt):
            return self.dim(argument)
        return argument

    def _typed(self, node: Any) -> TensorType:
        try:
            return self.type_of(node.meta["val"])
        except _RuntimeExtent as error:
            raise UnsupportedOp(str(error), node.name, "use another dtype or shape for this input") from error

    # ---- outputs

    def _outputs(self, t: Lowering, flat: Sequence[Any]) -> tuple[list[Any], dict[str, str]]:
        """Declares outputs and states; what each leaf of the result is."""
        results: list[Any] = []
        written: dict[str, str] = {}
        for value, spec in zip(flat, self.ep.graph_signature.output_specs, strict=True):
            kind = spec.kind.name
            if kind == "BUFFER_MUTATION":
                self.b.set_state(spec.target, value)
            elif kind == "USER_INPUT_MUTATION":
                written[spec.target] = f"{spec.target}.written"
                self.b.output(written[spec.target], value)
            elif kind == "USER_OUTPUT":
                is_number = not self._is_tensor_output(spec)
                results.append(self._result(t, value, Result(f"output{len(results)}", is_number)))
            else:
                raise UnsupportedOp(f"output of kind {kind}", self.b.name, "export the model for inference")
        return results, written

    def _is_tensor_output(self, spec: Any) -> bool:
        return type(spec.arg).__name__ == "TensorArgument"

    def _result(self, t: Lowering, value: Any, result: Result) -> Any:
        if isinstance(value, DimExpr):
            value = t.extent(value)
        if not isinstance(value, g.Value):
            return value
        self.b.output(result.output, value)
        return result


def _bound(value: Any, default: int) -> int:
    """A bound of PyTorch, which may be infinite, within what we plan for."""
    number = float(value)
    return default if math.isinf(number) else min(int(value), UNBOUNDED)


def _flat(value: Any) -> list[Any]:
    return _items(value) if isinstance(value, list | tuple) else [value]


def _name_of(target: Any) -> str:
    """`aten.add.Tensor`, `higher_order.cond`, `python.mul`."""
    if hasattr(target, "_schema"):
        return f"{target.namespace}.{target._schema.name.split('::')[1]}.{target._overloadname}"
    if hasattr(target, "_ops") or hasattr(target, "py_kernels") or type(target).__name__.endswith("Op"):
        return f"higher_order.{getattr(target, '__name__', target)}"
    return f"python.{getattr(target, '__name__', target)}"


def _handler(target: Any) -> Any:
    namespace, _, name = _name_of(target).partition(".")
    table = TABLES.get(namespace, {})
    if name.endswith(("out", "_out")):
        return None
    return table.get(name) or table.get(name.split(".")[0])


def _path(node: Any) -> str:
    """The submodule that a node came from, as `named_modules` spells it."""
    stack = [v for v in _items(node.meta.get("nn_module_stack")) if not str(v[0]).startswith("_empty")]
    return str(stack[-1][0]) if stack else ""


def _source(node: Any) -> str:
    path = _path(node)
    return f"{path}/{node.name}" if path else str(node.name)


def _where(node: Any) -> str:
    """`node (submodule, file:line)` of the last line outside PyTorch."""
    places = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines() if "File " in line]
    own = [p for p in places if f"{os.sep}torch{os.sep}" not in p] or places
    line = ""
    if own:
        file, _, rest = own[-1].removeprefix("File ").partition(", line ")
        line = f"{file.strip(chr(34))}:{rest.split(',')[0]}"
    told = ", ".join(part for part in (_path(node), line) if part)
    return f"{node.name} ({told})" if told else str(node.name)
