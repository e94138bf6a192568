"""Temperature and filters in the order in which they usually run, every step kept to be looked at.

The order is that of Hugging Face's `generate`: temperature, top-k, top-p, min-p, and then the softmax that makes what
is left sum to one. Others differ: llama.cpp cools last, after its filters, and keeps other tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array
from engine.sampling import entropy, falling_order, min_p, softmax, top_k, top_p


@dataclass(frozen=True)
class Stage:
    """The distribution after one step."""

    name: str
    logits: Float[Array, "V"]  # minus infinity for what has been removed
    probabilities: Float[Array, "V"]  # softmax of those: what the next step sees, and sums to 1
    kept: int  # tokens that can still be drawn
    mass: float  # how much of the probability before this step they had
    entropy: float  # in nats


def pipeline(
    logits: Float[Array, "V"],
    temperature: float | int = 1.0,
    k: int | None = None,
    p: float | int = 1.0,
    minimum: float | int = 0.0,
    greedy: bool = False,
) -> tuple[Stage, ...]:
    """From logits to what is drawn from: the stages softmax, temperature, top-k, top-p, min-p, and greedy if asked for.

    `k=None` leaves top-k out, p = 1 top-p, `minimum` = 0 min-p. Temperature 0 and `greedy` leave the largest logit
    alone. Raises ValueError as the filters do.
    """
    after = [("softmax", logits)]
    after.append(("temperature", cooled(logits, temperature)))
    after.append(("top-k", top_k(after[-1][1], len(logits) if k is None else k)))
    after.append(("top-p", top_p(after[-1][1], p)))
    after.append(("min-p", min_p(after[-1][1], minimum)))
    if greedy:
        after.append(("greedy", top_k(after[-1][1], 1)))
    probabilities = [softmax(now) for _, now in after]
    before = [probabilities[0], *probabilities[:-1]]
    return tuple(
        Stage(name, now, shares, int(np.sum(now > -np.inf)), float(np.sum(old[now > -np.inf])), float(entropy(shares)))
        for (name, now), shares, old in zip(after, probabilities, before, strict=True)
    )


def cooled(logits: Float[Array, "V"], temperature: float | int) -> Float[Array, "V"]:
    """Logits divided by the temperature; at temperature 0, which nothing can be divided by, only the largest stays."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        divided = logits / float(temperature)
    if temperature > 0 and np.isfinite(np.max(divided)):
        return divided
    winner = softmax(logits, min(temperature, 0))  # 0 also for what overflows; raises for a negative temperature
    return np.where(winner > 0, logits, -np.inf)


# A distribution laid out from the likeliest token down ----------------------------------------------------------------


@dataclass(frozen=True)
class Ranked:
    """A row of logits sorted once, since everything that a filter asks is asked of the sorted row."""

    ids: Int[Array, "V"]  # the likeliest token first; of equal ones the lower id
    logits: Float[Array, "V"]  # theirs


def ranked(logits: Float[Array, "V"]) -> Ranked:
    """Sort a row of logits, read-only. The filters keep the same tokens of it, in a fraction of the time."""
    ids = falling_order(logits)
    sorted_row = Ranked(ids, logits[ids])
    for array in (sorted_row.ids, sorted_row.logits):
        array.setflags(write=False)
    return sorted_row


@dataclass(frozen=True)
class Nuclei:
    """For each position of a text: how probability piles up from the likeliest next token down."""

    running: Float[Array, "T V"]  # running sums of the sorted probabilities


def nuclei(logits: Float[Array, "T V"]) -> Nuclei:
    """Sums in float64 as in `top_p`, kept in float32."""
    falling = -np.sort(-logits, axis=-1)
    return Nuclei(np.cumsum(softmax(falling.astype(np.float64)), axis=-1).astype(np.float32))


def nucleus_sizes(found: Nuclei, p: float) -> Int[Array, "T"]:
    """How many tokens top-p keeps at each position."""
    sizes = [np.searchsorted(row, np.float32(p - 1e-9)) + 1 for row in found.running]
    return np.minimum(sizes, found.running.shape[-1])


def masses(found: Nuclei, k: int) -> Float[Array, "T"]:
    """How much probability the k likeliest tokens have at each position."""
    return found.running[:, min(k, found.running.shape[-1]) - 1]
