"""The feed-forward network of a transformer block: two matrices, or three with a gate, or many experts and a router.

It treats every token alone: nothing in here mixes positions. Weights act as `x @ w` and are stored (in, out).
Sources: Vaswani et al. 2017, arXiv:1706.03762, section 3.3 (two matrices); Shazeer 2020, arXiv:2002.05202 (gated);
Jiang et al. 2024, "Mixtral of Experts", arXiv:2401.04088, section 2.1 (experts). Dropout, load-balancing losses and
capacity limits are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from engine.activation import ACTIVATIONS, silu
from engine.arrays import Array
from engine.sampling import softmax
from engine.tap import Tap, keep


@dataclass(frozen=True)
class Mlp:
    """Every step of the two-matrix network."""

    hidden: Float[Array, "... F"]  # x w1 + b1
    activated: Float[Array, "... F"]  # after the activation
    output: Float[Array, "... E"]  # activated w2 + b2


def mlp(
    x: Float[Array, "... D"],
    w1: Float[Array, "D F"],
    b1: Float[Array, "F"],
    w2: Float[Array, "F E"],
    b2: Float[Array, "E"],
    activation: str = "relu",
) -> Float[Array, "... E"]:
    """activation(x w1 + b1) w2 + b2, the activation by its name in `engine.activation`."""
    return mlp_steps(x, w1, b1, w2, b2, activation).output


def mlp_steps(
    x: Float[Array, "... D"],
    w1: Float[Array, "D F"],
    b1: Float[Array, "F"],
    w2: Float[Array, "F E"],
    b2: Float[Array, "E"],
    activation: str = "relu",
) -> Mlp:
    """The same with every intermediate. Raises ValueError for an unknown activation."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"There is no activation {activation!r}; choose one of {', '.join(ACTIVATIONS)}.")
    hidden = x @ w1 + b1
    activated = ACTIVATIONS[activation](hidden)
    return Mlp(hidden, activated, activated @ w2 + b2)


@dataclass(frozen=True)
class SwiGlu:
    """Every step of the gated network."""

    gate: Float[Array, "... F"]  # x w_gate, before its activation
    up: Float[Array, "... F"]  # x w_up, the values
    hidden: Float[Array, "... F"]  # silu(gate) * up: what each neuron passes on
    output: Float[Array, "... E"]  # hidden w_down


def swiglu(
    x: Float[Array, "... D"], w_gate: Float[Array, "D F"], w_up: Float[Array, "D F"], w_down: Float[Array, "F E"]
) -> Float[Array, "... E"]:
    """(silu(x w_gate) * (x w_up)) w_down. Source: Shazeer 2020, arXiv:2002.05202, equation 6."""
    return swiglu_steps(x, w_gate, w_up, w_down).output


def swiglu_steps(
    x: Float[Array, "... D"],
    w_gate: Float[Array, "D F"],
    w_up: Float[Array, "D F"],
    w_down: Float[Array, "F E"],
    tap: Tap = keep,
) -> SwiGlu:
    """The same with every intermediate; `tap` sees, and may replace, "gate", "up" and "hidden"."""
    gate = tap("gate", x @ w_gate)
    up = tap("up", x @ w_up)
    hidden = tap("hidden", silu(gate) * up)
    return SwiGlu(gate, up, hidden, hidden @ w_down)


@dataclass(frozen=True)
class Routing:
    """Which experts each of T tokens goes to."""

    probabilities: Float[Array, "T E"]  # softmax of the router's scores over all experts
    chosen: Int[Array, "T top_k"]  # the most probable experts, best first, lower number first among equals
    weights: Float[Array, "T top_k"]  # their probabilities, scaled to sum to 1
    load: Int[Array, "E"]  # tokens that each expert receives


def route(x: Float[Array, "T D"], router: Float[Array, "D E"], top_k: int) -> Routing:
    """Score every expert for every token and keep the best `top_k`."""
    experts = router.shape[-1]
    if not 1 <= top_k <= experts:
        raise ValueError(f"Each token must go to between 1 and {experts} experts, not {top_k}.")
    probabilities = softmax(x @ router)
    chosen = np.argsort(-probabilities, axis=-1, kind="stable")[:, :top_k]
    kept = probabilities[np.arange(x.shape[0])[:, None], chosen]
    weights = kept / np.sum(kept, axis=-1, keepdims=True)
    return Routing(probabilities, chosen, weights, np.bincount(chosen.reshape(-1), minlength=experts))


Expert = Callable[[Array], Array] | Sequence[Array]


def mixture_of_experts(
    x: Float[Array, "... D"], router: Float[Array, "D E"], experts: Sequence[Expert], top_k: int
) -> Float[Array, "... E2"]:
    """Each token's weighted sum of the outputs of the `top_k` experts that the router picks for it.

    An expert is a function (n, D) -> (n, D) or the three matrices of a SwiGLU. Each one computes only the tokens sent
    to it. Weights as in `route`, which for Mixtral is the same as a softmax over the kept scores alone.
    """
    if len(experts) != router.shape[-1]:
        raise ValueError(f"The router scores {router.shape[-1]} experts, but {len(experts)} were given.")
    tokens = np.reshape(x, (-1, x.shape[-1]))
    routing = route(tokens, router, top_k)
    assigned = routing.chosen.reshape(-1)  # one entry for each token and choice
    order = np.argsort(assigned, kind="stable")  # so that each expert's tokens lie together
    outputs = np.concatenate(
        [_run(expert, tokens[order[assigned[order] == e] // top_k]) for e, expert in enumerate(experts)]
    )
    per_choice = np.reshape(outputs[np.argsort(order)], (-1, top_k, outputs.shape[-1]))
    mixed = np.sum(per_choice * routing.weights[:, :, None], axis=1)
    return np.reshape(mixed, (*x.shape[:-1], mixed.shape[-1]))


def _run(expert: Expert, x: Array) -> Array:
    return expert(x) if callable(expert) else swiglu(x, *expert)


@dataclass(frozen=True)
class FeedForward:
    """The dimensions of one feed-forward network."""

    width: int
    hidden: int
    gated: bool = True
    bias: bool = False
    experts: int = 1
    top_k: int = 1


def parameter_count(config: Any, active: bool = False) -> int:
    """Parameters of one layer's feed-forward network: 2 matrices, or 3 with a gate, for each expert, and the router.

    `config` is a `FeedForward`, or anything with its fields, such as an `engine.block.Config`. `active` counts only
    the experts that one token passes through.
    """
    matrices = 3 if config.gated else 2
    biases = (matrices - 1) * config.hidden + config.width if config.bias else 0
    one_expert = matrices * config.width * config.hidden + biases
    router = config.width * config.experts if config.experts > 1 else 0
    return one_expert * (config.top_k if active else config.experts) + router
