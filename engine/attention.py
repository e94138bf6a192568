"""Scaled dot-product attention: softmax(Q Kᵀ / √d + mask) V. Every query looks at every key it may see.

Source: Vaswani et al. 2017, "Attention Is All You Need", arXiv:1706.03762, section 3.2.1. Left out: dropout, and the
tiling by which fast kernels avoid ever holding all scores at once (Dao et al. 2022, arXiv:2205.14135).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from engine.arrays import Array
from engine.sampling import softmax
from engine.tap import Tap, keep


@dataclass(frozen=True)
class Attention:
    """Every step of one attention, T queries against S keys."""

    scores: Float[Array, "... T S"]  # q · k times the scale
    masked: Float[Array, "... T S"]  # the scores plus any bias, with minus infinity where a query may not look
    weights: Float[Array, "... T S"]  # softmax of those: each row sums to 1
    output: Float[Array, "... T e"]  # each query's weighted mix of the values


def attention(
    q: Float[Array, "*#batch T d"],
    k: Float[Array, "*#batch S d"],
    v: Float[Array, "*#batch S e"],
    *,
    causal: bool = True,
    scale: float | int | None = None,
    bias: Float[Array, "*#batch T S"] | None = None,
    subtract_max: bool = True,
    tap: Tap = keep,
) -> Attention:
    """Each query takes the mix of those values whose keys it matches.

    Scores are multiplied by `scale`, 1/√d unless given. `causal` hides keys that lie after the query; the T queries are
    the last of the S positions, so that a cached model can ask about its newest tokens only. `bias` is added to the
    scores (ALiBi). Leading axes are batch axes. `subtract_max=False` shows what overflows. `tap` sees, and may replace,
    "scores" and "weights". Raises ValueError for a causal attention with fewer keys than queries.
    """
    if scale is None:
        scale = 1.0 / math.sqrt(q.shape[-1])
    scores = tap("scores", q @ np.swapaxes(k, -1, -2) * float(scale))
    masked = scores if bias is None else scores + bias
    if causal and q.shape[-2] > 1:  # a single query is the last position and may look everywhere
        masked = np.where(causal_mask(q.shape[-2], k.shape[-2]), masked, -np.inf)
    weights = tap("weights", softmax(masked, subtract_max=subtract_max))
    return Attention(scores, masked, weights, weights @ v)


def causal_mask(queries: int, keys: int) -> Bool[Array, "T S"]:
    """True where a query may look: at its own position and before; the queries are the last of the positions."""
    if queries > keys:
        raise ValueError(f"Causal attention needs a key for every query: {queries} queries, only {keys} keys.")
    return np.arange(keys) <= np.arange(keys - queries, keys)[:, None]


def window_mask(queries: int, keys: int, width: int, sinks: int = 0) -> Bool[Array, "T S"]:
    """True for the last `width` keys up to each query, itself included, and for the first `sinks` keys of the text.

    What comes after the query is the causal mask's business. Sources: sliding windows in Beltagy et al. 2020,
    arXiv:2004.05150, and Mistral 7B, arXiv:2310.06825; first tokens kept as sinks in Xiao et al. 2023,
    arXiv:2309.17453. Raises ValueError for a window that would not even hold the query's own position.
    """
    if width < 1:
        raise ValueError(f"A window holds at least the token itself, not {width} tokens.")
    key, query = np.arange(keys), np.arange(keys - queries, keys)[:, None]
    return (key > query - width) | (key < sinks)


@dataclass(frozen=True)
class Cost:
    """Arithmetic (multiplications and additions) and memory of one layer's attention over T tokens."""

    projections: int  # of the stream to queries, keys and values, and back: grows with T
    scores: int  # q · k for every pair: grows with T²
    mix: int  # weights times values: as much again
    score_bytes: int  # one T × T matrix of scores for each head


def cost(
    tokens: int, width: int, heads: int, kv_heads: int, head_dim: int, *, causal: bool = True, bytes_per_value: int = 4
) -> Cost:
    """What attention costs one layer when `tokens` tokens are read at once; softmax, a few per cent, is not counted.

    `causal` counts only the T (T + 1) / 2 pairs that may look at each other. The plain code above computes all T² and
    masks the rest; fast kernels skip it.
    """
    pairs = tokens * (tokens + 1) // 2 if causal else tokens * tokens
    products = 2 * pairs * heads * head_dim
    projections = 2 * tokens * width * head_dim * 2 * (heads + kv_heads)
    return Cost(projections, products, products, heads * tokens * tokens * bytes_per_value)
