"""A policy small enough to watch: one question, five answers, one logit each.

The answers are the project's own. Their logits before any post-training, their quality and their traits are set by
hand: they stand for a base model and for a careful judge, and no model was asked. Everything that happens to them
afterwards is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.backpropagation import value_and_grad
from engine.post_training import kl_objective
from engine.sampling import softmax

QUESTION = "How do I get red wine out of a white shirt?"
TRAITS = ("to the point", "long", "warm", "sure of itself")


@dataclass(frozen=True)
class Answer:
    """One thing that the small policy can say."""

    name: str
    text: str
    logit: float  # before post-training, set by hand
    quality: float  # what a careful judge would think of it, set by hand
    traits: tuple[float, ...]  # how far it has each of TRAITS, set by hand


ANSWERS = (
    Answer(
        "helpful",
        "Act soon. Blot the stain with a cloth, never rub it. Cover it with salt for ten minutes, then rinse with cold "
        "water from the back. Rub in some soap, and wash it as usual.",
        0.4, 2.0, (1.0, 0.6, 0.2, 0.4),
    ),
    Answer(
        "rambling",
        "Wine has followed people for eight thousand years, and its stains have too. Before we turn to your shirt, "
        "it is "
        "worth recalling how dyes hold on to cotton, and what the Romans used. In the end, salt may well help.",
        0.9, 0.0, (0.3, 1.0, 0.3, 0.0),
    ),
    Answer(
        "flattering",
        "What a wonderful question! Somebody who loves a shirt as you do will surely find a lovely answer!",
        0.2, -0.5, (0.0, 0.3, 1.0, 0.5),
    ),
    Answer(
        "sure but wrong",
        "Boil it for an hour. Heat always drives out the colour, every time, guaranteed.",
        0.8, -2.0, (0.9, 0.2, 0.0, 1.0),
    ),
    Answer("refusing", "I am sorry, but I cannot help with alcohol.", 0.0, -1.0, (0.0, 0.1, 0.2, 0.3)),
)  # fmt: skip
NAMES = tuple(answer.name for answer in ANSWERS)
LOGITS = np.array([answer.logit for answer in ANSWERS])
REFERENCE = softmax(LOGITS)
QUALITY = np.array([answer.quality for answer in ANSWERS])
FEATURES = np.array([answer.traits for answer in ANSWERS])


@dataclass(frozen=True)
class Descent:
    """A whole descent: before the first step, and after each one."""

    losses: Float[Array, " times"]
    path: Float[Array, "times ..."]  # the parameters


def descend(loss: Callable[[Any], Any], start: Float[Array, "..."], optimizer: Any, steps: int) -> Descent:
    """Lower `loss(parameters)` in so many steps of an optimizer of chapter 7, by gradients of chapter 6."""
    loss_and_gradient = value_and_grad(loss)
    now, losses, path = start, [], []
    for step in range(steps + 1):
        value, gradient = loss_and_gradient(now)
        losses.append(float(value))
        path.append(now)
        if step < steps:
            now = optimizer.step(now, gradient)
    return Descent(np.array(losses), np.stack(path))


def ascend(
    reference: Float[Array, "n"], reward: Float[Array, "n"], betas: Float[Array, "B"], optimizer: Any, steps: int
) -> Float[Array, "times B n"]:
    """For each β, the policies on the way up `kl_objective`, by steps on their logits, from the reference.

    They climb side by side in one array, each by its own gradient. The closed form says where they must end:
    `kl_regularised_policy`.
    """

    def loss(logits: Float[Array, "B n"]) -> Float[Array, ""]:
        return 0.0 - np.sum(kl_objective(softmax(logits), reference, reward, betas))

    return softmax(descend(loss, np.tile(np.log(reference), (len(betas), 1)), optimizer, steps).path)
