"""A batch of tokens through a small mixture of experts: who is chosen, and how evenly the work is spread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.feed_forward import Routing, mixture_of_experts, route

TOKENS, WIDTH, HIDDEN = 16, 12, 24
SHARPNESS = 2.0  # how decided the router is; trained ones are neither indifferent nor sure


@dataclass(frozen=True)
class ExpertBatch:
    """The batch, who worked on it, and what came out."""

    x: Float[Array, "T D"]
    routing: Routing
    scores: Float[Array, "T E"]  # the router's scores
    gates: Float[Array, "T E"]  # weight of each expert in each token's output, 0 for those that do not run
    output: Float[Array, "T D"]
    multiplications: int  # of the experts that ran
    all_experts: int  # what they would be if every expert ran on every token

    @property
    def imbalance(self) -> float:
        """The busiest expert's tokens over the mean of all: 1 is even."""
        return float(np.max(self.routing.load) / np.mean(self.routing.load))


def expert_batch(experts: int, top_k: int, alike: float | int = 0.0, seed: int = 0) -> ExpertBatch:
    """16 random tokens, a random router and random SwiGLU experts.

    `alike`, 0 to 1, is how much the tokens have in common. Raises ValueError as `route` does.
    """
    rng = np.random.default_rng(seed)
    common, own = rng.normal(size=WIDTH), rng.normal(size=(TOKENS, WIDTH))
    x = np.sqrt(alike) * common + np.sqrt(1 - alike) * own
    router = SHARPNESS * rng.normal(size=(WIDTH, experts)) / np.sqrt(WIDTH)
    weights = [_swiglu_weights(rng) for _ in range(experts)]
    routing = route(x, router, top_k)
    chosen = routing.chosen[:, :, None] == np.arange(experts)
    gates = np.sum(chosen * routing.weights[:, :, None], axis=1)
    each = 3 * WIDTH * HIDDEN
    output = mixture_of_experts(x, router, weights, top_k)
    return ExpertBatch(x, routing, x @ router, gates, output, TOKENS * top_k * each, TOKENS * experts * each)


def _swiglu_weights(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    inward = rng.normal(size=(2, WIDTH, HIDDEN)) / np.sqrt(WIDTH)
    return inward[0], inward[1], rng.normal(size=(HIDDEN, WIDTH)) / np.sqrt(HIDDEN)
