"""Checks of gradients: what backpropagation finds, against (f(x + ε) − f(x − ε)) / 2ε in float64, entry by entry.

Each entry: chapter, function, case, the arguments, and how the function is called with them where that is not plain.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from engine.activation import ACTIVATIONS, erf
from engine.attention import attention
from engine.backpropagation import gradient_check
from engine.block import Block, layer_norm, rms_norm, run_block
from engine.embeddings import cosine_similarity, lookup
from engine.feed_forward import mixture_of_experts, mlp, swiglu
from engine.multi_head import grouped_query_attention, head_contributions, merge_heads, split_heads
from engine.proofs import GRADIENT, SLOPE, Check, Function
from engine.rope import alibi_bias, rotate, sinusoids
from engine.sampling import (
    cross_entropy,
    entropy,
    log_softmax,
    min_p,
    repetition_penalty,
    softmax,
    surprisal,
    top_k,
)

LEAST = 1e-3  # a check needs a gradient of at least this size somewhere: there must be something to compare


def gradient(
    chapter: str, function: Function, case: str, *args: Any, by: Callable[..., Any] = lambda f, *args: f(*args)
) -> Check:
    """A gradient check of `function` with respect to all of `args`."""

    def measure(function: Function) -> float:
        found = gradient_check(lambda *values: one_number(by(function, *values)), args)
        return found.worst if max(abs(row.analytic) for row in found.rows) > LEAST else np.inf

    return Check(chapter, function, case, GRADIENT, measure, SLOPE, GRADIENT)


def one_number(result: Any) -> Any:
    """Every entry counts, with a weight of its own."""
    return np.sum(result * np.cos(np.arange(result.size)).reshape(result.shape))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def small_block(width: int = 8, kv_width: int = 4, hidden: int = 3) -> dict[str, np.ndarray]:
    """Weights of a block with four query heads on two key/value heads."""
    shapes = {
        "attn_norm": (width,), "w_q": (width, width), "w_k": (width, kv_width), "w_v": (width, kv_width),
        "w_o": (width, width), "ffn_norm": (width,), "w_gate": (width, hidden), "w_up": (width, hidden),
        "w_down": (hidden, width),
    }  # fmt: skip
    return {name: normal(*shape, seed=i) / np.sqrt(shape[0]) for i, (name, shape) in enumerate(shapes.items())}


X = normal(4, 6)
IDS = np.array([[1, 4, 0], [2, 2, 3]])
Q, K, V = normal(3, 4), normal(5, 4, seed=1), normal(5, 2, seed=2)  # three new queries, five keys
HEADS = normal(4, 3, 4), normal(2, 5, 4, seed=1), normal(2, 5, 3, seed=2)  # four query heads share two key/value heads
EXPERTS = [[normal(4, 3, seed=s), normal(4, 3, seed=s + 1), normal(3, 4, seed=s + 2)] for s in (0, 3, 6)]
MIXTURE = (normal(1, 3, 4), normal(4, 3, seed=5))
POSITIONS = np.array([7, 8, 11, 30])

attending, sharing = partial(gradient, "attention", attention), partial(gradient, "multi-head", grouped_query_attention)
turning = partial(gradient, "rope", rotate)

GRADIENTS: list[Check] = [
    gradient("embeddings", lookup, "", normal(5, 3), by=lambda f, table: f(table, IDS)),
    gradient("embeddings", cosine_similarity, "", normal(3, 4), normal(3, 4, seed=1)),
    gradient("embeddings", cosine_similarity, "one against many", normal(4), normal(3, 4, seed=1)),
    *(gradient("activation", function, "", X) for function in ACTIVATIONS.values()),
    gradient("activation", ACTIVATIONS["gelu"], "tanh form", X, by=lambda f, x: f(x, approximate="tanh")),
    gradient("activation", ACTIVATIONS["leaky_relu"], "other slope", X, by=lambda f, x: f(x, slope=0.3)),
    gradient("activation", erf, "", np.linspace(-5, 5, 24)),
    gradient("feed-forward", mlp, "", X, normal(6, 8), normal(8), normal(8, 5), normal(5)),
    gradient("feed-forward", mlp, "gelu, a batch", normal(2, 3, 4), normal(4, 5), normal(5), normal(5, 4), X[0, :4],
             by=lambda f, *args: f(*args, activation="gelu")),
    gradient("feed-forward", swiglu, "", X, normal(6, 8), normal(6, 8, seed=1), normal(8, 5)),
    gradient("feed-forward", mixture_of_experts, "2 of 3", *MIXTURE, EXPERTS, by=lambda f, *args: f(*args, top_k=2)),
    gradient("feed-forward", mixture_of_experts, "1 of 3", *MIXTURE, EXPERTS, by=lambda f, *args: f(*args, top_k=1)),
    gradient("feed-forward", mixture_of_experts, "all 3", *MIXTURE, EXPERTS,
             by=lambda f, *args: f(*args, top_k=3)),
    gradient("sampling", softmax, "", X),
    gradient("sampling", softmax, "cold columns", X, by=lambda f, x: f(x, temperature=0.7, axis=0)),
    gradient("sampling", softmax, "maximum left in", X, by=lambda f, x: f(x, subtract_max=False)),
    gradient("sampling", log_softmax, "", X),
    gradient("sampling", cross_entropy, "", normal(2, 3, 5), by=lambda f, logits: f(logits, IDS)),
    gradient("sampling", surprisal, "", normal(2, 3, 5), by=lambda f, logits: f(logits, IDS)),
    gradient("sampling", entropy, "", X, by=lambda f, logits: f(softmax(logits))),
    gradient("sampling", top_k, "", X, by=lambda f, logits: softmax(f(logits, 3))),
    gradient("sampling", min_p, "", X, by=lambda f, logits: softmax(f(logits, 0.3))),
    gradient("sampling", repetition_penalty, "", X, by=lambda f, logits: f(logits, [1, 3], 1.3)),
    attending("causal", normal(5, 4, seed=7), K, V, by=lambda f, *qkv: f(*qkv).output),
    attending("three queries, five keys", Q, K, V, by=lambda f, *qkv: f(*qkv).output),
    attending("without a mask", Q, K, V, by=lambda f, *qkv: f(*qkv, causal=False, scale=0.8).output),
    attending("with a bias", Q, K, V, normal(3, 5), by=lambda f, q, k, v, b: f(q, k, v, bias=b).output),
    attending("a batch", normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 2), by=lambda f, *qkv: f(*qkv).output),
    attending("its weights", Q, K, by=lambda f, q, k: f(q, k, V).weights),
    attending("with ALiBi", Q, K, V, by=lambda f, *qkv: f(*qkv, bias=alibi_bias(2, 3, 5)).output),
    sharing("4 on 2 heads", *HEADS, by=lambda f, *qkv: f(*qkv).output),
    sharing("4 on 1 head", *HEADS, by=lambda f, q, k, v: f(q, k[:1], v[:1]).output),
    sharing("without a mask", *HEADS, by=lambda f, *qkv: f(*qkv, causal=False).weights),
    gradient("multi-head", split_heads, "", normal(2, 4, 6), by=lambda f, x: f(x, 3)),
    gradient("multi-head", merge_heads, "", normal(2, 3, 4, 2)),
    gradient("multi-head", head_contributions, "", normal(2, 3, 4, 2), normal(6, 5)),
    turning("interleaved pairs", normal(2, 4, 6), by=lambda f, x: f(x, POSITIONS, layout="interleaved")),
    turning("half-split pairs", normal(2, 4, 6), by=lambda f, x: f(x, POSITIONS, base=100.0, layout="half")),
    turning("stretched", X, by=lambda f, x: f(x, POSITIONS, scaling=("linear", 4.0))),
    turning("YaRN", X, by=lambda f, x: f(x, POSITIONS, scaling=("yarn", 4.0, 64))),
    gradient("rope", sinusoids, "added to the input", X, by=lambda f, x: softmax(x + f(np.arange(4), 6))),
    gradient("block", rms_norm, "", X, normal(6, seed=1)),
    gradient("block", layer_norm, "", X, normal(6, seed=1), normal(6, seed=2)),
    gradient("block", run_block, "all its weights", normal(3, 8), small_block(),
             by=lambda f, x, weights: f(x, Block(**weights), 4, partial(rotate, positions=np.arange(3)))),
]  # fmt: skip
