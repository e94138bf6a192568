"""The second half of a run: from the stream before some block to the end, and from the last stream to the logits.

Experiments on one layer leave everything before it as it was, so only the rest is run again. Works on traced arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array
from engine.block import nothing_remembered, rms_norm, run_block
from engine.model import Model
from engine.rope import rotate
from engine.tap import Tap, keep, prefixed


def run_rest(
    model: Model,
    x: Float[Array, "*batch T D"],
    first: int,
    positions: Int[Array, "T"],
    past: Sequence[tuple[Array, Array]] = (),
    tap: Tap = keep,
) -> Float[Array, "*batch T D"]:
    """The stream after the last block, from the stream before block `first`.

    `past` holds the keys and values of earlier positions for each of these blocks, where `x` begins in mid-text.
    """
    assert model.config.rope_base, "a Llama has RoPE"
    turn = partial(rotate, positions=positions, base=model.config.rope_base)
    for i, block in enumerate(model.weights.blocks[first:], first):
        remember = partial(_joined, *past[i - first]) if past else nothing_remembered
        inside = prefixed(tap, f"blk.{i}.")
        x = run_block(x, block, model.config.heads, turn, eps=model.config.eps, remember=remember, tap=inside)
    return x


def _joined(past_k: Array, past_v: Array, k: Array, v: Array) -> tuple[Array, Array]:
    return np.concatenate([past_k, k], axis=-2), np.concatenate([past_v, v], axis=-2)


def logits_of(model: Model, x: Float[Array, "n D"]) -> Float[Array, "n V"]:
    """What the model says from rows of the last stream: last norm, then the output matrix."""
    return rms_norm(x, model.weights.final_norm, model.config.eps) @ model.weights.unembedding
