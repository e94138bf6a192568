"""The objectives that turn a model of text into an assistant.

Demonstrations, preferences, rewards that can be checked, a larger model's probabilities: each stage of post-training
has one function that says how far the model is from what is wanted. They are plain arithmetic on log-probabilities,
rewards or logits, and are differentiated by `engine.backpropagation`.

Left out: the value network of PPO, rewards for single steps, and everything that spreads the work over machines.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array
from engine.sampling import log_softmax, softmax, surprisal

# Demonstrations ------------------------------------------------------------------------------------------------------


def masked_loss(
    logits: Float[Array, "*batch V"], targets: Int[Array, "*batch"], counts: np.ndarray
) -> Float[Array, ""]:
    """Mean surprisal in nats of those targets that count: the next-token loss of supervised fine-tuning.

    `counts` is 1 for a token of an answer and 0 for one of a prompt, in the shape of `targets`. Raises ValueError where
    nothing counts. Source: Ouyang et al. 2022, arXiv:2203.02155, for the stage; masking the prompt is common practice.
    """
    weights = np.asarray(counts, logits.dtype)
    if not np.sum(weights) > 0:
        raise ValueError("At least one token has to count.")
    return np.sum(surprisal(logits, targets) * weights) / np.sum(weights)


# Preferences ---------------------------------------------------------------------------------------------------------


def bradley_terry_loss(chosen: Float[Array, "*batch"], rejected: Float[Array, "*batch"]) -> Float[Array, ""]:
    """Mean of −log σ(r_chosen − r_rejected): how badly the rewards explain which of two answers was preferred.

    Source: Bradley and Terry 1952, Biometrika 39, 324-345; as the loss of a reward model arXiv:2203.02155, equation 1.
    """
    return np.mean(np.logaddexp(0.0, rejected - chosen))  # −log σ(x) = log(1 + e^−x), without overflow


def implicit_reward(
    policy: Float[Array, "*batch"], reference: Float[Array, "*#batch"], beta: float | int | Array
) -> Float[Array, "*batch"]:
    """β (log π − log π_ref), from the log-probabilities of answers: the reward for which this policy would be optimal.

    Exact up to a constant for each prompt. β may be an array that broadcasts against the others.
    Source: Rafailov et al. 2023, arXiv:2305.18290, equation 5.
    """
    return beta * (policy - reference)


def dpo_loss(
    policy_chosen: Float[Array, "*batch"],
    policy_rejected: Float[Array, "*batch"],
    ref_chosen: Float[Array, "*#batch"],
    ref_rejected: Float[Array, "*#batch"],
    beta: float | int | Array,
) -> Float[Array, ""]:
    """Direct preference optimization: the Bradley-Terry loss of the policy's implicit rewards, mean over the batch.

    The arguments are log-probabilities of whole answers, in nats. Source: arXiv:2305.18290, equation 7.
    """
    chosen = implicit_reward(policy_chosen, ref_chosen, beta)
    rejected = implicit_reward(policy_rejected, ref_rejected, beta)
    return bradley_terry_loss(chosen, rejected)


# Rewards -------------------------------------------------------------------------------------------------------------


def kl_divergence(p: Float[Array, "*batch n"], q: Float[Array, "*#batch n"]) -> Float[Array, "*batch"]:
    """Σ p log(p / q) in nats: what it costs to be p where q was expected. Infinite where q rules out what p allows."""
    possible = p > 0
    with np.errstate(divide="ignore"):
        return np.sum(p * np.log(np.where(possible, p, 1.0) / np.where(possible, q, 1.0)), axis=-1)


def expected_reward(policy: Float[Array, "*batch n"], reward: Float[Array, "*#batch n"]) -> Float[Array, "*batch"]:
    """Σ π r: the mean reward of answers drawn from the policy."""
    return np.sum(policy * reward, axis=-1)


def kl_objective(
    policy: Float[Array, "*batch n"],
    reference: Float[Array, "*#batch n"],
    reward: Float[Array, "*#batch n"],
    beta: float | int | Array,
) -> Float[Array, "*batch"]:
    """E[r] − β KL(π ‖ π_ref), which reinforcement learning from preferences maximises; one β, or one for each policy.

    Source: arXiv:2203.02155, equation 2.
    """
    return expected_reward(policy, reward) - beta * kl_divergence(policy, reference)


def kl_regularised_policy(
    reference: Float[Array, "*batch n"], reward: Float[Array, "*batch n"], beta: float | int
) -> Float[Array, "*batch n"]:
    """The policy with the largest `kl_objective`: π ∝ π_ref · exp(r / β), in closed form.

    `reference` holds probabilities. Raises ValueError unless β is above 0. Source: arXiv:2305.18290, equation 4.
    """
    if not beta > 0:
        raise ValueError(f"The weight β of the KL term must be above 0, not {beta}.")
    possible = reference > 0
    best = np.max(np.where(possible, reward, -np.inf), axis=-1, keepdims=True)
    gain = np.where(possible, reward - best, 0.0) / float(beta)  # at most 0: exp cannot overflow
    weights = reference * np.exp(gain)
    return weights / np.sum(weights, axis=-1, keepdims=True)


# Rewards that can be checked -----------------------------------------------------------------------------------------


def group_advantages(rewards: Float[Array, "*batch G"]) -> Float[Array, "*batch G"]:
    """(r − mean) / standard deviation within each group of answers to one question; 0 where all rewards are equal.

    Source: Shao et al. 2024, arXiv:2402.03300, section 4.1.2.
    """
    centred = rewards - np.mean(rewards, axis=-1, keepdims=True)
    spread = np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True))
    return np.where(spread > 1e-12, centred / np.where(spread > 1e-12, spread, 1.0), 0.0 * centred)


def clipped_gain(
    ratio: Float[Array, "*batch"], advantage: Float[Array, "*batch"], clip: float | int
) -> Float[Array, "*batch"]:
    """min(ρ A, clip(ρ, 1 − ε, 1 + ε) A): no more gain once an answer's probability has moved by ε.

    Source: Schulman et al. 2017, arXiv:1707.06347, equation 7.
    """
    return np.minimum(ratio * advantage, np.clip(ratio, 1.0 - float(clip), 1.0 + float(clip)) * advantage)


def kl_estimate(policy: Float[Array, "*batch"], reference: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """KL(π ‖ π_ref) estimated from one sample of π: e^d − d − 1, d = log π_ref − log π.

    Unbiased, and never negative. Source: arXiv:2402.03300, equation 4.
    """
    difference = reference - policy
    return np.exp(difference) - difference - 1.0


def grpo_loss(
    policy: Float[Array, "*batch G"],
    old: Float[Array, "*batch G"],
    reference: Float[Array, "*batch G"],
    advantages: Float[Array, "*batch G"],
    clip: float | int = 0.2,
    beta: float | int = 0.04,
) -> Float[Array, ""]:
    """Group relative policy optimization: the mean of β KL − clipped gain, from log-probabilities of the drawn answers.

    `old` is the policy that drew them. Source: arXiv:2402.03300, equation 3; an answer counts as one step here.
    """
    gain = clipped_gain(np.exp(policy - old), advantages, clip)
    return np.mean(float(beta) * kl_estimate(policy, reference) - gain)


# A teacher -----------------------------------------------------------------------------------------------------------


def distillation_loss(
    student: Float[Array, "*batch V"], teacher: Float[Array, "*batch V"], temperature: float | int
) -> Float[Array, ""]:
    """T² · KL(teacher ‖ student) of the distributions softened by the temperature, from logits; mean over the batch.

    T² keeps the size of the gradient, which softening divides by T². Raises ValueError unless T is above 0.
    Source: Hinton et al. 2015, arXiv:1503.02531, section 2.
    """
    if not temperature > 0:
        raise ValueError(f"The temperature must be above 0, not {temperature}.")
    t = float(temperature)
    wanted, given = log_softmax(teacher / t), log_softmax(student / t)
    return t * t * np.mean(np.sum(softmax(teacher / t) * (wanted - given), axis=-1))


# Fewer parameters ----------------------------------------------------------------------------------------------------


def lora(w: Float[Array, "m n"], a: Float[Array, "_ _"], b: Float[Array, "_ _"], alpha: float | int) -> Array:
    """w + (α / r) a b: a frozen matrix with a trained change of rank r, for x @ w with a (m, r) and b (r, n).

    The paper's layout, W (out, in) + (α / r) B A with A (r, in) and B (out, r), is taken as well. Raises ValueError for
    shapes that fit neither. Source: Hu et al. 2021, arXiv:2106.09685, section 4.1.
    """
    left, right = (a, b) if a.shape[0] == w.shape[0] and b.shape[1] == w.shape[1] else (b, a)
    rank = left.shape[1]
    if left.shape != (w.shape[0], rank) or right.shape != (rank, w.shape[1]):
        raise ValueError(f"A change of {a.shape} by {b.shape} does not fit a matrix of {w.shape}.")
    return w + (float(alpha) / rank) * (left @ right)
