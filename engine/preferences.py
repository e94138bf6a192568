"""Learning from pairs: a reward model fitted to them, and the policy fitted to them directly.

A pair is (winner, loser), two places in a list of answers. Sources: Bradley and Terry 1952, Biometrika 39, 324-345;
Rafailov et al. 2023, arXiv:2305.18290 (DPO).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float

from engine.activation import sigmoid
from engine.arrays import Array
from engine.optimizers import SGD
from engine.post_training import bradley_terry_loss, dpo_loss, implicit_reward
from engine.sampling import log_softmax
from engine.small_policy import Descent, descend

Pairs = tuple[tuple[int, int], ...]


def from_trail(trail: str, count: int = 5) -> Pairs:
    """Verdicts as a link carries them, "1.7": each code is winner · count + loser.

    Each two answers are judged once, the latest verdict counting, and no answer against itself.
    """
    found: dict[frozenset[int], tuple[int, int]] = {}
    for winner, loser in (divmod(int(code), count) for code in trail.split(".") if code):
        if winner != loser:
            found.pop(frozenset((winner, loser)), None)
            found[frozenset((winner, loser))] = (winner, loser)
    return tuple(found.values())


def winners_and_losers(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """The two columns."""
    columns = np.array(pairs, int).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]


@lru_cache(maxsize=256)
def fit_rewards(pairs: Pairs, count: int, steps: int = 300, rate: float = 1.0, pull: float = 0.0) -> Descent:
    """Rewards of `count` answers by gradient descent on the Bradley-Terry loss, from 0; every step is kept.

    `pull` adds pull / 2 · Σ r², which keeps rewards finite where nobody ever disagrees.
    """
    won, lost = winners_and_losers(pairs)

    def loss(rewards: Float[Array, "n"]) -> Float[Array, ""]:
        if not pairs:  # nothing to explain
            return 0.0 * np.sum(rewards)
        return bradley_terry_loss(rewards[won], rewards[lost]) + float(pull) / 2 * np.sum(rewards * rewards)

    return descend(loss, np.zeros(count), SGD(rate), steps)


def win_probabilities(rewards: Float[Array, "n"]) -> Float[Array, "n n"]:
    """σ(r_i − r_j): how often answer i should be preferred to answer j."""
    return sigmoid(rewards[:, None] - rewards[None, :])


def circles(pairs: Pairs, count: int) -> Bool[Array, "n n"]:
    """True where i beats j, directly or by way of others, and j beats i as well: no list of rewards satisfies both."""
    beats = np.zeros((count, count), bool)
    for winner, loser in pairs:
        beats[winner, loser] = True
    for through in range(count):
        beats = beats | (beats[:, through, None] & beats[None, through, :])
    return beats & beats.T


@dataclass(frozen=True)
class Preferred:
    """Policies on their way by DPO, one for each β: before the first step, and after each one."""

    log_policy: Float[Array, "times B n"]
    margins: Float[Array, "times B pairs"]  # implicit reward of the winner less that of the loser
    rewards: Float[Array, "times B n"]  # implicit, less their mean: DPO fixes only their differences

    @property
    def losses(self) -> Float[Array, "times B"]:
        """The DPO loss of each."""
        return np.mean(np.logaddexp(0.0, -self.margins), axis=-1) if self.margins.size else self.log_policy[..., 0] * 0


@lru_cache(maxsize=12)
def dpo_run(
    pairs: Pairs,
    logits: tuple[float, ...],
    betas: tuple[float, ...],
    steps: int = 300,
    rate: float = 1.0,
    features: tuple[tuple[float, ...], ...] | None = None,
) -> Preferred:
    """Gradient descent on the DPO loss, from the reference policy softmax(logits), for each β.

    Each answer has a logit of its own, or with `features` (one row an answer) all share weights: logits + features · w,
    w = u / β. Steps of one size in u make the implicit rewards of separate logits take the steps of `fit_rewards`.
    """
    won, lost = winners_and_losers(pairs)
    start, shared = np.array(logits), np.eye(len(logits)) if features is None else np.array(features)
    reference, beta = log_softmax(start), np.array(betas)[:, None]

    def policies(u: Float[Array, "... B f"]) -> Float[Array, "... B n"]:
        return log_softmax(start + (u / beta) @ shared.T)

    def loss(u: Float[Array, "B f"]) -> Float[Array, ""]:
        if not pairs:  # nothing to explain
            return 0.0 * np.sum(u)
        log_p = policies(u)
        mean = dpo_loss(log_p[:, won], log_p[:, lost], reference[None, won], reference[None, lost], beta)
        return len(betas) * mean  # each β by itself, as if the others were not there

    log_policy = policies(descend(loss, np.zeros((len(betas), shared.shape[1])), SGD(rate), steps).path)
    rewards = implicit_reward(log_policy, reference, beta)
    margins = rewards[..., won] - rewards[..., lost]
    return Preferred(log_policy, margins, rewards - np.mean(rewards, axis=-1, keepdims=True))


def ranking(order: Sequence[int]) -> Pairs:
    """All pairs that a ranking from best to worst implies."""
    return tuple((better, worse) for place, better in enumerate(order) for worse in order[place + 1 :])
