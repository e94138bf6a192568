"""Pictures of the gates in the real model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine import gates
from engine.activation import silu
from engine.tokenization import token_bytes
from pages._chips import label
from pages._reading import ENCODING, Reading
from ui.figures import Picture, bars, curve, histogram, row, tokens

BEFORE, AFTER = (-4.0, 4.0, 64), (-0.4, 1.6, 100)
"""Edges that fall on hundredths, as the threshold does."""


def whose(reading: Reading, token: int) -> Picture:
    """All tokens, or one of them: number 0 stands for all."""
    return tokens(
        [{"text": "all tokens"}, *({"text": label(token_bytes(i, ENCODING))} for i in reading.ids)],
        title="Whose neurons: click a token",
        pick="token",
        picked=token,
        show=["no-ids", "plain"],
    )


def histograms(before: np.ndarray, opening: np.ndarray, layer: int, threshold: float) -> Picture:
    """The gates before and after SiLU; filled where the opening is nearer to 0 than the threshold."""
    first, second = gates.histogram(before, *BEFORE), gates.histogram(opening, *AFTER)
    off = np.abs(silu((first.edges[1:] + first.edges[:-1]) / 2)) < threshold
    return row(
        histogram(
            first.edges,
            first.counts,
            title=f"Gates of layer {layer} before SiLU",
            tensor="ffn",
            x_label="gate",
            y_label="neurons",
            marker=0.0,
            shade=[(first.edges[i], first.edges[i + 1]) for i in np.flatnonzero(off)] or [(9.0, 9.0)],
        ),
        histogram(
            second.edges,
            second.counts,
            title="After SiLU: the openings",
            tensor="ffn",
            x_label=f"SiLU(gate); {second.beyond:,} more lie to the right",
            y_label="neurons",
            marker=0.0,
            shade=[(-threshold, threshold)],
        ),
    )


def shares_by_layer(shares: np.ndarray, layer: int, threshold: float) -> Picture:
    """How many openings are nearer to 0 than the threshold, in each layer."""
    return curve(
        [("share nearly off", np.arange(len(shares)), shares)],
        title=f"Share of openings within ±{threshold:g}, layer by layer (all tokens)",
        x_label="layer",
        y_label="share",
        tensors=["ffn"],
        points=True,
        marker=(layer, float(shares[layer])),
    )


def next_tokens(names: Sequence[str], plain: np.ndarray, after: np.ndarray, change: str) -> Picture:
    """The likeliest next tokens of both, with their probabilities before and after."""
    return row(
        bars(names, plain, title="Next token, as the model is", tensor="logits", share=True, limit=1),
        bars(names, after, title=f"With this change: {change}", tensor="logits", share=True, limit=1),
    )


def surprisals(plain: np.ndarray, after: np.ndarray) -> Picture:
    """Token by token, the first left out: nothing comes before it."""
    at = np.arange(2, len(plain) + 2)
    return curve(
        [("as it is", at, plain), ("changed", at, after)],
        title="Surprisal of each token of your sentence, in nats",
        x_label="token",
        y_label="nats",
        tensors=["resid", "logits"],
        points=True,
    )
