"""Files that appear whole or not at all."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO, cast

import numpy as np

from tapeout.errors import UserError


@contextmanager
def replacing(path: str | Path) -> Generator[IO[bytes]]:
    """A binary file beside `path` that takes its name when the block ends well, and is removed otherwise.

    `UserError` where it cannot be written.
    """
    target = Path(path)
    if target.exists() and not target.is_file():  # a device or a pipe: nothing to replace
        with _refusal(target), target.open("wb") as out:
            yield out
        return
    with _refusal(target):
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as out:
                yield out
            mask = os.umask(0)
            os.umask(mask)
            Path(name).chmod(0o666 & ~mask)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextmanager
def _refusal(target: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write ({error.strerror})", str(target), "give a path in a folder that exists"
        ) from None


@contextmanager
def text_file(path: str | Path) -> Generator[TextIO]:
    """A text file written whole or not at all, compressed where the name ends in .gz."""
    with replacing(path) as raw:
        packed = gzip.GzipFile("", "wb", 5, raw, mtime=0) if str(path).endswith(".gz") else None
        out = io.TextIOWrapper(cast("IO[bytes]", packed) if packed else raw, encoding="utf-8", write_through=not packed)
        yield out
        out.flush()
        out.detach()
        if packed:
            packed.close()


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Arrays by name as an .npz file. Types that NumPy has no name for (bf16, f8) are stored as f32."""
    plain = {n: a.astype(np.float32) if a.dtype.kind == "V" else a for n, a in arrays.items()}
    with replacing(path) as out:
        np.savez(out, allow_pickle=False, **cast("dict[str, Any]", plain))


def read_arrays(path: str | Path) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of an .npz file. `UserError` when it is none."""
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as found:
            if not hasattr(found, "files"):
                raise UserError("is a single array", str(path), "save it by name with numpy.savez")
            return {name: found[name] for name in found.files}
    except OSError as error:
        reason = error.strerror or "no .npz file"
        raise UserError(f"cannot read inputs ({reason})", str(path), "give a file made by numpy.savez") from None
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        raise UserError("not a whole .npz file", str(path), "give a file made by numpy.savez") from None
