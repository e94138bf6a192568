"""A small network that learns to add from nothing but "right" and "wrong": group relative policy optimization.

The policy is chapter 4's `mlp`: two digits in, a logit for each possible sum out. For each question a group of answers
is drawn, each answer is checked, and those better than their group's mean become more likely. There is no reward model
and no value network: the check is the reward. Source: Shao et al. 2024, arXiv:2402.03300.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from engine.arrays import Array
from engine.backpropagation import value_and_grad
from engine.feed_forward import mlp
from engine.optimizers import Adam
from engine.post_training import group_advantages, grpo_loss, kl_divergence
from engine.sampling import cross_entropy, log_softmax, softmax

DIGITS = 10
SUMS = 2 * DIGITS - 1  # 0 to 18
INPUTS = 2 * (DIGITS - 1)
HIDDEN = 32
ROUNDS = 200
HELD_OUT = 30  # questions that are never trained on
CHECKS = {"exact": "the sum is right", "near": "off by at most one", "parity": "odd or even is right"}
STARTS = {"half": "half taught", "none": "untaught", "wrong": "taught wrongly"}
Parameters = dict[str, Any]


def questions(seed: int = 0) -> tuple[Int[Array, "train 2"], Int[Array, "held 2"]]:
    """All pairs of digits in a random order: those to learn from, and those held out."""
    pairs = np.stack(np.divmod(np.arange(DIGITS * DIGITS), DIGITS), axis=1)
    order = np.random.default_rng(seed).permutation(len(pairs))
    return pairs[order[HELD_OUT:]], pairs[order[:HELD_OUT]]


def answer_logits(p: Parameters, asked: Int[Array, "n 2"]) -> Float[Array, "n sums"]:
    """The policy: a logit for each sum, for each question. A digit goes in as that many ones, the rest zeros."""
    x = np.reshape(asked[:, :, None] > np.arange(DIGITS - 1), (len(asked), INPUTS)).astype(np.float64)
    return mlp(x, p["w1"], p["b1"], p["w2"], p["b2"], "tanh")


def check(answers: Int[Array, "#n G"], asked: Int[Array, "n 2"], how: str = "exact") -> Float[Array, "n G"]:
    """The reward of each answer, 1 or 0: it can be computed, nobody is asked. Raises ValueError for an unknown way."""
    if how not in CHECKS:
        raise ValueError(f"An answer is checked by one of {', '.join(CHECKS)}, not {how}.")
    off = np.abs(answers - np.sum(asked, axis=1, keepdims=True))
    return {"exact": off == 0, "near": off <= 1, "parity": off % 2 == 0}[how].astype(np.float64)


@lru_cache(maxsize=16)
def taught(how: str, seed: int = 0, steps: int = 60) -> Parameters:
    """The network before reinforcement: random, or after supervised steps on right sums, or on wrong ones.

    Raises ValueError for an unknown start.
    """
    if how not in STARTS:
        raise ValueError(f"The network starts as one of {', '.join(STARTS)}, not {how}.")
    rng = np.random.default_rng(seed)
    now: Parameters = {
        "w1": 0.2 * rng.standard_normal((INPUTS, HIDDEN)), "b1": np.zeros(HIDDEN),
        "w2": 0.1 * rng.standard_normal((HIDDEN, SUMS)), "b2": np.zeros(SUMS),
    }  # fmt: skip
    asked, _ = questions(seed)
    targets = (np.sum(asked, axis=1) + (7 if how == "wrong" else 0)) % SUMS
    optimizer, slope = Adam(0.01), value_and_grad(lambda p: cross_entropy(answer_logits(p, asked), targets))
    for _ in range({"none": 0, "half": steps, "wrong": 6 * steps}[how]):
        now = optimizer.step(now, slope(now)[1])
    return now


@dataclass(frozen=True)
class Groups:
    """The answers drawn for some questions, and what became of them."""

    asked: Int[Array, "n 2"]
    answers: Int[Array, "n G"]
    rewards: Float[Array, "n G"]
    advantages: Float[Array, "n G"]

    def rows(self, most: int) -> list[Any]:
        """The first groups: question, answers, rewards, advantages, and whether it is silent."""
        return list(zip(self.asked, self.answers, self.rewards, self.advantages, self.silent, strict=True))[:most]

    @property
    def silent(self) -> Bool[Array, "n"]:
        """Groups whose rewards are all equal: they move nothing."""
        return np.max(self.rewards, axis=1) == np.min(self.rewards, axis=1)


def draw_groups(
    p: Parameters, asked: Int[Array, "n 2"], size: int, rng: np.random.Generator, how: str = "exact"
) -> Groups:
    """`size` answers to each question, by inverting the cumulative distribution; checked and compared."""
    running = np.cumsum(softmax(answer_logits(p, asked)), axis=1)
    draws = rng.random((len(asked), size, 1)) * running[:, None, -1:]
    answers = np.sum(draws >= running[:, None, :], axis=2)
    rewards = check(answers, asked, how)
    return Groups(asked, answers, rewards, group_advantages(rewards))


def chosen(log_p: Float[Array, "n sums"], answers: Int[Array, "n G"]) -> Float[Array, "n G"]:
    """The log-probability of each drawn answer."""
    return log_p[np.arange(len(answers))[:, None], answers]


@dataclass(frozen=True)
class Moment:
    """The policy after so many rounds."""

    round: int
    accuracy: float  # the probability of the right sum, mean over the questions trained on
    held_out: float  # and over those that are not
    reward: float  # mean probability of passing the check, over the questions trained on
    silent: float  # the share of this round's groups that had nothing to say
    divergence: float  # KL from the starting policy, in nats, mean over the questions trained on
    groups: Groups  # drawn in this round


def reinforce(
    start: str = "half", how: str = "exact", size: int = 8, beta: float = 0.04, rounds: int = ROUNDS, seed: int = 0,
    batch: int = 16, rate: float = 0.01, clip: float = 0.2, updates: int = 2,
) -> Iterator[Moment]:  # fmt: skip
    """`rounds` times: draw a group for each of `batch` questions, check, and take `updates` steps on the GRPO loss."""
    rng, optimizer = np.random.default_rng([seed, 1]), Adam(rate)
    learn, held = questions(seed)
    reference = now = taught(start, seed)
    slope = value_and_grad(group_loss)
    for number in range(rounds + 1):
        asked = learn[rng.choice(len(learn), batch, replace=False)]
        groups = draw_groups(now, asked, size, rng, how)
        yield look(number, now, reference, groups, learn, held, how)
        old, anchor = (chosen(log_softmax(answer_logits(p, asked)), groups.answers) for p in (now, reference))
        for _ in range(updates if number < rounds else 0):
            now = optimizer.step(now, slope(now, groups, old, anchor, clip, beta)[1])


@lru_cache(maxsize=64)
def kept_run(start: str, how: str, size: int, beta: float, seed: int, rounds: int = ROUNDS) -> tuple[Moment, ...]:
    """A whole run of `reinforce`, kept, so that a reader can go back and forth in it."""
    return tuple(reinforce(start, how, size, beta, rounds, seed))


def group_loss(
    p: Parameters, groups: Groups, old: Array, reference: Array, clip: float = 0.2, beta: float = 0.04
) -> Float[Array, ""]:
    """The GRPO loss of the network on drawn groups."""
    policy = chosen(log_softmax(answer_logits(p, groups.asked)), groups.answers)
    return grpo_loss(policy, old, reference, groups.advantages, clip, beta)


def look(
    number: int, p: Parameters, reference: Parameters, groups: Groups, learn: Array, held: Array, how: str
) -> Moment:
    """How good the policy is, exactly: by its probabilities, not by draws."""
    every = np.arange(SUMS)[None, :]
    learnt, unseen = softmax(answer_logits(p, learn)), softmax(answer_logits(p, held))

    def passes(policy: Array, asked: Array, kind: str) -> float:
        return float(np.mean(np.sum(policy * check(every, asked, kind), axis=1)))

    return Moment(
        number,
        accuracy=passes(learnt, learn, "exact"),
        held_out=passes(unseen, held, "exact"),
        reward=passes(learnt, learn, how),
        silent=float(np.mean(groups.silent)),
        divergence=float(np.mean(kl_divergence(learnt, softmax(answer_logits(reference, learn))))),
        groups=groups,
    )


def silence(p_right: float, size: int) -> float:
    """How often a whole group is right or a whole group is wrong: pᴳ + (1 − p)ᴳ."""
    return p_right**size + (1 - p_right) ** size
