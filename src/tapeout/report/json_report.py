"""The report as JSON, for programs: a versioned schema that `docs/cli.md` documents."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, cast

from tapeout.report.summary import Summary

SCHEMA = "tapeout.run"
VERSION = 2


def document(summary: Summary) -> dict[str, Any]:
    """The report as plain values. Infinite errors are null, as JSON has no infinity."""
    body = cast("dict[str, Any]", _plain(dataclasses.asdict(summary)))
    if summary.verdicts is not None:
        for entry, verdict in zip(body["verdicts"], summary.verdicts, strict=True):
            entry["right"] = verdict.right
    return {"schema": SCHEMA, "version": VERSION, **body, "right": summary.right if summary.verdicts else None}


def text(summary: Summary) -> str:
    """The report as indented JSON, ending in a newline."""
    return json.dumps(document(summary), indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in cast("list[Any]", value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
