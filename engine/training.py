"""Training: guess the next token, measure the mistake, take the gradient, let the optimizer step, again.

The model is `engine.gpt.GPT`, that is the forward pass of the real model; the gradient is that of
`engine.backpropagation`, the step that of `engine.optimizers`. Everything random comes from the seed and the number of
the step, so a run that was stopped goes on from a checkpoint with exactly the numbers it would have had.

Left out: dropout, mixed precision, gradient accumulation, and everything about several machines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int

from engine import corpora
from engine.arrays import Array
from engine.backpropagation import value_and_grad
from engine.corpora import Corpus
from engine.gpt import GPT, Parameters, loss
from engine.optimizers import AdamW, Optimizer, schedule
from engine.phases import detect_phases
from engine.scaling import chinchilla_loss
from engine.weights import keep_freed_memory

__all__ = [
    "GPT", "Checkpoint", "Plan", "Step", "batch_step", "chinchilla_loss", "clipped", "corpora",
    "detect_phases", "loss", "train",
]  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """How to train. The learning rate rises over `warmup` steps, then falls along a cosine to a tenth."""

    steps: int = 600
    batch: int = 16
    learning_rate: float = 3e-3
    warmup: int = 40
    schedule: str = "cosine"  # a name that `optimizers.schedule` knows
    floor: float = 0.1  # where it ends, as a share of the learning rate
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0  # the longest gradient that is used as it is
    seed: int = 0
    evaluate_every: int = 25
    held_out: int = 48  # windows of validation text, the same at every evaluation

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return schedule(
            self.schedule, step, peak=self.learning_rate, total=self.steps, warmup=self.warmup, floor=self.floor
        )

    def optimizer(self, now: Checkpoint) -> AdamW:
        """AdamW as it stood at a checkpoint."""
        made = AdamW(self.learning_rate, self.betas, weight_decay=self.weight_decay)
        made.steps, made.state = now.step, dict(now.state)
        return made


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on: after `step` steps these weights, and this memory of the optimizer."""

    step: int
    parameters: Parameters
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """The model after `number` steps, and what its next batch says about it."""

    number: int
    loss: float  # of the batch that the next step learns from, in nats a token
    gradient_norm: float  # of that loss, before clipping
    learning_rate: float  # of the next step
    validation: float | None  # loss on the held-out windows, now and then
    checkpoint: Checkpoint


def train(gpt: GPT, corpus: Corpus, plan: Plan = Plan(), start: Checkpoint | None = None) -> Iterator[Step]:
    """The run, one `Step` for each number of steps from 0 (or from where `start` stands) to `plan.steps`.

    Going on from the checkpoint of any step gives the same numbers as never having stopped.
    """
    keep_freed_memory()
    now = start or Checkpoint(0, gpt.start(plan.seed))
    optimizer = plan.optimizer(now)
    held_out = corpus.windows([0], plan.held_out, gpt.context, held_out=True)
    for number in range(now.step, plan.steps + 1):
        inputs, targets = corpus.windows([plan.seed, number], plan.batch, gpt.context)
        optimizer.lr = plan.rate(number)
        parameters, value, norm = batch_step(gpt, now.parameters, optimizer, inputs, targets, plan.clip)
        look = number % plan.evaluate_every == 0 or number == plan.steps
        validation = float(loss(now.parameters, gpt, *held_out)) if look else None
        yield Step(number, value, norm, optimizer.lr, validation, now)
        now = Checkpoint(number + 1, parameters, dict(optimizer.state))


def batch_step(
    gpt: GPT,
    parameters: Parameters,
    optimizer: Optimizer,
    inputs: Int[Array, "B T"],
    targets: Int[Array, "B T"],
    clip: float = 1.0,
) -> tuple[Parameters, float, float]:
    """One step on one batch: loss, gradient, clipping, update -> new parameters, the loss and gradient norm before."""
    value, gradients = value_and_grad(loss)(parameters, gpt, inputs, targets)
    gradients, norm = clipped(gradients, clip)
    return optimizer.step(parameters, gradients), float(value), norm


def clipped(gradients: Parameters, longest: float) -> tuple[Parameters, float]:
    """All gradients, made shorter together if as one vector they are longer than `longest`; and their length before.

    Source: Pascanu et al. 2013, arXiv:1211.5063, section 3.2; the 1e-6 against a division by 0 is PyTorch's.
    """
    norm = math.sqrt(sum(float(np.vdot(g, g)) for g in gradients.values()))
    share = longest / (norm + 1e-6)
    return ({name: g * share for name, g in gradients.items()} if share < 1 else gradients), norm
