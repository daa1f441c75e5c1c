"""Built-in models: seeded ONNX graphs with random weights of sensible scale, made without any download.

`build("resnet50", batch=8)` returns a `ModelProto` that looks like what the usual exporters write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tapeout.errors import UserError

if TYPE_CHECKING:
    import onnx

NAMES = ("gpt2", "resnet50")


def build(name: str, **options: Any) -> onnx.ModelProto:
    """The model `name`, one of `NAMES`; `options` are the fields of its config class.

    Raises `UserError` for an unknown name, option or value.
    """
    # onnx takes a while to import, so it is imported by the first build only.
    match name:
        case "resnet50":
            from tapeout.models.resnet import ResNetConfig, build_resnet

            return build_resnet(_config(name, ResNetConfig, options))
        case "gpt2":
            from tapeout.models.gpt2 import Gpt2Config, build_gpt2

            return build_gpt2(_config(name, Gpt2Config, options))
        case _:
            raise UserError(f"no built-in model '{name}'", action=f"use one of {', '.join(NAMES)}")


def _config(name: str, kind: type[Any], options: dict[str, Any]) -> Any:
    known = tuple(kind.__dataclass_fields__)
    for option in options:
        if option not in known:
            raise UserError(f"no option '{option}'", f"model {name}", f"use some of {', '.join(known)}")
    return kind(**options)
