"""Low-rank adaptation: how much of a wanted change fits into two thin matrices, and what they weigh.

Source: Hu et al. 2021, arXiv:2106.09685. That no matrix of rank r comes closer than the first r singular vectors is
Eckart and Young 1936, Psychometrika 1, 211-218.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.backpropagation import value_and_grad
from engine.ledger import Config, parameter_ledger, total_parameters
from engine.optimizers import Adam
from engine.post_training import lora

SIZE = 20
CHANGES = {"few": "a few directions", "half": "falling off slowly", "all": "every direction alike"}
PARTS = {
    "qv": ("query", "value"),
    "attention": ("query", "key", "value", "attention output"),
    "all": ("query", "key", "value", "attention output", "gate", "up", "down"),
}


def wanted(kind: str, seed: int = 0) -> tuple[Float[Array, "n n"], Float[Array, "n n"]]:
    """A matrix, and the change that training would like to make to it. Raises ValueError for an unknown kind.

    Kinds differ in their singular values: three that matter, a slow fall, all equal. The change has length 1.
    """
    if kind not in CHANGES:
        raise ValueError(f"A change is one of {', '.join(CHANGES)}, not {kind}.")
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((SIZE, SIZE)) / np.sqrt(SIZE)
    left, right = (np.linalg.qr(rng.standard_normal((SIZE, SIZE)))[0] for _ in range(2))
    places = np.arange(SIZE)
    sizes = {"few": np.where(places < 3, 3.0 - places, 0.05), "half": 0.75**places, "all": np.ones(SIZE)}[kind]
    return w, (left * (sizes / np.linalg.norm(sizes))) @ right


@dataclass(frozen=True)
class Fit:
    """The adapter at each step, and how far the changed matrix still is from the wanted one."""

    errors: Float[Array, " times"]  # ‖w + (α/r) a b − wanted‖ ÷ ‖wanted change‖
    changes: Float[Array, "times n n"]  # (α/r) a b
    best: Float[Array, " ranks"]  # the least error that any change of rank 0, 1, 2, … can have


@lru_cache(maxsize=64)
def fit(kind: str, rank: int, steps: int = 120, seed: int = 0, rate: float = 0.05) -> Fit:
    """Train a and b, with b = 0 at the start, so that `lora` comes close to the wanted matrix; w stays as it is."""
    w, change = wanted(kind, seed)
    rng = np.random.default_rng([seed, rank])
    now: Any = {"a": rng.standard_normal((SIZE, rank)) / np.sqrt(SIZE), "b": np.zeros((rank, SIZE))}

    def loss(p: Any) -> Any:
        return np.sum(np.square(lora(w, p["a"], p["b"], rank) - (w + change)))

    optimizer, slope = Adam(rate), value_and_grad(loss)
    errors, changes = [], []
    for _ in range(steps + 1):
        value, gradient = slope(now)
        errors.append(np.sqrt(value))
        changes.append(lora(w, now["a"], now["b"], rank) - w)
        now = optimizer.step(now, gradient)
    return Fit(np.array(errors), np.stack(changes), best_errors(change))


def best_errors(change: Float[Array, "n n"]) -> Float[Array, " ranks"]:
    """For rank 0 to n: the root of the sum of the squared singular values left out, ÷ that of all."""
    squares = np.linalg.svd(change, compute_uv=False) ** 2
    left = np.concatenate([np.cumsum(squares[::-1])[::-1], [0.0]])
    return np.sqrt(left / left[0])


@dataclass(frozen=True)
class Adapters:
    """What adapters of a rank add to a model."""

    rows: tuple[tuple[str, tuple[int, int], int, int], ...]  # part, shape, copies, adapter parameters of all copies
    trained: int
    full: int  # parameters of the adapted matrices themselves
    total: int  # of the whole model

    @property
    def memory(self) -> tuple[int, int]:
        """Bytes that Adam needs in float32 for weights, gradients and its two means: adapters, and the whole model."""
        return 16 * self.trained, 16 * self.total


def adapters(config: Config, rank: int, parts: str) -> Adapters:
    """Two thin matrices, (in, r) and (r, out), beside each matrix of some PARTS. Raises ValueError for others."""
    if parts not in PARTS:
        raise ValueError(f"Adapters go to one of {', '.join(PARTS)}, not {parts}.")
    chosen = [row for row in parameter_ledger(config) if row.part in PARTS[parts]]
    rows = tuple(
        (row.part, (row.shape[0], row.shape[1]), row.copies, rank * sum(row.shape) * row.copies) for row in chosen
    )
    return Adapters(rows, sum(row[3] for row in rows), sum(row.total for row in chosen), total_parameters(config))
