"""The transformer block: normalise, attend, add to the stream; normalise, feed forward, add to the stream.

This is the pre-norm block of the Llama family (Touvron et al. 2023, arXiv:2302.13971): RMSNorm, grouped-query attention
with rotary positions, SwiGLU, no biases. The first transformer normalised after adding; Xiong et al. 2020,
arXiv:2002.04745, on why before is better. What published models are made of is counted in `engine/ledger.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.attention import cost
from engine.feed_forward import parameter_count, swiglu_steps
from engine.ledger import CONFIGS, Config, LedgerRow, active_parameters, parameter_ledger, total_parameters
from engine.multi_head import grouped_query_attention, merge_heads, split_heads
from engine.tap import Tap, keep, prefixed

__all__ = [
    "CONFIGS", "Block", "Config", "LedgerRow", "Prefill", "active_parameters", "attention_sublayer", "ffn_sublayer",
    "layer_norm", "parameter_ledger", "prefill_flops", "rms_norm", "run_block", "total_parameters",
]  # fmt: skip


def rms_norm(x: Float[Array, "... D"], weight: Float[Array, "D"], eps: float = 1e-5) -> Float[Array, "... D"]:
    """x / √(mean(x²) + eps) · weight: each row scaled to size 1, direction kept.

    Source: Zhang and Sennrich 2019, arXiv:1910.07467, equation 4; eps as in Llama, inside the root.
    """
    mean_square = np.mean(x * x, axis=-1, keepdims=True)
    return x / np.sqrt(mean_square + float(eps)) * weight


def layer_norm(
    x: Float[Array, "... D"], weight: Float[Array, "D"], bias: Float[Array, "D"], eps: float = 1e-5
) -> Float[Array, "... D"]:
    """(x − mean) / √(variance + eps) · weight + bias, mean and variance (divided by D) of each row.

    Source: Ba et al. 2016, arXiv:1607.06450, equation 4.
    """
    centred = x - np.mean(x, axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    return centred / np.sqrt(variance + float(eps)) * weight + bias


@dataclass(frozen=True)
class Block:
    """The weights of one block: two norms, four matrices of attention, three of the feed-forward network.

    Matrices act as x @ w and have the shape (in, out). Heads lie side by side: columns h·d to (h + 1)·d of w_q belong
    to query head h, and so for w_k and w_v.
    """

    attn_norm: Float[Array, "D"]
    w_q: Float[Array, "D Hd"]
    w_k: Float[Array, "D Kd"]
    w_v: Float[Array, "D Kd"]
    w_o: Float[Array, "Hd D"]
    ffn_norm: Float[Array, "D"]
    w_gate: Float[Array, "D F"]
    w_up: Float[Array, "D F"]
    w_down: Float[Array, "F D"]


Turn = Callable[[Array], Array]  # positions into queries and keys: rope.rotate with its positions filled in
Remember = Callable[[Array, Array], tuple[Array, Array]]  # a KV cache: takes the new keys and values, gives all


def nothing_remembered(k: Array, v: Array) -> tuple[Array, Array]:
    """The cache that holds nothing: all keys and values are the ones just computed."""
    return k, v


def attention_sublayer(
    x: Float[Array, "... T D"],
    block: Block,
    heads: int,
    turn: Turn,
    *,
    eps: float = 1e-5,
    remember: Remember = nothing_remembered,
    tap: Tap = keep,
) -> Float[Array, "... T D"]:
    """What attention adds to the stream; the arguments are those of `run_block`."""
    head_dim = block.w_q.shape[-1] // heads
    kv_heads = block.w_k.shape[-1] // head_dim
    normed = tap("norm", rms_norm(x, block.attn_norm, eps))
    q = tap("q_raw", split_heads(normed @ block.w_q, heads))
    k = tap("k_raw", split_heads(normed @ block.w_k, kv_heads))
    v = tap("v", split_heads(normed @ block.w_v, kv_heads))
    turned = turn(np.concatenate([q, k], axis=-3))  # together, which takes half the time
    q, k = tap("q", turned[..., :heads, :, :]), tap("k", turned[..., heads:, :, :])
    keys, values = remember(k, v)
    output = tap("output", merge_heads(grouped_query_attention(q, keys, values, tap=tap).output))
    return tap("out", output @ block.w_o)


def ffn_sublayer(
    x: Float[Array, "... T D"], block: Block, *, eps: float = 1e-5, tap: Tap = keep
) -> Float[Array, "... T D"]:
    """What the feed-forward network adds to the stream."""
    normed = tap("norm", rms_norm(x, block.ffn_norm, eps))
    return tap("out", swiglu_steps(normed, block.w_gate, block.w_up, block.w_down, tap=tap).output)


def run_block(
    x: Float[Array, "... T D"],
    block: Block,
    heads: int,
    turn: Turn,
    *,
    eps: float = 1e-5,
    remember: Remember = nothing_remembered,
    tap: Tap = keep,
) -> Float[Array, "... T D"]:
    """The stream after the block, from the stream before it.

    `turn` puts positions into queries and keys, `remember` is where a KV cache adds the earlier ones. `tap` is shown
    every step by name and may replace it: attn.norm; attn.q_raw, attn.k_raw, attn.v by heads (H, T, d); attn.q, attn.k
    with their positions; attn.scores, attn.weights (H, T, S); attn.output, what the heads found, side by side (T, H d);
    attn.out, which is added to the stream; attn.resid, the stream after that; ffn.norm; ffn.gate, ffn.up, ffn.hidden
    (T, F); ffn.out; and resid, the stream after the block. Raises TypeError when the result has another dtype than x.
    """
    attended = attention_sublayer(x, block, heads, turn, eps=eps, remember=remember, tap=prefixed(tap, "attn."))
    middle = tap("attn.resid", x + attended)
    after = tap("resid", middle + ffn_sublayer(middle, block, eps=eps, tap=prefixed(tap, "ffn.")))
    if after.dtype != x.dtype:  # one float64 array anywhere would make every following product 20 times slower
        raise TypeError(
            f"The block was given {x.dtype} and came out as {after.dtype}: something in it is not {x.dtype}."
        )
    return after


@dataclass(frozen=True)
class Prefill:
    """Arithmetic (multiplications and additions) of reading T tokens at once, in all blocks."""

    projections: int
    scores_and_mix: int
    feed_forward: int
    output: int  # logits of the last position only

    @property
    def total(self) -> int:
        """The sum of the parts."""
        return self.projections + self.scores_and_mix + self.feed_forward + self.output


def prefill_flops(config: Config, tokens: int) -> Prefill:
    """What it costs a model to read a prompt. Sliding windows, norms, activations and biases are not counted."""
    attention = cost(tokens, config.width, config.heads, config.kv_heads, config.head_dim)
    weights = parameter_count(replace(config, bias=False), active=True)
    return Prefill(
        projections=config.layers * attention.projections,
        scores_and_mix=config.layers * (attention.scores + attention.mix),
        feed_forward=config.layers * 2 * tokens * weights,
        output=2 * config.width * config.vocabulary,
    )
