"""Draws against what was to be expected: is a difference between counts and probabilities more than chance?

Source: Pearson 1900, "On the criterion that a given system of deviations …", Philosophical Magazine 50, 157-175. The
tail of the chi-square distribution for whole degrees of freedom is Abramowitz and Stegun 1964, 26.4.4 and 26.4.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array


@dataclass(frozen=True)
class Comparison:
    """Counts of n independent draws beside the probabilities that they were drawn with."""

    counts: Int[Array, "V"]
    expected: Float[Array, "V"]  # n p
    standard_error: Float[Array, "V"]  # √(n p (1 − p)): how far a count usually is from its expectation
    chi_square: float  # Σ (count − expected)² / expected, over the tokens that can be drawn
    degrees: int  # those tokens, less one, since the counts sum to n
    chance: float  # how often pure chance gives a chi-square this large or larger


def compare(drawn: Int[Array, "n"], p: Float[Array, "V"]) -> Comparison:
    """Count the draws and hold them against `p`. Raises ValueError for no draws, and for one that `p` rules out."""
    if not len(drawn):
        raise ValueError("There must be at least one draw to compare.")
    counts = np.bincount(drawn, minlength=len(p))
    possible = p > 0
    if len(counts) > len(p) or np.any(counts[~possible]):
        raise ValueError("A token was drawn that has no probability.")
    expected = len(drawn) * p
    chi_square = float(np.sum((counts[possible] - expected[possible]) ** 2 / expected[possible]))
    degrees = int(np.sum(possible)) - 1
    error = np.sqrt(expected * (1 - p))
    return Comparison(counts, expected, error, chi_square, degrees, chi_square_tail(chi_square, degrees))


def chi_square_tail(x: float | int, degrees: int) -> float:
    """The probability that a chi-square variable with so many degrees of freedom is x or more."""
    if x < 0 or degrees < 0:
        raise ValueError(f"Chi-square and its degrees of freedom are 0 or more, not {x} and {degrees}.")
    if degrees == 0 or x == 0:
        return 1.0  # nothing can differ, so it never does by more than this
    half, odd = x / 2, degrees % 2
    term = math.exp(-half) * (math.sqrt(half) / math.gamma(1.5) if odd else 1.0)
    tail = math.erfc(math.sqrt(half)) if odd else 0.0
    for i in range((degrees) // 2):
        tail += term
        term *= half / (i + 1 + odd / 2)
    return min(tail, 1.0)


def convergence(drawn: Int[Array, "n"], p: Float[Array, "V"], at: Int[Array, "m"]) -> Float[Array, "m"]:
    """The largest distance of any token's share from its probability after the first `at` draws, for each of them."""
    rows = (drawn[:, None] == np.arange(len(p))).astype(np.float64)
    shares = np.cumsum(rows, axis=0)[at - 1] / at[:, None]
    return np.max(np.abs(shares - p), axis=-1)
