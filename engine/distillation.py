"""A student that learns from a teacher's probabilities, and one that learns from the right answers alone.

First one question with a few words to choose from, then SmolLM2 as the teacher of a far smaller student: one matrix
that guesses the next token from the last one. Source: Hinton et al. 2015, arXiv:1503.02531.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array
from engine.model import Model
from engine.optimizers import SGD, Adam
from engine.post_training import distillation_loss, kl_divergence
from engine.sampling import cross_entropy, log_softmax, softmax
from engine.small_policy import Descent, descend

PROMPT = "The cat slept on the"
WORDS = ("sofa", "chair", "rug", "roof", "car", "moon", "idea")
TEACHER = np.array([5.0, 4.2, 4.0, 2.4, 1.8, -1.0, -3.0])  # logits, set by hand
RIGHT = 0  # the word that stood in the text


@lru_cache(maxsize=128)
def learn(soft: bool, temperature: float, steps: int = 200, rate: float = 1.0) -> Descent:
    """A student's logits from 0, by gradient descent on the teacher's softened distribution or on the right word."""

    def loss(student: Float[Array, "V"]) -> Float[Array, ""]:
        if soft:
            return distillation_loss(student, TEACHER, temperature)
        return cross_entropy(student[None, :], np.array([RIGHT]))

    return descend(loss, np.zeros(len(WORDS)), SGD(rate), steps)


# SmolLM2 as the teacher ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lessons:
    """A text in tokens of a small vocabulary: its most frequent kinds, and one place for all others."""

    kinds: Int[Array, "K"]  # token ids; the last place of the vocabulary stands for every other token
    seen: Int[Array, "n"]  # the token before each guess, as a place in `kinds`
    right: Int[Array, "n"]  # the token that came
    teacher: Float[Array, "n V"]  # the teacher's log-probabilities there
    split: int  # lessons before it are learned from, the others only judged by


def lessons(model: Model, ids: Sequence[int], most: int = 60, share: float = 0.6) -> Lessons:
    """Every token of a text as one lesson, its first `share` to learn from. Raises ValueError for under 20 tokens."""
    if len(ids) < 20:
        raise ValueError(f"Tokens in this text: {len(ids)}. That is too few lessons; give at least 20.")
    text = np.asarray(ids)
    found, counts = np.unique(text, return_counts=True)
    kinds = np.sort(found[np.argsort(-counts, kind="stable")[:most]])
    logits = model.memo.get(("teacher", tuple(map(int, text))), lambda: log_softmax(model.forward(text)[:-1]))
    known = logits[:, kinds].astype(np.float64)
    rest = np.log(np.maximum(1.0 - np.sum(np.exp(known), axis=1, keepdims=True), 1e-9))
    place = np.where(np.isin(text, kinds), np.searchsorted(kinds, text), len(kinds))
    return Lessons(kinds, place[:-1], place[1:], np.concatenate([known, rest], axis=1), int(share * (len(text) - 1)))


@dataclass(frozen=True)
class Student:
    """How one student did at each step, on lessons it never saw."""

    loss: Float[Array, " times"]  # surprisal of the tokens that came, in nats
    distance: Float[Array, " times"]  # KL(teacher ‖ student), in nats
    table: Float[Array, "V V"]  # at the end: row = the last token, column = the guess


def study(given: Lessons, soft: float, temperature: float | int, steps: int = 60, rate: float = 0.1) -> Student:
    """Train a table of logits: `soft` is the teacher's share of the loss, the rest goes to the tokens that came."""
    seen, right, teacher = given.seen[: given.split], given.right[: given.split], given.teacher[: given.split]

    def loss(table: Any) -> Any:
        student = table[seen]
        hard = (1 - soft) * cross_entropy(student, right) if soft < 1 else 0.0
        return hard + (soft * distillation_loss(student, teacher, temperature) if soft > 0 else 0.0)

    run = descend(loss, np.zeros(2 * given.teacher.shape[1:]), Adam(rate), steps)
    seen, right, teacher = given.seen[given.split :], given.right[given.split :], given.teacher[given.split :]
    guesses = [table[seen] for table in run.path]
    losses = [float(cross_entropy(guess, right)) for guess in guesses]
    distances = [float(np.mean(kl_divergence(np.exp(teacher), softmax(guess)))) for guess in guesses]
    return Student(np.array(losses), np.array(distances), run.path[-1])
