"""The tiny network on a small text, trained again and again: the loss curve, and what a learning rate does to it.

The text says "three, two, one" several times, and goes on in one way or another. Where it does not always go on in the
same way no network can reach loss 0: the best possible guess is the shares themselves, and its loss is their entropy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.backpropagation import value_and_grad
from engine.sampling import entropy, softmax
from engine.tiny_network import PROMPT, VOCABULARY, Parameters, layers, loss_against, token_ids


@dataclass(frozen=True)
class Run:
    """A whole descent: before the first step, and after each one."""

    losses: Float[Array, " times"]  # mean over the continuations, in nats
    probabilities: Float[Array, "times vocabulary"]
    gradient_norms: Float[Array, " times"]  # length of the gradient over all parameters
    floor: float  # the entropy of the continuations: no network can do better
    parameters: Parameters  # after the last step


def descend(
    parameters: Parameters,
    continuations: Sequence[str],
    steps: int,
    learning_rate: float | int,
    prompt: Sequence[str] = PROMPT,
) -> Run:
    """Gradient descent on the mean loss over all continuations of the prompt, `steps` times."""
    loss_and_gradient = value_and_grad(mean_loss)
    losses, probabilities, norms = [], [], []
    for step in range(steps + 1):
        loss, gradient = loss_and_gradient(parameters, continuations, prompt)
        losses.append(loss)
        probabilities.append(softmax(layers(parameters, prompt)[-1]))
        norms.append(np.sqrt(sum(np.sum(g**2) for g in gradient.values())))
        if step < steps:
            parameters = {name: array - learning_rate * gradient[name] for name, array in parameters.items()}
    return Run(np.array(losses), np.stack(probabilities), np.array(norms), floor_of(continuations), parameters)


def mean_loss(parameters: dict[str, Any], continuations: Sequence[str], prompt: Sequence[str] = PROMPT) -> Any:
    """The cross entropy of the network's one guess against every continuation, averaged."""
    return loss_against(layers(parameters, prompt)[-1], continuations)


def floor_of(continuations: Sequence[str]) -> float:
    """The lowest possible mean loss: the entropy of how often each word follows. Raises ValueError for no words."""
    if not continuations:
        raise ValueError("At least one continuation is needed to have a loss.")
    counts = np.bincount(token_ids(continuations), minlength=len(VOCABULARY))
    return float(entropy(counts / len(continuations)))
