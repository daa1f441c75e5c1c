"""RNN, GRU and LSTM as scans over time, one per direction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tapeout.frontend.onnx_ops.call import Call, Handler, table
from tapeout.ir import graph as g
from tapeout.ir.build import Builder
from tapeout.ir.types import DType, TensorType

Activation = Callable[[Builder, g.Value], g.Value]


def _activation(c: Call, kind: str, alpha: float | None, beta: float | None) -> Activation:
    match kind.lower():
        case "sigmoid":
            return lambda b, x: b.sigmoid(x)
        case "tanh":
            return lambda b, x: b.unary("tanh", x)
        case "relu":
            return lambda b, x: b.relu(x)
        case "affine":
            return lambda b, x: b.binary_scalar("add", b.binary_scalar("mul", x, alpha or 1.0), beta or 0.0)
        case "hardsigmoid":
            slope, offset = 0.2 if alpha is None else alpha, 0.5 if beta is None else beta
            return lambda b, x: b.clamp(b.binary_scalar("add", b.binary_scalar("mul", x, slope), offset), 0, 1)
        case "softsign":
            return lambda b, x: b.div(x, b.binary_scalar("add", b.unary("abs", x), 1))
        case _:
            raise c.unsupported(f"with the activation {kind}", "use Sigmoid, Tanh, Relu, Affine or HardSigmoid")


@dataclass(frozen=True, slots=True)
class _Direction:
    """Weights of one direction: gates of x are computed for all times at once, gates of h in the scan."""

    b: Builder
    x_gates: g.Value
    """[time, batch, gates * hidden] with every bias that does not depend on h."""
    r: g.Value
    """[gates * hidden, hidden]."""
    r_bias: g.Value | None
    """[gates * hidden], kept apart for the GRU, whose reset gate multiplies it."""
    peephole: g.Value | None
    activations: Sequence[Activation]
    hidden: int
    clip: float


Step = Callable[[Builder, _Direction, g.Value, list[g.Value], g.Value, list[g.Value]], list[g.Value]]
"""step(b, direction, x gates, [h, (c)], r, extras) -> next [h, (c)]."""


def _clipped(b: Builder, d: _Direction, x: g.Value) -> g.Value:
    return b.clamp(x, -d.clip, d.clip) if d.clip else x


def _gates(b: Builder, x: g.Value, count: int) -> list[g.Value]:
    size = x.type.with_shape(x.type.shape[-1:]).elements // count
    return list(b.split(x, x.type.rank - 1, [size] * count))


def _rnn_step(
    b: Builder, d: _Direction, x: g.Value, state: list[g.Value], r: g.Value, extras: list[g.Value]
) -> list[g.Value]:
    total = b.add(b.add(x, b.dot(state[0], r, ((1,), (1,)))), extras[0])
    return [d.activations[0](b, _clipped(b, d, total))]


def _lstm_step(
    b: Builder, d: _Direction, x: g.Value, state: list[g.Value], r: g.Value, extras: list[g.Value]
) -> list[g.Value]:
    """Gates i, o, f, c; peepholes i, o, f look at the cell."""
    h, cell = state
    total = b.add(b.add(x, b.dot(h, r, ((1,), (1,)))), extras[0])
    i, o, f, new = _gates(b, total, 4)
    gate, cell_in, cell_out = d.activations
    peep = b.split(extras[1], 0, [d.hidden] * 3) if len(extras) > 1 else None
    if peep:
        i, f = b.add(i, b.mul(cell, peep[0])), b.add(f, b.mul(cell, peep[2]))
    i, f = gate(b, _clipped(b, d, i)), gate(b, _clipped(b, d, f))
    cell = b.add(b.mul(f, cell), b.mul(i, cell_in(b, _clipped(b, d, new))))
    o = gate(b, _clipped(b, d, b.add(o, b.mul(cell, peep[1])) if peep else o))
    return [b.mul(o, cell_out(b, cell)), cell]


def _gru_step(linear_before_reset: bool) -> Step:
    def step(
        b: Builder, d: _Direction, x: g.Value, state: list[g.Value], r: g.Value, extras: list[g.Value]
    ) -> list[g.Value]:
        """Gates z, r, h."""
        (h,), bias = state, b.split(extras[0], 0, [d.hidden] * 3)
        xz, xr, xh = _gates(b, x, 3)
        rz, rr, rh = b.split(r, 0, [d.hidden] * 3)
        gate, out = d.activations

        def from_h(value: g.Value, weight: g.Value, i: int) -> g.Value:
            return b.add(b.dot(value, weight, ((1,), (1,))), bias[i])

        z = gate(b, _clipped(b, d, b.add(xz, from_h(h, rz, 0))))
        reset = gate(b, _clipped(b, d, b.add(xr, from_h(h, rr, 1))))
        past = b.mul(reset, from_h(h, rh, 2)) if linear_before_reset else from_h(b.mul(reset, h), rh, 2)
        new = out(b, _clipped(b, d, b.add(xh, past)))
        return [b.add(b.mul(b.binary_scalar("add", b.unary("neg", z), 1), new), b.mul(z, h))]

    return step


def recurrent(gates: int, states: int, defaults: Sequence[str]) -> Handler:
    """Handler for operands X, W, R, B, sequence_lens, initial_h, (initial_c, P)."""

    def handler(c: Call) -> Sequence[g.Value]:
        step = {1: _rnn_step, 3: _gru_step(c.flag("linear_before_reset")), 4: _lstm_step}[gates]
        if c.flag("input_forget"):
            raise c.unsupported("with coupled input and forget gates", "export it without input_forget")
        x = c.x(0)
        if c.flag("layout"):
            x = c.b.transpose(x, (1, 0, 2))
        count = 2 if c.attr_text("direction", "forward") == "bidirectional" else 1
        runs = [_run(c, x, i, count, gates, states, defaults, step) for i in range(count)]
        ys = c.b.concat([c.b.reshape(y, [y.type.shape[0], 1, *y.type.shape[1:]]) for y, _ in runs], 1)
        finals = [
            c.b.concat([c.b.reshape(last[i], (1, *last[i].type.shape)) for _, last in runs], 0) for i in range(states)
        ]
        if c.flag("layout"):
            return [c.b.transpose(ys, (2, 0, 1, 3)), *(c.b.transpose(f, (1, 0, 2)) for f in finals)]
        return [ys, *finals]

    return handler


def _run(
    c: Call, x: g.Value, i: int, count: int, gates: int, states: int, defaults: Sequence[str], step: Step
) -> tuple[g.Value, list[g.Value]]:
    """All outputs [time, batch, hidden] and the last states of direction i."""
    d = _direction(c, x, i, count, gates, defaults)
    time, batch = x.type.with_shape(x.type.shape[:1]).elements, x.type.shape[1]
    backward = i == 1 or c.attr_text("direction", "forward") == "reverse"
    zero = c.b.full(0, TensorType(x.type.dtype, (batch, d.hidden)))
    carries = [_initial(c, 5 + k, i, zero) for k in range(states)]
    extras = [d.r_bias or c.b.full(0, TensorType(x.type.dtype, (gates * d.hidden,)))]
    extras += [d.peephole] if d.peephole is not None else []
    xs = [d.x_gates]
    if c.has(4):  # rows whose sequence has ended keep their state
        order = c.b.iota(TensorType(DType.i64, (time, batch)), 0)
        xs.append(c.b.compare("lt", order, c.b.convert(c.x(4), DType.i64)))
    given = [*carries, d.r, *extras]

    def body(b: Builder, *params: g.Value) -> tuple[g.Value, ...]:
        old, r, more = list(params[:states]), params[states], list(params[states + 1 : len(given)])
        new = step(b, d, params[len(given)], old, r, more)
        y = new[0]
        if len(xs) > 1:
            alive = b.reshape(params[-1], (batch, 1))
            new = [b.select(alive, n, o) for n, o in zip(new, old, strict=True)]
            y = b.select(alive, y, b.full(0, y.type))
        return (*new, r, *more, y)

    types = [v.type for v in given] + [v.type.with_shape(v.type.shape[1:]) for v in xs]
    region = c.b.region(types, body)
    outs = c.b.emit(g.Scan(tuple(given), tuple(xs), region, time, backward))
    return outs[-1], list(outs[:states])


def _row(c: Call, operand: int, i: int) -> g.Value:
    """Part i of an operand whose first dimension is the direction."""
    x = c.x(operand)
    return c.b.reshape(c.b.slice_axis(x, 0, i, i + 1), x.type.shape[1:])


def _initial(c: Call, operand: int, i: int, zero: g.Value) -> g.Value:
    if not c.has(operand):
        return zero
    x = c.x(operand)
    axis = 1 if c.flag("layout") else 0
    return c.b.reshape(c.b.slice_axis(x, axis, i, i + 1), zero.type.shape)


def _direction(c: Call, x: g.Value, i: int, count: int, gates: int, defaults: Sequence[str]) -> _Direction:
    w, r = _row(c, 1, i), _row(c, 2, i)
    hidden = r.type.static_shape[1]
    x_gates = c.b.dot(x, w, ((2,), (1,)))
    r_bias = None
    if c.has(3):
        w_bias, r_bias = c.b.split(_row(c, 3, i), 0, [gates * hidden] * 2)
        x_gates = c.b.add(x_gates, w_bias)
    kinds = c.node.attributes.get("activations") or [*defaults] * count
    alphas, betas = (list(c.node.attributes.get(f"activation_{n}") or []) for n in ("alpha", "beta"))
    each = len(defaults)
    chosen = [
        _activation(c, kinds[k], alphas[k] if k < len(alphas) else None, betas[k] if k < len(betas) else None)
        for k in range(i * each, (i + 1) * each)
    ]
    peephole = _row(c, 7, i) if c.has(7) else None
    return _Direction(c.b, x_gates, r, r_bias, peephole, chosen, hidden, c.attr_float("clip", 0.0))


OPS: Mapping[tuple[str, str], Handler] = table(
    RNN=recurrent(1, 1, ("Tanh",)),
    GRU=recurrent(3, 1, ("Sigmoid", "Tanh")),
    LSTM=recurrent(4, 2, ("Sigmoid", "Tanh", "Tanh")),
)
