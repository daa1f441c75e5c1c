"""Built-in models: seeded ONNX graphs with random weights of sensible scale, made without any download.

`build("resnet50", batch=8)` returns a `ModelProto` that looks like what the usual exporters write.
"""

from __future__ import annotations

import importlib
import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tapeout.errors import UserError

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Entry:
    """A built-in model: the module and names of its builder and config class, the options that make it of them, and
    symbols that have a value when a run gives none."""

    module: str
    builder: str
    config: str
    description: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    symbols: dict[str, int] = field(default_factory=dict[str, int])


TABLE: dict[str, Entry] = {
    "resnet50": Entry(
        "resnet", "build_resnet", "ResNetConfig",
        "image classification, 25.6 M parameters, 4.1 GMAC; --batch --height --width; also int8",
    ),
    "mobilenetv3": Entry(
        "mobilenet", "build_mobilenetv3", "ImageNetConfig",
        "MobileNetV3-Large, image classification, 5.5 M parameters, 0.2 GMAC; --batch --height --width",
    ),
    "efficientnet-b0": Entry(
        "mobilenet", "build_efficientnet", "ImageNetConfig",
        "EfficientNet-B0, image classification, 5.3 M parameters, 0.4 GMAC; --batch --height --width",
    ),
    "mobilefacenet": Entry(
        "mobilenet", "build_mobilefacenet", "FaceConfig",
        "MobileFaceNet, a face as a vector, 1.0 M parameters, 0.2 GMAC; --batch --height --width",
    ),
    "gpt2": Entry(
        "gpt2", "build_gpt2", "Gpt2Config", "GPT-2 small, a prompt of 1-1024 tokens, 124 M parameters; --set sequence=N",
        {"mode": "prefill"}, {"sequence": 128},
    ),
    "gpt2-decode": Entry(
        "gpt2", "build_gpt2", "Gpt2Config", "GPT-2 small, one token with its key-value cache as state",
        {"mode": "decode"},
    ),
}  # fmt: skip
NAMES = tuple(TABLE)

ELEMENT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 4}
"""Of the weights while a builder draws them, by precision."""


def build(name: str, **options: Any) -> onnx.ModelProto:
    """The model `name`, one of `NAMES`; `options` are the fields of its config class.

    Raises `UserError` for an unknown name, option or value, and where the weights do not fit this machine's memory.
    """
    make, config = _found(name, options)
    skeleton = make(config, drawn=False)
    needed, there = _count(skeleton) * ELEMENT_BYTES[config.precision], _memory_bytes()
    if there and needed > there:
        sizes = f"{needed / 1e9:.0f} GB of weights, and this machine has {there / 1e9:.0f} GB"
        raise UserError(sizes, f"model {name}", "give it fewer layers, or a narrower --precision")
    return make(config)


def parameters(name: str, **options: Any) -> int:
    """How many weights the model has, running statistics left out; nothing is drawn for that."""
    make, config = _found(name, options)
    return _count(make(config, drawn=False))


def _found(name: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """The builder of the model `name` and its config."""
    entry = TABLE.get(name)
    if entry is None:
        raise UserError(f"no built-in model '{name}'", action=f"use one of {', '.join(NAMES)}")
    # onnx takes a while to import, so a builder's module is imported by its first use only.
    module = importlib.import_module(f"tapeout.models.{entry.module}")
    kind = getattr(module, entry.config)
    known = tuple(kind.__dataclass_fields__)
    for option in options:
        if option not in known:
            raise UserError(f"no option '{option}'", f"model {name}", f"use some of {', '.join(known)}")
    return getattr(module, entry.builder), kind(**{**entry.options, **options})


def _count(model: onnx.ModelProto) -> int:
    fixed = ("const_", ".bn.mean", ".bn.variance")
    weights = (t for t in model.graph.initializer if not t.name.startswith(fixed[0]) and not t.name.endswith(fixed[1:]))
    return sum(math.prod(t.dims) for t in weights)


def _memory_bytes() -> int:
    """Of this machine; 0 where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0
