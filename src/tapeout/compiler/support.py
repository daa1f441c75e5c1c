"""What no unit of any chip computes is refused with one line: a silent rounding or a wrong sign would be worse.

The vector unit computes in f32, i32 and i64. So f64 is only moved, and of u64 only what does not depend on the sign.
"""

from __future__ import annotations

from tapeout.compiler.views import VIEWS
from tapeout.errors import UnsupportedOp
from tapeout.ir import graph as g
from tapeout.ir.types import DType

_SIGNED = frozenset("abs sign div rem pow max min lt le gt ge".split())
"""Functions whose result depends on what the highest bit means."""


def _moves_only(op: g.Op) -> bool:
    return isinstance(op, (*VIEWS, g.Constant, g.Concat, g.Gather)) or (
        isinstance(op, g.Scatter) and op.fn in ("set", "add")
    )


def _depends_on_sign(op: g.Op) -> bool:
    match op:
        case g.Unary() | g.Binary() | g.Compare() | g.Reduce() | g.Cumulate() | g.Pool():
            return op.fn in _SIGNED
        case g.Convert():
            return op.dtype.is_float or op.x.type.dtype.is_float
        case g.ArgReduce() | g.Sort():
            return True
        case _:
            return False


def check_control(graph: g.Graph) -> None:
    """Raises `UnsupportedOp` for control flow that is left once scans are written out: a program has none whose body is
    part of a graph."""
    for op in graph.ops:
        if g.regions(op):
            what = f"{type(op).__name__} has no lowering yet"
            action = "only loops of a known and not very large number of turns are compiled"
            raise UnsupportedOp(what, op.source, action)


def check_supported(graph: g.Graph) -> None:
    """Raises `UnsupportedOp` for the first op of the graph that no unit can compute exactly enough."""
    for op in graph.ops:
        types = {v.type.dtype for v in (*g.operands(op), *op.outs)}
        if DType.f64 in types and not _moves_only(op):
            action = "convert the model to f32: chips move f64 but do not compute it"
            raise UnsupportedOp(f"{type(op).__name__} of f64", op.source, action)
        if DType.u64 in types and _depends_on_sign(op):
            raise UnsupportedOp(f"{type(op).__name__} of u64", op.source, "use i64: this depends on the highest bit")
