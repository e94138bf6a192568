"""How the engine is proven: what a check is, what it compares with, and how far off the engine is now.

A chapter adds a check with one entry in `engine/proof_references.py` (another library's stored result),
`engine/proof_gradients.py` (central differences), `engine/proof_ways.py` (a second way to the same number) or
`engine/proof_model.py` (the real model). The tests run every check; the page "Proof" runs the same ones.

Results of PyTorch and Hugging Face are stored in tests/goldens by the scripts in tests/references, with versions and
seeds inside, since neither library is installed here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

GOLDENS = Path(__file__).parent.parent / "tests" / "goldens"
REFERENCE, GRADIENT, TWO_WAYS = "another library", "central differences", "a second way"
KINDS = (REFERENCE, GRADIENT, TWO_WAYS)
FLOAT64 = 1e-12  # both sides computed in float64
FLOAT32 = 1e-6  # both in float32, or the reference in float32 only
SLOPE = 1e-6  # relative, of a gradient against central differences in float64

Function = Callable[..., Any]


@dataclass(frozen=True)
class Check:
    """One comparison of one engine function. `measure` is given the function, so that a wrong one can be tried."""

    chapter: str  # the chapter's name in its address, or "model"
    function: Function
    case: str
    against: str
    measure: Callable[[Function], float]
    limit: float  # the largest error that counts as equal
    kind: str = TWO_WAYS

    @property
    def name(self) -> str:
        """What a table shows: rotate, interleaved pairs."""
        return f"{self.function.__name__}, {self.case}" if self.case else self.function.__name__


@dataclass(frozen=True)
class Measured:
    """A check that has just been made."""

    check: Check
    error: float  # infinite where shape or number type differ, or where there is no number at all
    seconds: float

    @property
    def passed(self) -> bool:
        """Within the limit; a result that is no number is not."""
        return bool(self.error <= self.check.limit)


def made(check: Check, function: Function | None = None) -> Measured:
    """Make a check now; with `function`, of that one in place of the engine's own."""
    start = time.perf_counter()
    with np.errstate(all="ignore"):
        try:
            error = float(check.measure(function or check.function))
        except (ArithmeticError, TypeError, ValueError):
            if function is None:
                raise
            error = np.inf
    return Measured(check, np.inf if np.isnan(error) else error, time.perf_counter() - start)


# Errors ---------------------------------------------------------------------------------------------------------------


def relative_error(ours: Any, theirs: Any) -> float:
    """The largest difference, relative to the largest finite entry of the reference.

    Infinite where the shapes differ, or where something is not finite on one side only.
    """
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape or not np.array_equal(np.isfinite(ours), np.isfinite(theirs)):
        return np.inf
    finite = np.isfinite(theirs)
    size = np.max(np.abs(theirs[finite]), initial=0.0)
    return float(np.max(np.abs(ours[finite] - theirs[finite]), initial=0.0) / (size or 1.0))


def largest_difference(ours: Any, theirs: Any) -> float:
    """The largest difference between two arrays of one shape; not a number if either has such an entry."""
    return float(np.max(np.abs(np.asarray(ours) - np.asarray(theirs))))


# What is stored -------------------------------------------------------------------------------------------------------


@lru_cache
def stored(file: str) -> dict[str, np.ndarray]:
    """All arrays of a file in tests/goldens. Raises ValueError where it is missing."""
    try:
        with np.load(GOLDENS / f"{file}.npz") as arrays:
            return dict(arrays)
    except OSError as error:
        raise ValueError(f"The stored results tests/goldens/{file}.npz are missing or damaged.") from error


@lru_cache
def stored_json_of(file: str) -> dict[str, Any]:
    """What a file of arrays says about itself: texts, versions, seeds."""
    arrays = stored(file)
    if "about" in arrays:
        return {"made_with": str(arrays["about"]), **_read_json(str(arrays["about"]))}
    for name in ("made_with", "versions"):
        if name in arrays:
            return {"made_with": ", ".join(map(str, np.atleast_1d(arrays[name])))}
    return {}


def _read_json(text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except ValueError:
        return {}


@lru_cache
def stored_json(file: str) -> dict[str, Any]:
    """A JSON file in tests/goldens. Raises ValueError where it is missing."""
    try:
        return dict(json.loads((GOLDENS / f"{file}.json").read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise ValueError(f"The stored results tests/goldens/{file}.json are missing or damaged.") from error


def given(name: str, dtype: type = np.float64, file: str = "functions") -> np.ndarray:
    """An input that the reference script used."""
    return stored(file)[f"in_{name}"].astype(dtype)


def golden(
    chapter: str, function: Function, case: str, against: str, name: str, run: Callable[[Function], Any],
    limit: float | None = None, file: str = "functions",
) -> Check:  # fmt: skip
    """A check against a stored array. One whose name ends in _f32 must be met in float32."""
    single = name.endswith("_f32")

    def measure(function: Function) -> float:
        ours = np.asarray(run(function))
        if single and ours.dtype != np.float32:
            return np.inf
        return relative_error(ours, stored(file)[name])

    return Check(chapter, function, case, against, measure, limit or (FLOAT32 if single else FLOAT64), REFERENCE)
