"""Names of bits in formats that know no words, and back."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tapeout.circuit.words import Word

_BIT = re.compile(r"(.*)\[(\d{1,9})\]")


def bit_names(words: Sequence[Word]) -> list[str]:
    """``word[bit]`` for each bit of each word; a word of one bit has its own name."""
    return [word.name if word.width == 1 else f"{word.name}[{bit}]" for word in words for bit in range(word.width)]


def words_of_bits(names: Sequence[str], otherwise: str, taken: set[str]) -> tuple[Word, ...]:
    """Words whose bits have these names: ``a[0] a[1] a[2] carry`` is ``a:3 carry``.

    Bits that are not in order from 0 are words of their own. Without a name for every bit all are the word
    ``otherwise``. Characters that no word can have become ``_``; names that are in ``taken``, or come twice, get a
    number.
    """
    if not names:
        return ()
    if not all(names):
        return (Word(_fresh(otherwise, taken), len(names)),)
    words: list[Word] = []
    at = 0
    while at < len(names):
        match = _BIT.fullmatch(names[at])
        width = 1
        if match and match[2] == "0" and match[1]:
            while at + width < len(names) and names[at + width] == f"{match[1]}[{width}]":
                width += 1
        base = match[1] if match and width > 1 else names[at]
        words.append(Word(_fresh(base, taken), width))
        at += width
    return tuple(words)


def _fresh(name: str, taken: set[str]) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w.]*(\[\d+\])?(\.next)?", name, re.ASCII):
        name = re.sub(r"[^A-Za-z0-9_.]", "_", name)
        name = name if re.match(r"[A-Za-z_]", name) else f"_{name}"
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{re.sub(r'[^A-Za-z0-9_.]', '_', name)}_{number}"
    taken.add(found)
    return found
