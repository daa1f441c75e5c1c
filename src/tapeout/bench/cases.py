"""The runs of a table: built-in models on chips, at the batches, shapes and precisions that each of them has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tapeout.chip.load import load_chip
from tapeout.chip.spec import Chip
from tapeout.errors import UserError
from tapeout.models import TABLE, Entry, choices

BATCHES = (1, 8)
IMAGES = ((96, 96), (720, 1280), (1080, 1920))
"""Heights and widths of images beside a model's own."""
LENGTHS = (1, 17, 128, 1000, 4096)
"""Lengths of sequences."""
ELEMENT_TYPES = {"fp32": "f32", "tf32": "tf32", "fp16": "f16", "bf16": "bf16", "int8": "i8", "int4w": "i4"}
"""What models may be computed in, and the element type of the matrix unit that each is at home on."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run: a model on a chip with options; `key` is what follows `tapeout run` on the command line."""

    model: str
    chip: str
    options: tuple[tuple[str, str], ...]

    @property
    def arguments(self) -> tuple[str, ...]:
        flags = {"batch", "height", "width", "precision"}
        given = (part for name, value in self.options for part in (
            (f"--{name}", value) if name in flags else ("--set", f"{name}={value}")
        ))  # fmt: skip
        return (self.model, "--chip", self.chip, *given)

    @property
    def key(self) -> str:
        return " ".join(self.arguments)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a table is made of; an empty list stands for all that there is."""

    models: Sequence[str]
    chips: Sequence[str]
    precisions: Sequence[str] = ()
    batches: Sequence[int] = BATCHES
    images: Sequence[tuple[int, int]] = IMAGES
    lengths: Sequence[int] = LENGTHS
    own_image: bool = True
    """Beside `images`, that of the model."""


def cases(choice: Choice) -> Iterator[Case]:
    """Every run, model by model, a model's smallest shapes first."""
    chips = {name: load_chip(name) for name in choice.chips}
    for model in choice.models:
        known = choices(model)
        for shape in _shapes(known, TABLE[model], choice):
            for batch in choice.batches if "batch" in known else (None,):
                for name, chip in chips.items():
                    for precision in _precisions(chip, choice):
                        given = {"precision": precision, **({"batch": str(batch)} if batch else {}), **shape}
                        yield Case(model, name, tuple(given.items()))


def sampled(found: list[Case], count: int | None) -> list[Case]:
    """As many of the cases, evenly over their order; all where there are no more."""
    if count is None or count >= len(found):
        return found
    return [found[n * len(found) // count] for n in range(count)]


def image(text: str) -> tuple[int, int]:
    """`HEIGHTxWIDTH`; `UserError` where it is none."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise UserError(f"'{text}' is no size of an image", "--image", "write for example 720x1280")
    return int(parts[0]), int(parts[1])


def _precisions(chip: Chip, choice: Choice) -> list[str]:
    """Those that the chip's matrix unit has, or fp32 where it has none of them."""
    home = [p for p, element in ELEMENT_TYPES.items() if element in chip.matrix.geometry]
    return [p for p in home or ["fp32"] if not choice.precisions or p in choice.precisions]


def _shapes(known: dict[str, Any], entry: Entry, choice: Choice) -> list[dict[str, str]]:
    """The options of each shape, the smallest first: images as large as asked or the next that the model takes,
    sequences (or what a model has cached of them) up to the positions that it has."""
    if "height" in known and "width" in known:
        own = {(known["height"], known["width"])} if choice.own_image else set[tuple[int, int]]()
        sizes = {(-(-h // entry.unit) * entry.unit, -(-w // entry.unit) * entry.unit) for h, w in choice.images}
        images = sorted(sizes | own, key=lambda size: size[0] * size[1])
        return [{"height": str(h), "width": str(w)} for h, w in images]
    if "sequence" in known:
        positions = known.get("positions", 0)
        lengths = [n for n in choice.lengths if not positions or n <= positions or entry.endless]
        if known.get("mode") == "decode":
            return [{"positions": str(n)} for n in lengths]
        return [{"sequence": str(n), **({"positions": str(n)} if n > positions > 0 else {})} for n in lengths]
    return [{}]
