"""A function built from ReLU neurons: y = Σ aᵢ · relu(wᵢ x + bᵢ) + c, fitted to a curve.

Each neuron is flat on one side of its *kink* (where wᵢ x + bᵢ = 0) and a straight line on the other, so n of them make
a line of straight pieces. Here the kinks are placed first, by one of three rules, and then the weights aᵢ and the
constant c by least squares: the best that these kinks can do. `engine.curve_training` moves the kinks too.

Sources: Cybenko 1989 and Hornik et al. 1989 (enough neurons approximate any continuous function); Chen, Cowan and Grant
1991, IEEE Transactions on Neural Networks 2 (2), 302-309 (choosing neurons one at a time by orthogonal least squares).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from engine.activation import relu
from engine.arrays import Array
from engine.expression import evaluate
from engine.feed_forward import mlp

LOW, HIGH, POINTS, MOST = -3.0, 3.0, 241, 64
COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # of neurons, where the error curve is computed
LARGEST = 1e6

TARGETS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sine": lambda x: np.sin(2 * x),
    "bump": lambda x: np.exp(-4 * x * x),
    "step": lambda x: np.where(x > 0.4, 1.0, 0.0),
    "zigzag": lambda x: np.interp(x, [-3, -1, 1, 3], [0, 1.5, -1, 0.5]),
    "chirp": lambda x: np.sin(x * x),
}


def grid() -> Float[Array, " points"]:
    """The 241 places from −3 to 3 at which a curve is fitted and its error measured."""
    return np.linspace(LOW, HIGH, POINTS)


# The reader's own curve ----------------------------------------------------------------------------------------------

_POINT = re.compile(r"\(\s*([-+−]?[\d.]+)\s*[,;]\s*([-+−]?[\d.]+)\s*\)")
_POINTS = re.compile(rf"\s*(?:{_POINT.pattern}[\s,;]*)+")


def own_curve(text: str) -> Float[Array, " points"]:
    """A curve over `grid()` from the reader's text: points such as (-2, 0) (0, 1.5) (2, -1), or an expression of x.

    Points are joined by straight lines, and continued level. Raises ValueError with a plain sentence otherwise.
    """
    x = grid()
    y = _joined(text, x) if text.lstrip().startswith("(") and "," in text else evaluate(text, {"x": x})
    if np.max(np.abs(y)) > LARGEST:
        raise ValueError("The curve goes beyond a million; scale it down.")
    return y


def _joined(text: str, x: Float[Array, "n"]) -> Float[Array, "n"]:
    if not _POINTS.fullmatch(text):
        raise ValueError("Points are written as pairs of numbers: (-2, 0) (0, 1.5) (2, -1).")
    try:
        found = sorted((float(a.replace("−", "-")), float(b.replace("−", "-"))) for a, b in _POINT.findall(text))
    except ValueError:
        raise ValueError("One of the points holds something that is not a number.") from None
    at, height = np.array(found).T
    if len(at) < 2 or len(set(at)) < len(at):
        raise ValueError("At least two points are needed, each at another x.")
    return np.interp(x, at, height)


# Kinks ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kinks:
    """Where neurons bend, and to which side they rise: relu(side · (x − at))."""

    at: Float[Array, "n"]
    side: Float[Array, "n"]  # +1: active to the right of the kink; −1: to the left

    def first(self, n: int) -> Kinks:
        """The first n of them."""
        return Kinks(self.at[:n], self.side[:n])

    def neurons(self, x: Float[Array, "N"]) -> Float[Array, "N n"]:
        """What each neuron passes on at each x."""
        return relu((x[:, None] - self.at) * self.side)


def even(n: int) -> Kinks:
    """Kinks at equal distances, the first at the left edge, where it only tilts the whole line."""
    return Kinks(LOW + (HIGH - LOW) * np.arange(n) / n, np.ones(n))


def random(n: int, seed: int = 0) -> Kinks:
    """Kinks anywhere between the edges, rising to either side: what an untrained network has."""
    rng = np.random.default_rng(seed)
    return Kinks(*np.array([(rng.uniform(LOW, HIGH), rng.choice([-1.0, 1.0])) for _ in range(n)]).T)


def chosen(y: Float[Array, " points"], n: int = MOST) -> Kinks:
    """One neuron at a time, always the one that lowers the squared error most (orthogonal least squares).

    Candidates are neurons with their kink at any place of the grid, rising to either side. Fewer than n are returned
    where the curve is met exactly before.
    """
    x = grid()
    candidates = Kinks(np.concatenate([x[:-1], x[1:]]), np.repeat([1.0, -1.0], len(x) - 1))
    left = candidates.neurons(x)
    left = left - np.mean(left, axis=0)  # the constant c comes free
    rest, sizes, picked = y - np.mean(y), np.sum(left * left, axis=0), []
    enough = 1e-24 * (rest @ rest)
    usable = sizes * 1e-10
    for _ in range(n):
        if rest @ rest <= enough:
            break
        now = np.sum(left * left, axis=0)
        gain = np.where(now > usable, (rest @ left) ** 2 / np.where(now > usable, now, 1.0), 0.0)
        best = int(np.argmax(gain))
        picked.append(best)
        direction = left[:, best] / np.sqrt(now[best])
        left = left - np.outer(direction, direction @ left)  # what the chosen ones cannot do yet
        rest = rest - direction * (direction @ rest)
    return Kinks(candidates.at[picked], candidates.side[picked])


# The fit -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """A hidden layer of ReLU neurons with the best output weights for a curve."""

    kinks: Kinks
    weights: Float[Array, "n"]  # a: what each neuron is multiplied by
    constant: float  # c
    parts: Float[Array, "N n"]  # each neuron's contribution, a · relu(…), at each place of the grid
    fitted: Float[Array, "N"]  # their sum and the constant
    error: float  # root of the mean squared difference from the curve

    @property
    def least_weight(self) -> float:
        """Below this a weight is nothing but rounding."""
        return 1e-9 * float(np.max(np.abs(self.weights), initial=0.0))

    @property
    def carrying(self) -> int:
        """How many neurons have a weight to speak of."""
        return int(np.sum(np.abs(self.weights) > self.least_weight))


def fit(y: Float[Array, " points"], kinks: Kinks) -> Fit:
    """Least squares for the output weights and the constant, the kinks held where they are."""
    x = grid()
    hidden = kinks.neurons(x)
    solved = np.linalg.lstsq(np.column_stack([hidden, np.ones_like(x)]), y, rcond=None)[0]
    weights, constant = solved[:-1], solved[-1]
    fitted = as_network(x, kinks, weights, constant)
    return Fit(kinks, weights, float(constant), hidden * weights, fitted, rms(fitted - y))


def as_network(
    x: Float[Array, "N"], kinks: Kinks, weights: Float[Array, "n"], constant: float | np.floating
) -> Float[Array, "N"]:
    """The same neurons as a feed-forward network with one input and one output, by chapter 4's function."""
    return mlp(x[:, None], kinks.side[None], -kinks.side * kinks.at, weights[:, None], np.array([constant]))[:, 0]


def rms(difference: Float[Array, "N"]) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(difference**2)))


def errors(y: Float[Array, " points"], kinks: Kinks) -> Float[Array, "n"]:
    """The error of the best fit with the first 1, 2, … of the kinks, all from one QR decomposition."""
    columns = np.column_stack([np.ones_like(y), kinks.neurons(grid())])
    q, r = np.linalg.qr(columns)
    fresh = np.abs(np.diagonal(r)) > 1e-9 * np.linalg.norm(columns, axis=0)  # not a mix of those before
    steps = np.cumsum(q * np.where(fresh, q.T @ y, 0.0), axis=1)  # the best fit with the constant, one more, …
    return np.sqrt(np.mean((y[:, None] - steps[:, 1:]) ** 2, axis=0))
