"""Options that make each built-in model as small as it gets, for tests that run all of them."""

from __future__ import annotations

from typing import Any

SMALL_IMAGE = {"height": 32, "width": 32, "percent": 25}
TINY_LLAMA = {
    "layers": 1, "width": 32, "heads": 4, "kv_heads": 2, "head_width": 8, "hidden": 32, "vocabulary": 50,
    "positions": 16, "sequence": 6,
}  # fmt: skip
TINY_MOE = {**TINY_LLAMA, "experts": 6, "top_k": 2}
TINY_WHISPER = {"layers": 1, "width": 32, "heads": 4}
TINY_WORDS = {**TINY_WHISPER, "sound": 10, "vocabulary": 50, "positions": 8}
TINY_VIT = {"height": 16, "width": 16, "patch": 8, "layers": 1, "channels": 32, "heads": 4}
TINY_GPT2 = {"layers": 1, "width": 32, "heads": 4, "vocabulary": 50, "positions": 16}
TINY: dict[str, dict[str, Any]] = {
    "resnet50": {"height": 32, "width": 32, "stages": (1, 1), "channels": 8, "classes": 10},
    "mobilenetv3": {**SMALL_IMAGE, "blocks": 5, "classes": 10},
    "efficientnet-b0": {**SMALL_IMAGE, "blocks": 4, "classes": 10},
    "mobilefacenet": {**SMALL_IMAGE, "blocks": 6, "embedding": 16},
    # 252 boxes: the largest error of few is chance (a single one of 63 was 2.7 times as far off as the yardstick's)
    "yolov5s": {"height": 64, "width": 64, "channels": 8, "classes": 5},
    "pointnet": {"batch": 4, "points": 32, "channels": 8, "classes": 10},
    "dlrm": {"batch": 16, "rows": (20, 30, 5, 7), "hots": 2, "bottom": (16, 8), "top": (16, 1)},
    "gpt2": TINY_GPT2,
    "gpt2-decode": TINY_GPT2,
    "llama": TINY_LLAMA,
    "llama-decode": {**TINY_LLAMA, "batch": 2},
    "qwen3-moe": TINY_MOE,
    "qwen3-moe-decode": TINY_MOE,
    "bert": {"layers": 1, "width": 32, "heads": 4, "hidden": 64, "vocabulary": 50, "sequence": 8},
    "vit": {**TINY_VIT, "hidden": 64, "classes": 10},
    "clip": {
        **TINY_VIT,
        "batch": 2,
        "text_layers": 1,
        "text_channels": 16,
        "text_heads": 2,
        "vocabulary": 50,
        "embedding": 16,
        "sequence": 8,
    },
    "sd15-text": {"sequence": 8, "layers": 1, "channels": 32, "heads": 4, "vocabulary": 50},
    "sd15-unet": {
        "height": 32,
        "width": 32,
        "sequence": 5,
        "channels": 16,
        "multipliers": (1, 2),
        "layers": 1,
        "heads": 2,
        "groups": 4,
        "text": 16,
    },
    "sd15-vae": {"height": 16, "width": 16, "channels": 8, "multipliers": (1, 1, 1, 2), "layers": 1, "groups": 4},
    "whisper-encoder": {**TINY_WHISPER, "frames": 20, "mels": 8},
    "whisper-decoder": TINY_WORDS,
    "whisper-decode": TINY_WORDS,
    "lstm-acoustic": {"frames": 4, "features": 6, "layers": 2, "cells": 8, "phones": 7},
}
BOUND: dict[str, dict[str, Any]] = {"gpt2": {"sequence": 8}}
"""Symbols of the models that have some."""
