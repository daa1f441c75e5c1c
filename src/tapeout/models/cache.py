"""The key-value cache that language models keep as state: `past_k_i` and `past_v_i`, updated in place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tapeout.errors import UserError
from tapeout.models.blocks import INT, Blocks, Config, Heads

MODES = ("prefill", "decode")


def check_mode(model: str, mode: str) -> None:
    if mode not in MODES:
        raise UserError(f"mode '{mode}'", f"model {model}", f"use {' or '.join(MODES)}")


class CachedBlocks(Blocks):
    """A model with a cache for each layer, filled from 0 on by a prompt and at `position` by one more token."""

    def __init__(self, name: str, config: Config, drawn: bool) -> None:
        super().__init__(name, config, drawn)
        self._pairs: list[str] = []

    @property
    def states(self) -> str:
        """The metadata that pairs what enters with what leaves."""
        return ";".join(self._pairs)

    def cached(
        self, layer: int, k: str, v: str, position: str, batch: int, heads: Heads, positions: int
    ) -> tuple[str, str]:
        """Writes k and v, and returns what to attend to: these (a prompt), or the whole cache (one more token)."""
        shape, given = (batch, heads.key_value, positions, heads.width), (position,) if position else ()
        presents: list[str] = []
        for kind, update in (("k", k), ("v", v)):
            past = self._entry(f"{kind}_{layer}", shape)
            presents.append(self.node(f"present_{kind}_{layer}", "TensorScatter", past, update, *given, axis=2))
            self._exit(f"{kind}_{layer}", shape)
        return (presents[0], presents[1]) if position else (k, v)

    def kept(self, prefix: str, layer: int, made: Iterable[str] | None, shape: Sequence[int]) -> tuple[str, str]:
        """Keys and values that the prompt's run made whole, and that others find again where nothing is `made`."""
        names = [f"{prefix}_{kind}_{layer}" for kind in "kv"]
        pasts = [self._entry(name, shape) for name in names]
        values = pasts if made is None else list(made)
        for name, value in zip(names, values, strict=True):
            self.node(f"present_{name}", "Identity", value)
            self._exit(name, shape)
        return values[0], values[1]

    def _entry(self, name: str, shape: Sequence[int]) -> str:
        self._pairs.append(f"past_{name}=present_{name}")
        return self.out.input(f"past_{name}", self.dtype, shape)

    def _exit(self, name: str, shape: Sequence[int]) -> str:
        return self.out.output(f"present_{name}", self.dtype, shape)

    def decode_positions(self, batch: int, positions: int) -> tuple[str, str, str]:
        """`position i64[batch]` of the token, that as [batch, 1], and the mask b1[batch, 1, 1, positions] of what it
        may attend to."""
        position = self.out.input("position", INT, (batch,))
        everything = self.out.constant(np.arange(positions, dtype=INT))
        column = self.reshape("position_column", position, batch, 1)
        rows = self.reshape("position_rows", position, batch, 1, 1, 1)
        return position, column, self.node("mask", "LessOrEqual", everything, rows)
