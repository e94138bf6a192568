"""Scaling: what a training run costs, and what its loss will be, from the model's size and the number of tokens.

Two rules of thumb of the trade, and how far they carry. The cost: about six floating-point operations for each
parameter and each token. The loss: a formula of five constants that Hoffmann et al. fitted to some 400 runs. Both
describe, from outside, models much larger than those trained on this site.

Sources: 6ND Kaplan et al. 2020, arXiv:2001.08361, section 2.1; the loss Hoffmann et al. 2022, arXiv:2203.15556,
section 3.3 and appendix D.3; other constants for it Besiroglu et al. 2024, arXiv:2404.10102.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.block import prefill_flops
from engine.ledger import CONFIGS, Config, total_parameters

Number = Any  # a number or an array of numbers


@dataclass(frozen=True)
class Law:
    """L(N, D) = E + A / N^α + B / D^β, in nats a token."""

    irreducible: float  # E: what is left with endless parameters and tokens
    a: float
    b: float
    alpha: float
    beta: float
    source: str

    @property
    def size_exponent(self) -> float:
        """The best size grows as this power of the compute; the best number of tokens as 1 minus it."""
        return self.beta / (self.alpha + self.beta)


LAWS = {
    "hoffmann": Law(1.69, 406.4, 410.7, 0.34, 0.28, "Hoffmann et al. 2022, arXiv:2203.15556"),
    "besiroglu": Law(1.8172, 482.01, 2085.43, 0.3478, 0.3658, "Besiroglu et al. 2024, arXiv:2404.10102"),
}


def chinchilla_loss(n: Number, d: Number, law: Law = LAWS["hoffmann"]) -> Number:
    """The loss, in nats a token, that the formula gives a model of n parameters after d tokens of fresh text.

    Raises ValueError where one of them is not above 0.
    """
    if np.any(np.asarray(n) <= 0) or np.any(np.asarray(d) <= 0):
        raise ValueError("The formula needs more than 0 parameters and more than 0 tokens.")
    return law.irreducible + law.a / n**law.alpha + law.b / d**law.beta


def training_flops(n: Number, d: Number) -> Number:
    """6 n d: a multiplication and an addition for each parameter and token forward, and twice as much backward."""
    return 6 * n * d


def tokens_for(compute: Number, n: Number) -> Number:
    """How many tokens a model of n parameters can be trained on with `compute` operations."""
    return compute / (6 * n)


@dataclass(frozen=True)
class Best:
    """The size and the number of tokens with the lowest loss that a compute budget can buy."""

    compute: float | int
    parameters: float | int
    tokens: float | int
    loss: float


def optimum(compute: float | int, law: Law = LAWS["hoffmann"]) -> Best:
    """The minimum of the loss over all n and d with 6 n d = compute, in closed form.

    There the two slopes along the curve cancel: α A / N^α = β B / D^β. Source: Hoffmann et al., equation 4.
    """
    balance = (law.alpha * law.a / (law.beta * law.b)) ** (1 / (law.alpha + law.beta))
    n = balance * (compute / 6) ** law.size_exponent
    d = tokens_for(compute, n)
    return Best(compute, n, d, chinchilla_loss(n, d, law))


def iso_compute(compute: float | int, sizes: Float[Array, "n"], law: Law = LAWS["hoffmann"]) -> Float[Array, "n"]:
    """The loss of each size when all of the compute is spent on it: small models read much, large ones little."""
    return chinchilla_loss(sizes, tokens_for(compute, sizes), law)


def numeric_optimum(compute: float | int, law: Law = LAWS["hoffmann"], low: float = 1e3, high: float = 1e18) -> Best:
    """The same minimum by looking: golden-section search over log n, which knows nothing of the closed form."""
    left, right = math.log(low), math.log(high)
    share = (math.sqrt(5) - 1) / 2

    def at(log_n: float) -> float:
        return float(chinchilla_loss(math.exp(log_n), tokens_for(compute, math.exp(log_n)), law))

    while right - left > 1e-9:
        one, two = right - share * (right - left), left + share * (right - left)
        left, right = (left, two) if at(one) < at(two) else (one, right)
    n = math.exp((left + right) / 2)
    return Best(compute, n, tokens_for(compute, n), at(math.log(n)))


# Models that were really trained -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """A published model: its parameters, and the tokens it was trained on, both as its makers say."""

    name: str
    parameters: float | int
    tokens: float | int
    source: str

    @property
    def compute(self) -> float:
        return float(training_flops(self.parameters, self.tokens))

    @property
    def per_parameter(self) -> float:
        """Tokens for each parameter."""
        return self.tokens / self.parameters


def _configured(name: str, tokens: float | int, source: str) -> Trained:
    return Trained(name, CONFIGS[name].parameters, tokens, source)


TRAINED: dict[str, Trained] = {
    model.name: model
    for model in (
        Trained("GPT-3", 175e9, 300e9, "Brown et al. 2020, arXiv:2005.14165, table 2.1"),
        Trained("Gopher", 280e9, 300e9, "Rae et al. 2021, arXiv:2112.11446"),
        Trained("Chinchilla", 70e9, 1.4e12, "Hoffmann et al. 2022, arXiv:2203.15556"),
        _configured("Llama 3.1 8B", 15e12, "model card meta-llama/Llama-3.1-8B: over 15 trillion"),
        _configured("Llama 3.1 70B", 15e12, "model card meta-llama/Llama-3.1-70B: over 15 trillion"),
        _configured("Gemma 2 9B", 8e12, "Gemma Team 2024, arXiv:2408.00118"),
        _configured("Qwen2.5 7B", 18e12, "Qwen Team 2024, arXiv:2412.15115: up to 18 trillion"),
        _configured("SmolLM2-135M", 2e12, "model card HuggingFaceTB/SmolLM2-135M"),
    )
}


@dataclass(frozen=True)
class Cost:
    """The arithmetic of training, counted matrix by matrix, and what the rule says."""

    rule: float  # 6 · all parameters · tokens
    matrices: float  # forward and backward through every matrix, the output's among them
    attention: float  # scores and mixes, which have no parameters and so are not in the rule

    @property
    def counted(self) -> float:
        return self.matrices + self.attention


def counted_cost(config: Config, tokens: float | int, context: int) -> Cost:
    """What training on `tokens` tokens in windows of `context` costs: three times the forward pass.

    Backward takes two multiplications of the same size for each of forward's, one for the gradient of the input and one
    for that of the weights. Looking up an embedding costs nothing; a tied table is multiplied with at the output.
    """
    forward = prefill_flops(config, context)
    blocks = forward.projections + forward.feed_forward
    output = 2 * context * config.width * config.vocabulary  # every position is scored, not the last alone
    times = 3 * tokens / context
    rule = float(training_flops(total_parameters(config), tokens))
    return Cost(rule, times * (blocks + output), times * forward.scores_and_mix)
