"""The logit lens: what the model would say next if it stopped after each block.

The stream after any block has the form that the output matrix expects after the last one. Reading it off early shows
how the guess takes shape. Source: nostalgebraist 2020, "Interpreting GPT: the logit lens"; its limits: Belrose et al.
2023, arXiv:2303.08112.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array
from engine.block import rms_norm
from engine.model import Model

AT_ONCE = 128  # streams multiplied with the output matrix together: enough for a fast product, and 25 MB of logits
GROUP = 256  # tokens of the vocabulary whose largest logit is found first


@dataclass(frozen=True)
class Lens:
    """For the embedding (row 0) and after each block: the likeliest tokens of every position asked for."""

    top_ids: Int[Array, "rows T k"]  # likeliest first
    top_probabilities: Float[Array, "rows T k"]
    norms: Float[Array, "rows T"]  # length of the stream's vector
    final_ranks: Int[Array, "rows T"]  # place of the model's own choice, the last row's, among all tokens; 1 is first
    final_probabilities: Float[Array, "rows T"]  # and its probability

    @property
    def ids(self) -> Int[Array, "rows T"]:
        """The likeliest token."""
        return self.top_ids[..., 0]

    @property
    def probabilities(self) -> Float[Array, "rows T"]:
        """Its probability."""
        return self.top_probabilities[..., 0]


def logit_lens(model: Model, trace: Mapping[str, Array], positions: slice = slice(None), k: int = 5) -> Lens:
    """Last norm and output matrix applied to the stream after every block. `trace` is `model.trace(ids)`."""
    streams = np.stack(residual_stream(trace, model.config.layers))[:, positions]
    normed = rms_norm(streams, model.weights.final_norm, model.config.eps)
    followed = np.tile(np.argmax(trace["logits"][positions], axis=-1), len(streams))
    rows = normed.reshape(-1, normed.shape[-1])
    parts = [
        _read_off(rows[at : at + AT_ONCE] @ model.weights.unembedding.rows.T, followed[at : at + AT_ONCE], k)
        for at in range(0, len(rows), AT_ONCE)
    ]
    top_ids, top, ranks, own = (
        np.concatenate(part).reshape(*streams.shape[:2], *part[0].shape[1:]) for part in zip(*parts, strict=True)
    )
    return Lens(top_ids, top, np.linalg.norm(streams, axis=-1), ranks, own)


def residual_stream(trace: Mapping[str, Array], layers: int) -> list[Float[Array, "T D"]]:
    """The stream before the first block and after each of them."""
    return [trace["embed"], *(trace[f"blk.{i}.resid"] for i in range(layers))]


def kept_lens(model: Model, ids: Sequence[int]) -> Lens:
    """The lens of a whole text, kept by the model: the second look costs nothing."""
    key = tuple(map(int, ids))
    return Lens(*model.memo.get(("lens", key), lambda: tuple(vars(logit_lens(model, model.trace(key))).values())))


def _read_off(logits: Array, followed: Array, k: int) -> tuple[Array, Array, Array, Array]:
    """Of rows of logits: the k likeliest tokens, their probabilities, and rank and probability of one token each."""
    top_ids = largest(logits, k)
    top, own = np.take_along_axis(logits, top_ids, -1), np.take_along_axis(logits, followed[:, None], -1)
    total = np.sum(np.exp(logits - top[:, :1]), axis=-1, keepdims=True)
    ranks = 1 + np.sum(logits > own, axis=-1)
    return top_ids, np.exp(top - top[:, :1]) / total, ranks, (np.exp(own - top[:, :1]) / total)[:, 0]


def largest(rows: Float[Array, "R V"], k: int) -> Int[Array, "R k"]:
    """Places of the k largest numbers of each row, largest first, without sorting the row.

    They lie in the k groups with the largest maxima, so that only those are looked through.
    """
    missing = -rows.shape[1] % GROUP
    whole = np.pad(rows, ((0, 0), (0, missing)), constant_values=-np.inf) if missing else rows
    groups = whole.reshape(len(rows), -1, GROUP)
    count = min(k, groups.shape[1])
    best = np.sort(np.argpartition(-np.max(groups, axis=-1), count - 1, axis=-1)[:, :count], axis=-1)
    candidates = np.take_along_axis(groups, best[:, :, None], axis=1).reshape(len(rows), -1)
    order = np.argsort(-candidates, axis=-1, kind="stable")[:, :k]
    return np.take_along_axis(best, order // GROUP, axis=-1) * GROUP + order % GROUP
