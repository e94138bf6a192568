"""Attention looked at from outside: what a wide head does to the softmax, what time it takes, what its weights show."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.attention import Attention, attention
from engine.sampling import entropy


@dataclass(frozen=True)
class Spread:
    """One query against several keys of a given width, all drawn from the standard normal distribution."""

    width: int
    result: Attention  # of one query: scores (1, keys), weights (1, keys)
    largest: float  # the largest score that goes into the softmax
    entropy: float  # of the weights, in nats; not a number where they overflowed


def spread(
    width: int, *, keys: int = 8, sharpness: float = 1.0, divide: bool = True, subtract_max: bool = True, seed: int = 0
) -> Spread:
    """How attention spreads at a head width, in float32 as in the real model.

    A dot product of `width` random numbers has a standard deviation of √width: without the division it grows with the
    head (Vaswani et al. 2017, section 3.2.1).
    """
    drawn = np.random.default_rng(seed).normal(size=(2 * keys + 1, width)).astype(np.float32)
    q, k, v = drawn[:1], drawn[1 : keys + 1], drawn[keys + 1 :]
    scale = sharpness / np.sqrt(width) if divide else sharpness
    with np.errstate(over="ignore", invalid="ignore"):
        result = attention(q, k, v, causal=False, scale=float(scale), subtract_max=subtract_max)
        return Spread(width, result, float(np.max(result.scores)), float(entropy(result.weights)[0]))


@dataclass(frozen=True)
class Timing:
    """Measured seconds of attention over each length, and the curve a + b·n + c·n² that fits them best."""

    lengths: tuple[int, ...]
    seconds: tuple[float, ...]  # the quickest of a few runs each
    score_bytes: tuple[int, ...]  # of the n × n scores
    fit: tuple[float, float, float]  # a, b, c

    def fitted(self, n: Float[Array, "n"]) -> Float[Array, "n"]:
        """The fitted curve in seconds."""
        a, b, c = self.fit
        return a + b * n + c * n * n


def time_attention(lengths: Sequence[int], head_dim: int = 64, runs: int = 3) -> Timing:
    """Run one head of attention over random tokens of each length, now, on this machine."""
    rng = np.random.default_rng(0)
    seconds, sizes = [], []
    for n in lengths:
        q, k, v = rng.normal(size=(3, n, head_dim)).astype(np.float32)
        best = float("inf")
        for _ in range(runs):
            started = time.perf_counter()
            scores = attention(q, k, v).scores
            best = min(best, time.perf_counter() - started)
        seconds.append(best)
        sizes.append(scores.nbytes)
    c, b, a = np.polyfit(np.asarray(lengths, float), seconds, 2)
    return Timing(tuple(lengths), tuple(seconds), tuple(sizes), (float(a), float(b), float(c)))


def first_token_share(weights: Float[Array, "... T T"]) -> Float[Array, "..."]:
    """The mean weight that the tokens after the first give to the first. Raises ValueError for fewer than 2 tokens."""
    if weights.shape[-2] < 2:
        raise ValueError("With a single token there is nothing to compare: it attends to itself alone.")
    return np.mean(weights[..., 1:, 0], axis=-1)


def previous_token_share(weights: Float[Array, "... T T"]) -> Float[Array, "..."]:
    """The mean weight that each token gives to the one right before it. Raises ValueError for fewer than 2 tokens."""
    if weights.shape[-2] < 2:
        raise ValueError("With a single token there is no token before it.")
    return np.mean(np.diagonal(weights, offset=-1, axis1=-2, axis2=-1), axis=-1)


def own_token_share(weights: Float[Array, "... T T"]) -> Float[Array, "..."]:
    """The mean weight that the tokens after the first give to themselves. Raises ValueError for fewer than 2 tokens."""
    if weights.shape[-2] < 2:
        raise ValueError("With a single token there is nothing to compare: it attends to itself alone.")
    return np.mean(np.diagonal(weights, axis1=-2, axis2=-1)[..., 1:], axis=-1)


def mean_entropy(weights: Float[Array, "... T S"]) -> Float[Array, "..."]:
    """The mean entropy of the rows of weights, in nats: how many tokens a head looks at at once."""
    return np.mean(entropy(weights), axis=-1)
