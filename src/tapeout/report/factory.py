"""Models that a Python function makes: `package.module:factory` or `file.py:factory`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

from tapeout.circuit.open import named
from tapeout.errors import InvalidModel, UserError


class Factory:
    """A callable that returns a model, or (model, example inputs); a class of modules is one, too.

    The model is whatever `tapeout.compile` takes; PyTorch modules are traced as they are in use, not in training.
    """

    def __init__(self, text: str) -> None:
        """`UserError` where nothing of that name can be imported or called."""
        self.text = text
        self._call = cast("Any", named(text))
        if not callable(self._call):
            raise UserError(f"is a {type(self._call).__name__}", text, "name a function that returns a model")
        try:
            self.parameters = frozenset(inspect.signature(self._call).parameters)
        except ValueError:  # of some that are written in C
            self.parameters = frozenset[str]()

    def make(self, arguments: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> tuple[Any, Any]:
        """The model and its example inputs; those that the factory does not return are unit normals of `shapes`."""
        try:
            made = self._call(**arguments)
        except Exception as error:
            what = f"raised {type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(what, self.text, "give its arguments with --set name=value") from error
        model, example = cast("tuple[Any, Any]", made) if _is_pair(made) else (made, None)
        if not _is_module(model):
            return model, example
        return model.eval(), self._example(model, shapes) if example is None else example

    def _example(self, module: Any, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Any, ...]:
        import torch

        names = [p.name for p in inspect.signature(module.forward).parameters.values() if p.default is p.empty]
        for name in shapes:
            if name not in inspect.signature(module.forward).parameters:
                raise UserError(f"there is no input '{name}'", "--shape", f"use {', '.join(names) or 'none'}")
        if missing := [name for name in names if name not in shapes]:
            action = f"return (module, example inputs), or give --shape {missing[0]}=1x3x224x224"
            raise InvalidModel(f"nothing says what {', '.join(missing)} may be", self.text, action)
        generator = torch.Generator().manual_seed(0)
        return tuple(torch.randn(shapes[name], generator=generator) for name in names)


def _is_pair(made: object) -> bool:
    return isinstance(made, tuple) and len(cast("tuple[Any, ...]", made)) == 2


def _is_module(model: object) -> bool:
    """Without importing PyTorch where nothing has."""
    return any(c.__module__.startswith("torch.nn") for c in type(model).__mro__)
