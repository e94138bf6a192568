"""Several attentions side by side, and key/value heads shared by several query heads.

Sources: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2 (multi-head); Shazeer 2019, arXiv:1911.02150
(multi-query); Ainslie et al. 2023, arXiv:2305.13245 (grouped-query).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.attention import Attention, attention
from engine.tap import Tap, keep


def split_heads(x: Float[Array, "... T D"], heads: int) -> Float[Array, "... H T d"]:
    """(..., T, D) -> (..., heads, T, D / heads): head h gets the h-th slice of each row."""
    *batch, tokens, width = x.shape
    if width % heads:
        raise ValueError(f"A width of {width} cannot be split into {heads} equal heads.")
    return np.swapaxes(np.reshape(x, (*batch, tokens, heads, width // heads)), -2, -3)


def merge_heads(x: Float[Array, "... H T d"]) -> Float[Array, "... T D"]:
    """(..., heads, T, d) -> (..., T, heads * d): the inverse of split_heads."""
    *batch, heads, tokens, head_dim = x.shape
    return np.reshape(np.swapaxes(x, -2, -3), (*batch, tokens, heads * head_dim))


def head_contributions(found: Float[Array, "... H T d"], w_o: Float[Array, "Hd D"]) -> Float[Array, "... H T D"]:
    """What each head adds by itself: its own output through its own d rows of w_o. Summed: merge_heads(found) @ w_o.

    A row times a stack of matrices is the sum of its pieces times theirs: so heads write independently of each other
    (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits", transformer-circuits.pub).
    """
    *_, heads, _, head_dim = found.shape
    return found @ np.reshape(w_o, (heads, head_dim, w_o.shape[-1]))


def grouped_query_attention(
    q: Float[Array, "*batch H T d"],
    k: Float[Array, "*batch K S d"],
    v: Float[Array, "*batch K S e"],
    *,
    causal: bool = True,
    scale: float | int | None = None,
    tap: Tap = keep,
) -> Attention:
    """Attention in which query head h reads key/value head h // (H / K); K = H is multi-head, K = 1 multi-query.

    Nothing is copied: the query heads are regrouped to (K, H / K, T, d), and the keys broadcast over the group.
    `tap` sees "scores" and "weights" as (H, T, S).
    """
    *batch, heads, tokens, _ = q.shape
    kv_heads = k.shape[-3]
    if heads % kv_heads:
        raise ValueError(f"{heads} query heads cannot share {kv_heads} key/value heads evenly.")

    def group(x: Array) -> Array:
        return x.reshape(*batch, kv_heads, heads // kv_heads, tokens, x.shape[-1])

    def ungroup(x: Array) -> Array:
        return x.reshape(*batch, heads, tokens, x.shape[-1])

    def grouped_tap(name: str, value: Any) -> Any:
        return value if tap is keep else group(tap(name, ungroup(value)))

    keys, values = k[..., None, :, :], v[..., None, :, :]
    result = attention(group(q), keys, values, causal=causal, scale=scale, tap=grouped_tap)
    return Attention(*(ungroup(step) for step in (result.scores, result.masked, result.weights, result.output)))
