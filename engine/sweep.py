"""Several small models trained side by side, and a power law through their final losses.

Left out: several seeds for each size, a learning rate of its own for each, and runs long enough that every model has
learned all that it can. Published sweeps have these, and a hundred times as many runs.
Source of the idea: Kaplan et al. 2020, arXiv:2001.08361.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.corpora import Corpus
from engine.gpt import GPT
from engine.scaling import training_flops
from engine.training import Plan, Step, train


@dataclass(frozen=True)
class Entrant:
    """One of the models of a sweep."""

    name: str
    gpt: GPT
    plan: Plan

    @property
    def tokens(self) -> int:
        """How many tokens it reads in training."""
        return self.plan.steps * self.plan.batch * self.gpt.context

    @property
    def compute(self) -> float:
        """6ND."""
        return float(training_flops(self.gpt.parameter_count, self.tokens))


def widths(corpus: Corpus, sizes: Sequence[int], plan: Plan, context: int = 32) -> list[Entrant]:
    """The same training for models of one block and different width."""
    count = len(corpus.vocabulary)
    return [Entrant(f"width {w}", GPT(count, 1, w, heads=4, context=context), plan) for w in sizes]


def rates(corpus: Corpus, tried: Sequence[float], plan: Plan, width: int = 32, context: int = 32) -> list[Entrant]:
    """The same model with different learning rates."""
    gpt = GPT(len(corpus.vocabulary), layers=1, width=width, heads=4, context=context)
    return [Entrant(f"rate {rate:g}", gpt, replace(plan, learning_rate=rate)) for rate in tried]


def side_by_side(corpus: Corpus, entrants: Sequence[Entrant]) -> Iterator[tuple[Step, ...]]:
    """Step for step, where every entrant stands. All have the same number of steps."""
    return zip(*(train(one.gpt, corpus, one.plan) for one in entrants), strict=True)


@dataclass(frozen=True)
class PowerLaw:
    """y ≈ floor + factor · x^(−exponent), fitted to a few points."""

    factor: float
    exponent: float
    floor: float
    residuals: Float[Array, "n"]  # log of measured over fitted excess, for each point
    exponents_without: Float[Array, "n"]  # the exponent when the fit is done without point 1, 2, …

    def __call__(self, x: Float[Array, "m"]) -> Float[Array, "m"]:
        return self.floor + self.factor * x**-self.exponent

    @property
    def spread(self) -> float:
        """Typical distance of a point from the line: root mean square of the residuals."""
        return float(np.sqrt(np.mean(self.residuals**2)))


def power_law(x: Float[Array, "n"], y: Float[Array, "n"], floor: float | int = 0.0) -> PowerLaw:
    """A straight line through log x and log(y − floor), by least squares; at least three points.

    `floor` is what y cannot go below, such as the entropy of the text: it is known or assumed, not fitted. Raises
    ValueError where a point is not above it.
    """
    if len(x) < 3:
        raise ValueError("A power law needs at least three points to be more than a line between two.")
    if np.any(y <= floor) or np.any(x <= 0):
        raise ValueError("A loss at or below the floor has no logarithm, so no power law can be fitted.")
    log_x, log_y = np.log(x), np.log(y - floor)
    slope, offset = np.polyfit(log_x, log_y, 1)
    without = [np.polyfit(np.delete(log_x, i), np.delete(log_y, i), 1)[0] for i in range(len(x))]
    residuals = log_y - (offset + slope * log_x)
    return PowerLaw(float(np.exp(offset)), -float(slope), float(floor), residuals, -np.array(without))
