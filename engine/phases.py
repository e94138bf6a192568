"""Phases of a run that learns by heart first and generalises later, found by a fixed rule on its accuracies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array

MEMORISED, LEAVES, GENERALISED = 0.99, 0.25, 0.95


@dataclass(frozen=True)
class Phase:
    """A stretch of a run, from one step to another."""

    name: str
    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Curves:
    """What is read off a run: a step, and both accuracies after it."""

    steps: Int[Array, "n"]
    training: Float[Array, "n"]
    validation: Float[Array, "n"]


def detect_phases(curves: Curves) -> list[Phase]:
    """The phases of a run by a fixed rule on its accuracies; those that were not reached are not in the list.

    1. memorising: until the training accuracy first reaches 99 %;
    2. plateau: from there until the held-out accuracy last leaves 25 %, that is, until it is above and stays above;
    3. generalising: from there until the held-out accuracy first reaches 95 %;
    4. general: the rest.

    A phase without a step is left out: a run that never has a plateau gets none.
    """
    last = int(curves.steps[-1])
    memorised = _first(curves.steps, curves.training >= MEMORISED)
    below = np.flatnonzero(curves.validation < LEAVES)
    leaves = (
        last
        if len(below) and below[-1] == len(curves.steps) - 1
        else int(curves.steps[below[-1] + 1] if len(below) else curves.steps[0])
    )
    done = _first(curves.steps, curves.validation >= GENERALISED)
    ends = [memorised, max(memorised, leaves), max(memorised, done), last]
    starts = [int(curves.steps[0]), *ends[:-1]]
    names = ("memorising", "plateau", "generalising", "general")
    return [Phase(n, a, min(b, last)) for n, a, b in zip(names, starts, ends, strict=True) if a < min(b, last)]


def _first(steps: Int[Array, "n"], reached: np.ndarray) -> int:
    """The first step at which it is so; the last of all where it never is."""
    return int(steps[int(np.argmax(reached))] if np.any(reached) else steps[-1])
