"""Neurons that learn a curve: gradient descent on all weights of a one-hidden-layer network, so that the kinks move.

The network is chapter 4's `mlp` with one input and one output, the gradient comes from `engine.backpropagation`, and
a step is plain gradient descent, or with momentum the heavy ball of Polyak 1964. Dying ReLUs: Lu et al. 2019,
arXiv:1903.06733.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from engine.activation import derivative
from engine.arrays import Array
from engine.backpropagation import value_and_grad
from engine.curve_fit import HIGH, LOW
from engine.feed_forward import mlp, mlp_steps

Parameters = dict[str, Any]
STEPS = 300
PLACES = 61  # where the loss is measured: enough for a curve, few enough to train while a reader waits


def start(neurons: int, seed: int = 0) -> Parameters:
    """Random parameters: slopes of ±1, kinks anywhere between the edges, small output weights."""
    rng = np.random.default_rng(seed)
    side = rng.choice([-1.0, 1.0], neurons)
    return {
        "w1": side[None],
        "b1": -side * rng.uniform(LOW, HIGH, neurons),
        "w2": rng.normal(0, 1 / np.sqrt(neurons), (neurons, 1)),
        "b2": np.zeros(1),
    }


def loss(parameters: Parameters, x: Float[Array, "N"], y: Float[Array, "N"], activation: str = "relu") -> Any:
    """The mean squared difference between the network and the curve."""
    p = parameters
    out = mlp(x[:, None], p["w1"], p["b1"], p["w2"], p["b2"], activation)[:, 0]
    return np.mean((out - y) ** 2)


@dataclass(frozen=True)
class Run:
    """A whole descent: before the first step, and after each one."""

    x: Float[Array, "N"]
    y: Float[Array, "N"]
    activation: str
    losses: Float[Array, " times"]
    parameters: tuple[Parameters, ...]

    def output(self, step: int) -> Float[Array, "N"]:
        """What the network gives after `step` steps."""
        p = self.parameters[step]
        return mlp(self.x[:, None], p["w1"], p["b1"], p["w2"], p["b2"], self.activation)[:, 0]

    def kinks(self, step: int) -> Float[Array, "n"]:
        """Where each neuron's sum is 0; infinite for a weight of 0."""
        p = self.parameters[step]
        with np.errstate(divide="ignore", invalid="ignore"):
            return -p["b1"] / p["w1"][0]

    def dead(self, step: int) -> Bool[Array, "n"]:
        """Which neurons have no slope at any place (below 1e-6): no gradient comes through them. What momentum is left
        may still carry one on, and sometimes back: see `returning`."""
        p = self.parameters[step]
        hidden = mlp_steps(self.x[:, None], p["w1"], p["b1"], p["w2"], p["b2"], self.activation).hidden
        return np.max(np.abs(derivative(self.activation, hidden)), axis=0) < 1e-6

    def returning(self, step: int) -> int:
        """How many of the neurons that are dead after `step` steps are alive again at some later step of the run."""
        later = [~self.dead(after) for after in range(step + 1, len(self.parameters))]
        return int(np.sum(self.dead(step) & np.any(later, axis=0))) if later else 0

    def below(self, step: int) -> Bool[Array, "n"]:
        """Which neurons have a sum of 0 or less at every place."""
        p = self.parameters[step]
        return np.all(mlp_steps(self.x[:, None], p["w1"], p["b1"], p["w2"], p["b2"]).hidden <= 0, axis=0)

    @cached_property
    def deaths(self) -> Int[Array, " times"]:
        """How many are dead at each time."""
        return np.array([int(np.sum(self.dead(step))) for step in range(len(self.parameters))])

    @cached_property
    def paths(self) -> Float[Array, "times n"]:
        """The kinks at every time."""
        return np.stack([self.kinks(step) for step in range(len(self.parameters))])


def train(
    y: Float[Array, "N"],
    neurons: int,
    *,
    activation: str = "relu",
    rate: float | int = 0.05,
    steps: int = STEPS,
    momentum: float | int = 0.9,
    seed: int = 0,
) -> Run:
    """Descend from `start(neurons, seed)`. y is the curve at equally spaced places from −3 to 3.

    Stops early where the loss is no longer finite or beyond a million times the first one.
    """
    x = np.linspace(LOW, HIGH, len(y))
    loss_and_gradient = value_and_grad(loss)
    now = start(neurons, seed)
    velocity = {name: np.zeros_like(array) for name, array in now.items()}
    losses, path = [], []
    for _ in range(steps + 1):
        value, gradient = loss_and_gradient(now, x, y, activation)
        losses.append(float(value))
        path.append(now)
        if not value <= 1e6 * (1 + losses[0]):
            break
        velocity = {name: momentum * velocity[name] + gradient[name] for name in now}
        now = {name: now[name] - rate * velocity[name] for name in now}
    return Run(x, y, activation, np.array(losses), tuple(path))
