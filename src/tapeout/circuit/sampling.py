"""Rows with structure, made without knowledge of the function: what uniform rows never show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tapeout.circuit.words import Interface, Rows, pack

Bits = NDArray[np.uint8]


def structured_rows(random: np.random.Generator, count: int, interface: Interface) -> Rows:
    """Each word of a row is 0, all ones, a run of ones, one- or two-hot, near to an earlier word or its complement, or
    uniform: equal words, carries over their whole length, small and large numbers."""
    words: list[Bits] = []
    for word in interface.inputs:
        bits = random.integers(0, 2, (count, word.width), np.uint8)
        kind = random.integers(0, 8, count)
        for index, make in enumerate((_zeros, _runs, _hot, _hot, _near, _near)):
            rows = np.flatnonzero(kind == index)
            if len(rows):
                bits[rows] = make(random, len(rows), word.width, [earlier[rows] for earlier in words])
        words.append(bits)
    return pack(np.concatenate(words, axis=1) if words else np.zeros((count, 0), np.uint8))


def sparse_rows(random: np.random.Generator, count: int, interface: Interface) -> Rows:
    """Rows in which each bit is 1 with one chance for the row, from 1 in the row to all but 1 of it."""
    bits = interface.input_bits
    chance = np.exp(random.uniform(np.log(1 / max(2, bits)), np.log(0.5), (count, 1)))
    ones = random.random((count, bits)) < chance
    return pack((ones ^ (random.random((count, 1)) < 0.5)).astype(np.uint8))


def _zeros(random: np.random.Generator, count: int, width: int, earlier: list[Bits]) -> Bits:
    return np.repeat(random.integers(0, 2, (count, 1), np.uint8), width, axis=1)


def _runs(random: np.random.Generator, count: int, width: int, earlier: list[Bits]) -> Bits:
    ends = np.sort(random.integers(0, width + 1, (count, 2)), axis=1)
    places = np.arange(width)
    return ((places >= ends[:, :1]) & (places < ends[:, 1:])).astype(np.uint8)


def _hot(random: np.random.Generator, count: int, width: int, earlier: list[Bits]) -> Bits:
    places = random.integers(0, width, (count, 2, 1))
    return (np.arange(width) == places).any(axis=1).astype(np.uint8)


def _near(random: np.random.Generator, count: int, width: int, earlier: list[Bits]) -> Bits:
    same = [word for word in earlier if word.shape[1] == width]
    if not same:
        return random.integers(0, 2, (count, width), np.uint8)
    bits = same[int(random.integers(len(same)))] ^ random.integers(0, 4, (count, 1), np.uint8) // 3
    flips = random.integers(0, 3, count)
    for flip in range(2):
        rows = np.flatnonzero(flips > flip)
        bits[rows, random.integers(0, width, len(rows))] ^= 1
    return bits
