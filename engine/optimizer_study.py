"""Optimizers compared: on surfaces, in single steps written out, under weight decay, on matrices, and in training.

Everything here runs the optimizers of `engine/optimizers.py`; nothing is drawn from a formula of what they would do.
Decoupled decay: Loshchilov and Hutter, arXiv:1711.05101; Muon: Jordan et al. 2024.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from engine.activation import relu
from engine.arrays import Array
from engine.backpropagation import value_and_grad
from engine.curve_fit import HIGH, LOW, TARGETS
from engine.curve_training import start as network
from engine.descents import SURFACES, Pair, Trajectory, trajectory
from engine.ledger import Config, LedgerRow, parameter_ledger
from engine.optimizers import (
    SGD,
    Adam,
    AdamW,
    Lion,
    Muon,
    Optimizer,
    RMSProp,
    orthogonalise,
    schedule,
    singular_values,
)

Real = float | int
NAMES = ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "lion", "muon")
RESCALING = ("rmsprop", "adam", "adamw", "lion", "muon")
"""Those whose step does not grow with the gradient: their learning rate is about how far an entry moves."""


def named(name: str, lr: Real, beta1: Real = 0.9, beta2: Real = 0.99, weight_decay: Real = 0.0) -> Optimizer:
    """One of the eight, with its share of common settings: beta1 is what momentum remembers, beta2 the squares.

    Muon hands what is not a matrix, and embeddings, to an AdamW with the same settings.
    """
    makers = {
        "sgd": lambda: SGD(lr, weight_decay=weight_decay),
        "momentum": lambda: SGD(lr, beta1, weight_decay=weight_decay),
        "nesterov": lambda: SGD(lr, beta1, nesterov=beta1 > 0, weight_decay=weight_decay),
        "rmsprop": lambda: RMSProp(lr, beta2, weight_decay=weight_decay),
        "adam": lambda: Adam(lr, (beta1, beta2), weight_decay=weight_decay),
        "adamw": lambda: AdamW(lr, (beta1, beta2), weight_decay=weight_decay),
        "lion": lambda: Lion(lr, (beta1, beta2), weight_decay=weight_decay),
        "muon": lambda: Muon(lr, weight_decay, beta1, others=AdamW(lr, (beta1, beta2), weight_decay=weight_decay),
                             exclude=["embedding"]),
    }  # fmt: skip
    if name not in makers:
        raise ValueError(f"There is no optimizer called {name}; there are {', '.join(makers)}.")
    return makers[name]()


def race(
    surface: str, names: Sequence[str], start: Pair, steps: int, *, lr: Real, lr_rescaling: Real, beta1: Real = 0.9,
    beta2: Real = 0.99, weight_decay: Real = 0.0, noise: Real = 0.0, seed: int = 0,
) -> dict[str, Trajectory]:  # fmt: skip
    """Several optimizers from one start. `lr` is for those that follow the gradient, the other for `RESCALING`."""
    return {
        name: trajectory(
            named(name, lr_rescaling if name in RESCALING else lr, beta1, beta2, weight_decay),
            surface, start, steps, noise=noise, seed=seed,
        )
        for name in names
    }  # fmt: skip


def edge_of_stability(name: str, curvature: Real, beta1: Real = 0.9) -> float:
    """The learning rate above which SGD, momentum or Nesterov diverge on ½ · curvature · x².

    Where a root of the update's characteristic polynomial leaves the unit circle: 2 / c, 2 (1 + β) / c and
    2 (1 + β) / (c (1 + 2β)).
    """
    factor = {"sgd": 1.0, "momentum": 1 + beta1, "nesterov": (1 + beta1) / (1 + 2 * beta1)}
    return 2 * factor[name] / curvature


# One step written out -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WrittenStep:
    """A step of an optimizer with all that went into it, for both parameters (2,)."""

    name: str
    number: int  # 1 for the first
    loss: float
    loss_after: float
    before: Float[Array, "2"]
    gradient: Float[Array, "2"]
    state_before: dict[str, Float[Array, "2"]]  # zeros before the first step
    state_after: dict[str, Float[Array, "2"]]
    after: Float[Array, "2"]


def written_step(optimizer: Optimizer, name: str, surface: str, start: Pair, number: int) -> WrittenStep:
    """Walk `number` steps with gradients from backpropagation, and keep the last one with everything in it."""
    both = value_and_grad(lambda point: SURFACES[surface](point[0]))
    now, state = np.array([start], np.float64), {}
    for _ in range(number):
        before, state = now, dict(optimizer.state.get("", {}))
        loss, gradient = both(before)
        now = optimizer.step(before, gradient)
        if not np.all(np.abs(now) < 1e30):
            raise ValueError(f"By step {optimizer.steps} this walk has diverged. Lower the learning rate.")
    after = {key: value[0] for key, value in optimizer.state[""].items()}
    known = {key: state[key][0] if key in state else np.zeros(2) for key in after}
    height = SURFACES[surface]
    return WrittenStep(name, number, float(loss), float(height(now[0])), before[0], gradient[0], known, after, now[0])


# The first steps of Adam ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FirstSteps:
    """How far Adam moves a parameter at each step, in learning rates, with and without the correction."""

    corrected: Float[Array, " steps"]
    uncorrected: Float[Array, " steps"]


def first_steps(beta1: Real, beta2: Real, noise: Real, steps: int, seed: int = 0) -> FirstSteps:
    """Adam on gradients 1 + noise · normal, from the same seed for both."""
    gradients = (1 + noise * np.random.default_rng(seed).standard_normal(steps)).tolist()
    sizes = []
    for correction in (True, False):
        adam, now, moved = Adam(1.0, (beta1, beta2), bias_correction=correction), 0.0, []
        for gradient in gradients:
            after = adam.step(now, gradient)
            moved.append(now - after)
            now = after
        sizes.append(np.array(moved))
    return FirstSteps(*sizes)


# Two kinds of weight decay --------------------------------------------------------------------------------------------

COPIES = 200


@dataclass(frozen=True)
class Decay:
    """The mean of many weights at each step, by optimizer: those with large gradients, and those with small ones."""

    large: dict[str, Float[Array, " times"]]
    small: dict[str, Float[Array, " times"]]


def decay(lr: Real, weight_decay: Real, ratio: Real, steps: int, seed: int = 0) -> Decay:
    """Weights of 1 whose gradients are noise around 0, so that only the decay moves their mean.

    Half of them have gradients of size √ratio, half of 1 / √ratio. Both optimizers see the same gradients.
    """
    sizes = np.array([[ratio**0.5], [ratio**-0.5]])
    noise = np.random.default_rng(seed).standard_normal((steps, 2, COPIES)) * sizes
    means = {}
    for name in ("adam", "adamw"):
        optimizer, now = named(name, lr, 0.9, 0.99, weight_decay), np.ones((2, COPIES))
        path = [now.mean(axis=1)]
        for gradient in noise:
            now = optimizer.step(now, gradient)
            path.append(now.mean(axis=1))
        means[name] = np.array(path)
    return Decay({name: path[:, 0] for name, path in means.items()}, {name: path[:, 1] for name, path in means.items()})


# A schedule and what it does ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scheduled:
    """The learning rate of each step, and the walk that it led."""

    rates: Float[Array, " steps"]
    walk: Trajectory


def scheduled(
    name: str, optimizer: str, steps: int, *, peak: Real, warmup: int = 0, floor: Real = 0.0, fall: Real = 0.2
) -> Scheduled:
    """A walk on the surface whose slopes come from 4 examples at a time; `fall` is the last part of "wsd"."""
    rates = [
        schedule(name, step, peak=peak, total=steps, warmup=warmup, floor=floor, decay=round(fall * steps))
        for step in range(steps)
    ]
    surface = SURFACES["noisy"]
    return Scheduled(np.array(rates), trajectory(named(optimizer, peak), surface, surface.start, steps, rates=rates))


# Muon's matrix --------------------------------------------------------------------------------------------------------


def layer_gradient(rows: int, columns: int, spread: Real, seed: int = 0) -> Float[Array, "rows columns"]:
    """The gradient of a linear layer (out, in) at the start of its training, from backpropagation.

    The loss is the mean squared error on 64 examples; the inputs' sizes fall from 1 to 1 / spread, as features do that
    are common or rare.
    """
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((64, columns)) * np.geomspace(1, 1 / spread, columns)
    outputs = inputs @ rng.standard_normal((columns, rows))
    weights = 0.1 * rng.standard_normal((rows, columns))
    return value_and_grad(lambda w: np.mean((inputs @ w.T - outputs) ** 2))(weights)[1]


def levelled(x: Float[Array, "rows columns"], steps: int) -> Float[Array, "times n"]:
    """The singular values of x divided by its length, and after each Newton-Schulz step."""
    return np.stack([singular_values(orthogonalise(x, count)) for count in range(steps + 1)])


# Memory ---------------------------------------------------------------------------------------------------------------


@functools.cache
def slots(name: str, matrix: bool = True) -> int:
    """How many numbers an optimizer keeps for each parameter, counted in its state after a step."""
    optimizer, array = named(name, 0.1), np.ones((4, 4)) if matrix else np.ones(16)
    optimizer.step(array, array)
    return sum(np.size(kept) for kept in optimizer.state[""].values()) // 16


def state_numbers(config: Config, name: str) -> int:
    """How many numbers an optimizer keeps for a whole model; Muon leaves embeddings, output and norms to AdamW."""
    return sum(row.total * slots(name, _for_muon(row)) for row in parameter_ledger(config))


def _for_muon(row: LedgerRow) -> bool:
    return len(row.shape) == 2 and row.group in ("attention", "feed-forward")


# Training the same network with each ----------------------------------------------------------------------------------

RATES = tuple(float(10 ** (half / 2)) for half in range(-6, 1))
TRAINING_STEPS, NEURONS, PLACES = 120, 12, 61


def fit_losses(parameters: dict[str, Any], x: Float[Array, "N"], y: Float[Array, "N"]) -> Float[Array, " runs"]:
    """The mean squared error of many networks at once: `mlp` of chapter 4, one for each entry of axis 0."""
    p = parameters
    hidden = relu(x[:, None] @ p["w1"] + p["b1"][:, None, :])
    out = (hidden @ p["w2"] + p["b2"][:, None, :])[..., 0]
    return np.mean((out - y) ** 2, axis=-1)


@dataclass(frozen=True)
class Sweep:
    """The loss of a network at each step of training, for each optimizer and learning rate."""

    names: tuple[str, ...]
    rates: tuple[float, ...]
    losses: Float[Array, "optimizers rates times"]

    def best(self, name: str) -> int:
        """The place of the rate with the lowest last loss."""
        last = self.losses[self.names.index(name), :, -1]
        return int(np.argmin(np.where(np.isfinite(last), last, np.inf)))

    def curve(self, name: str, rate: int) -> Float[Array, " times"]:
        return self.losses[self.names.index(name), rate]


@functools.lru_cache(maxsize=32)
def sweep(curve: str, seed: int = 0, steps: int = TRAINING_STEPS) -> Sweep:
    """Every optimizer at every rate fits the same curve with the same 12 ReLU neurons from the same start.

    All networks run as one batch: the gradient of the sum of their losses is each one's own gradient.
    """
    x = np.linspace(LOW, HIGH, PLACES)
    y = TARGETS[curve](x)
    gradient = value_and_grad(lambda p: np.sum(fit_losses(p, x, y)))
    optimizers = [named(name, rate, 0.9, 0.99) for name in NAMES for rate in RATES]
    networks = [network(NEURONS, seed) for _ in optimizers]
    losses = []
    with np.errstate(over="ignore", invalid="ignore"):  # a run that diverges leaves the others alone
        for step in range(steps + 1):
            batch = {key: np.stack([p[key] for p in networks]) for key in networks[0]}
            losses.append(fit_losses(batch, x, y))
            if step < steps:
                slopes = gradient(batch)[1]
                networks = [
                    optimizer.step(p, {key: slopes[key][i] for key in p})
                    for i, (optimizer, p) in enumerate(zip(optimizers, networks, strict=True))
                ]
    return Sweep(NAMES, RATES, np.stack(losses, axis=-1).reshape(len(NAMES), len(RATES), -1))
