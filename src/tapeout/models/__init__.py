"""Built-in models: seeded ONNX graphs with random weights of sensible scale, made without any download.

`build("resnet50", batch=8)` returns a `ModelProto` that looks like what the usual exporters write.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, cast

from tapeout.errors import UserError

if TYPE_CHECKING:
    import onnx

    from tapeout.models.writer import Built


@dataclass(frozen=True, slots=True)
class Entry:
    """A built-in model: the module and names of its builder and config class, the options that make it of them, and
    symbols that have a value when a run gives none. `unit`: what heights and widths of images are multiples of;
    `endless`: there may be any number of positions."""

    module: str
    builder: str
    config: str
    description: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    symbols: dict[str, int] = field(default_factory=dict[str, int])
    precisions: tuple[str, ...] = ("fp32", "fp16", "bf16")
    unit: int = 1
    endless: bool = False


QWEN3_MOE: dict[str, Any] = {
    "layers": 48, "width": 2048, "heads": 32, "kv_heads": 4, "head_width": 128, "hidden": 768, "experts": 128,
    "top_k": 8, "qk_norm": True, "tied": False, "vocabulary": 151936, "rope_base": 1_000_000,
}  # fmt: skip
"""Options of the Llama builder that make it Qwen3-30B-A3B."""

TABLE: dict[str, Entry] = {
    "resnet50": Entry(
        "resnet", "build_resnet", "ResNetConfig",
        "image classification, 25.6 M parameters, 4.1 GMAC; --batch --height --width; also int8",
        precisions=("fp32", "fp16", "bf16", "int8"),
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
    "yolov5s": Entry(
        "yolo", "build_yolo", "YoloConfig",
        "YOLOv5s, object detection without its last sorting, 7.2 M parameters, 8.2 GMAC; --batch --height --width",
        unit=32,
    ),
    "pointnet": Entry(
        "pointnet", "build_pointnet", "PointNetConfig",
        "PointNet, classification of 1024 points, 3.5 M parameters, 0.4 GMAC; --batch, --set points=N",
    ),
    "dlrm": Entry(
        "dlrm", "build_dlrm", "DlrmConfig",
        "DLRM, search ranking, 26 tables of 541 M parameters; --batch, --set hots=N",
    ),
    "gpt2": Entry(
        "gpt2", "build_gpt2", "Gpt2Config",
        "GPT-2 small, a prompt of 1-1024 tokens, 124 M parameters; --set sequence=N",
        {"mode": "prefill"}, {"sequence": 128},
    ),
    "gpt2-decode": Entry(
        "gpt2", "build_gpt2", "Gpt2Config", "GPT-2 small, one token with its key-value cache as state",
        {"mode": "decode"},
    ),
    "bert": Entry(
        "bert", "build_bert", "BertConfig",
        "BERT-base, 109 M parameters; --batch, --set sequence=N (up to 512)",
    ),
    "vit": Entry(
        "vit", "build_vit", "VitConfig",
        "ViT-B/16, image classification, 86.6 M parameters, 17.6 GMAC; --batch --height --width",
        unit=16,
    ),
    "clip": Entry(
        "vit", "build_clip", "ClipConfig",
        "CLIP ViT-B/32, image and text as vectors, 151 M parameters; --batch, --set tower=image|text|both",
        unit=32,
    ),
    "sd15-text": Entry(
        "vit", "build_text", "TextConfig", "Stable Diffusion 1.5, text encoder of 123 M parameters; --batch",
    ),
    "sd15-unet": Entry(
        "diffusion", "build_unet", "UnetConfig",
        "Stable Diffusion 1.5, one step of the UNet of 860 M parameters; --batch --height --width",
        unit=64,
    ),
    "sd15-vae": Entry(
        "diffusion", "build_vae", "VaeConfig",
        "Stable Diffusion 1.5, the decoder from latents to images, 49.5 M parameters; --batch --height --width",
        unit=8,
    ),
    "llama": Entry(
        "llama", "build_llama", "LlamaConfig",
        "Llama 3.2 1B, a prompt; any size: --batch, --set sequence=N layers=N width=N weights=int4 ...",
        {"mode": "prefill"},
        endless=True,
    ),
    "llama-decode": Entry(
        "llama", "build_llama", "LlamaConfig", "the same, one token with its key-value cache as state",
        {"mode": "decode"},
        endless=True,
    ),
    "qwen3-moe": Entry(
        "llama", "build_llama", "LlamaConfig",
        "Qwen3-30B-A3B, 128 experts of which 8 serve a token, a prompt; --set layers=N to make it smaller",
        {"mode": "prefill", **QWEN3_MOE},
        endless=True,
    ),
    "qwen3-moe-decode": Entry(
        "llama", "build_llama", "LlamaConfig", "the same, one token with its key-value cache as state",
        {"mode": "decode", **QWEN3_MOE},
        endless=True,
    ),
    "whisper-encoder": Entry(
        "whisper", "build_encoder", "EncoderConfig",
        "Whisper base, 30 s of sound, 20.6 M parameters; --batch, --set frames=N",
    ),
    "whisper-decoder": Entry(
        "whisper", "build_decoder", "DecoderConfig",
        "Whisper base, the first tokens, 52 M parameters; --batch, --set sequence=N",
        {"mode": "prefill"},
    ),
    "whisper-decode": Entry(
        "whisper", "build_decoder", "DecoderConfig", "the same, one token with keys and values as state",
        {"mode": "decode"},
    ),
    "lstm-acoustic": Entry(
        "whisper", "build_acoustic", "AcousticConfig",
        "four bidirectional LSTM layers, phonemes of 1 s of sound, 8.5 M parameters; --batch, --set frames=N",
    ),
}  # fmt: skip
NAMES = tuple(TABLE)


def build(name: str, **options: Any) -> onnx.ModelProto:
    """The model `name`, one of `NAMES`; `options` are the fields of its config class.

    Raises `UserError` for an unknown name, option or value, and where the weights do not fit this machine's memory.
    """
    return build_apart(name, **options).whole()


def build_apart(name: str, drawn: bool = True, **options: Any) -> Built:
    """The same with large weights beside it. With `drawn=False` they have no contents, and may be of any size."""
    make, config = _found(name, options)
    if not drawn:
        return make(config, drawn=False)
    needed, there = _bytes(make(config, drawn=False).model), _memory_bytes()
    if there and needed > there:
        sizes = f"{needed / 1e9:.0f} GB of weights, and this machine has {there / 1e9:.0f} GB"
        raise UserError(sizes, f"model {name}", "give it fewer layers, a narrower --precision, or --timing-only")
    return make(config)


def choices(name: str) -> dict[str, Any]:
    """The options and symbols of the model `name`, each with its default; `precision` with all that there are."""
    _, config = _found(name, {})
    entry = TABLE[name]
    own: dict[str, Any] = {option.name: getattr(config, option.name) for option in fields(config)}
    return {**own, **entry.symbols, "precision": entry.precisions}


def parameters(name: str, **options: Any) -> int:
    """How many weights the model has, running statistics left out; nothing is drawn for that."""
    make, config = _found(name, options)
    return _count(make(config, drawn=False).model)


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
    usual = kind(**entry.options)
    asked = {
        option: value if _is_word(kind, option, value) else _like(getattr(usual, option), value, name, option)
        for option, value in options.items()
    }
    return getattr(module, entry.builder), kind(**{**entry.options, **asked})


def _like(usual: Any, value: Any, name: str, option: str) -> Any:
    """The value of an option, of the kind that its default `usual` is of; one number stands for a list of one.

    `UserError` where it is of another kind, and for numbers below 1 that a model has none without (those whose default
    is 0, as experts or a seed, may be 0).
    """
    if isinstance(usual, tuple):
        listed = tuple(cast("Sequence[Any]", value)) if isinstance(value, list | tuple) else (value,)
        if all(_whole(n) and n >= 1 for n in listed):
            return listed
        wanted = "numbers above 0, such as 1,2,3"
    elif isinstance(usual, bool):
        words = {"true": True, "false": False, "1": True, "0": False}
        if (truth := words.get(str(value).lower())) is not None:
            return truth
        wanted = "true or false"
    elif isinstance(usual, int):
        if _whole(value) and value >= min(usual, 1):
            return value
        wanted = "a number above 0" if usual else "a number"
    else:
        wanted = f"a word, such as {usual}"
    raise UserError(f"{option} is {value!r}", f"model {name}", f"give {wanted}")


def _is_word(kind: Any, option: str, value: Any) -> bool:
    """Whether the option is given as a word and may be one: a name, or a symbol in place of a number."""
    return isinstance(value, str) and "str" in kind.__annotations__[option].split(" | ")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _count(model: onnx.ModelProto) -> int:
    fixed = ("const_", ".bn.mean", ".bn.variance")
    weights = (t for t in model.graph.initializer if not t.name.startswith(fixed[0]) and not t.name.endswith(fixed[1:]))
    return sum(math.prod(t.dims) for t in weights)


def _bytes(model: onnx.ModelProto) -> int:
    """Of all weights; those of less than a byte are counted as one, as they are unpacked."""
    from tapeout.models.writer import ELEMENT_TYPES

    sizes = {kind: dtype.itemsize for dtype, kind in ELEMENT_TYPES.items()}
    return sum(math.prod(t.dims) * sizes[t.data_type] for t in model.graph.initializer)


def _memory_bytes() -> int:
    """Of this machine; 0 where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0
