"""DLRM (Naumov et al. 2019, arXiv:1906.00091): ranks by dense features and by rows of large tables. Seeded."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tapeout.errors import UserError
from tapeout.models.blocks import INT, Blocks

if TYPE_CHECKING:
    from tapeout.models.writer import Built

CRITEO = (
    1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194,
    27, 14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572,
)  # fmt: skip
"""Categories of the 26 sparse features of the Criteo Kaggle data."""


@dataclass(frozen=True, slots=True)
class DlrmConfig:
    """Options of `build("dlrm")`; the defaults are those for the Criteo Kaggle data: 540.7 M parameters, nearly all of
    them rows of tables; a batch is the candidates of one question. `hots` is how many rows of each table are summed."""

    batch: int = 128
    precision: str = "fp32"
    dense: int = 13
    rows: tuple[int, ...] = CRITEO
    hots: int = 1
    bottom: tuple[int, ...] = (512, 256, 64, 16)
    top: tuple[int, ...] = (512, 256, 1)
    seed: int = 0


class _Blocks(Blocks):
    def layers(self, name: str, x: str, widths: tuple[int, ...], last: str) -> str:
        """Linear layers with relu between them and `last` behind; `widths` begins with that of x."""
        for i, (fan_in, fan_out) in enumerate(pairwise(widths)):
            gain = (2 / fan_in) ** 0.5
            y = self.dense(f"{name}.{i}", x, fan_in, fan_out, gain)
            x = self.node(f"{name}.{i}.act", "Relu" if i + 2 < len(widths) else last, y)
        return x


def build_dlrm(config: DlrmConfig, drawn: bool = True) -> Built:
    """`dense [batch, dense]` and `sparse_i i64[batch, hots]` for each table -> `click [batch, 1]`, a probability."""
    c = config
    if not c.rows or not c.bottom or not c.top:
        raise UserError("no rows, bottom or top layers", "model dlrm", "give each at least one number")
    b, width = _Blocks("dlrm", c, drawn), c.bottom[-1]
    dense = b.out.input("dense", b.dtype, (c.batch, c.dense))
    dense = b.layers("bottom", dense, (c.dense, *c.bottom), "Relu")
    vectors = [dense]
    for i, rows in enumerate(c.rows):
        ids = b.out.input(f"sparse_{i}", INT, (c.batch, c.hots))
        found = b.embedding(f"table.{i}", ids, rows, width, spread=1 / (c.hots * width) ** 0.5)
        vectors.append(b.node(f"table.{i}.sum", "ReduceSum", found, b.out.ints(1), keepdims=0))
    count = len(vectors)
    stacked = b.reshape("stacked", b.node("joined", "Concat", *vectors, axis=1), c.batch, count, width)
    turned = b.node("turned", "Transpose", stacked, perm=[0, 2, 1])
    products = b.reshape("products_flat", b.node("products", "MatMul", stacked, turned), c.batch, count * count)
    rows, columns = np.tril_indices(count, -1)
    pairs = b.node("pairs", "Gather", products, b.out.constant((rows * count + columns).astype(INT)), axis=1)
    features = b.node("features", "Concat", dense, pairs, axis=1)
    click = b.layers("top", features, (width + len(rows), *c.top), "Sigmoid")
    b.output("click", click, (c.batch, c.top[-1]))
    return b.finish()
