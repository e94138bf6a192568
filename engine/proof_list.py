"""All checks, by chapter, and what they were made with: the page "Proof" and the tests walk through this list."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from engine import minilm_file
from engine.model_files import ModelBroken, ModelMissing, Wheel, installed
from engine.proof_gradients import GRADIENTS
from engine.proof_learning import LEARNING, file_checks
from engine.proof_model import model_checks
from engine.proof_references import REFERENCES
from engine.proof_ways import WAYS
from engine.proofs import GOLDENS, Check, stored_json, stored_json_of
from engine.tokenization import ENCODINGS, FILES
from engine.weights import SOURCES

HAND_SIZED: list[Check] = [*REFERENCES, *GRADIENTS, *WAYS, *LEARNING]


def groups() -> list[str]:
    """The chapters that have checks, in the order of the list; "model" comes last."""
    return [*dict.fromkeys(check.chapter for check in HAND_SIZED), "model"]


def checks(group: str = "all") -> list[Check]:
    """The checks of a chapter; "all" for everything that needs no model, "model" for the real one's.

    Raises ValueError for a chapter without checks.
    """
    if group not in ("all", *groups()):
        raise ValueError(f"There are no checks for a chapter called {group}.")
    if group == "model":
        return [*model_checks(), *file_checks()]
    return [check for check in HAND_SIZED if group in ("all", check.chapter)]


# Versions and hashes --------------------------------------------------------------------------------------------------

LIBRARIES = ("numpy", "tiktoken", "gguf", "dash")


def versions() -> dict[str, str]:
    """Python, and the libraries that compute or read here."""
    return {"Python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def reference_versions() -> dict[str, str]:
    """For each file of stored results: what made it."""
    found = {}
    for path in sorted(GOLDENS.glob("*")):
        about = stored_json(path.stem) if path.suffix == ".json" else stored_json_of(path.stem)
        if said := _made_with(about):
            found[path.name] = said
    return found


def _made_with(about: Mapping[str, object]) -> str:
    """Versions as one line, however a script has written them down."""
    inside = about.get("about", about)
    inside = inside if isinstance(inside, Mapping) else about
    named = inside.get("versions") or inside.get("made_with") or ""
    if isinstance(named, Mapping):
        return ", ".join(f"{name} {number}" for name, number in named.items())
    return str(named)


@dataclass(frozen=True)
class Hashed:
    """A file, the sha256 that it must have, and the one that it has."""

    name: str
    bytes: int
    pinned: str  # "" where the project pins none
    found: str

    @property
    def same(self) -> bool:
        """Is it the right file?"""
        return self.found == self.pinned


def hashed_files() -> list[Hashed]:
    """Rank files, the model and the encoder, hashed now; a file of the two wheels that is not installed is left out."""
    ranks = [_hashed(FILES / f"{name}.tiktoken", encoding.sha256) for name, encoding in ENCODINGS.items()]
    return [*ranks, *filter(None, map(_of_wheel, (*SOURCES.values(), minilm_file.WHEEL)))]


def _of_wheel(wheel: Wheel) -> Hashed | None:
    try:
        return _hashed(installed(wheel), wheel.sha256)
    except ModelMissing:
        return None
    except ModelBroken:
        return Hashed(wheel.file, 0, wheel.sha256, "")


def _hashed(path: Path, pinned: str) -> Hashed:
    stat = path.stat()
    return Hashed(path.name, stat.st_size, pinned, sha256_of(path, stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=64)
def sha256_of(path: Path, size: int, modified: int) -> str:
    """The hash of a file, computed once for as long as neither size nor time of change differ."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
