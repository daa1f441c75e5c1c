"""The graph IR: types, ops, builder, verifier, text form and executable meaning."""

from tapeout.ir.bind import bind_graph, infer_binding
from tapeout.ir.build import Builder
from tapeout.ir.graph import Graph, Op, Region, State, Value
from tapeout.ir.infer import infer
from tapeout.ir.interp import Result, interpret
from tapeout.ir.text import constants, functions, parse_graph, print_graph, structurally_equal
from tapeout.ir.types import DimExpr, DType, Symbol, TensorType, symbol
from tapeout.ir.verify import verify

__all__ = [
    "Builder",
    "DType",
    "DimExpr",
    "Graph",
    "Op",
    "Region",
    "Result",
    "State",
    "Symbol",
    "TensorType",
    "Value",
    "bind_graph",
    "constants",
    "functions",
    "infer",
    "infer_binding",
    "interpret",
    "parse_graph",
    "print_graph",
    "structurally_equal",
    "symbol",
    "verify",
]
