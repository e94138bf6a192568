"""Keys and values of a text kept with fewer bits: each token's numbers under one scale, or each channel's.

Source: Liu et al. 2024, "KIVI", arXiv:2402.02750: keys have a few channels that are large at every token, values have
not, so keys are rounded by channel and values by token. Left out: KIVI's groups of 32 and its newest tokens in full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.edits import Edit
from engine.model import Ids, Model
from engine.quantization import quantize
from engine.requantization import divergence
from engine.sampling import surprisal

AXES = {"token": "a scale a token", "channel": "a scale a channel"}
WAYS: tuple[tuple[str, str, bool], ...] = (
    ("token", "token", False),
    ("channel", "token", False),
    ("token", "channel", False),
    ("channel", "token", True),
)
"""(keys by, values by, keys before RoPE), all run at once."""


def quantize_cache(x: Float[Array, "*heads T d"], bits: int, axis: str, spare: int = 0) -> Float[Array, "*heads T d"]:
    """Keys or values (heads, T, d) rounded asymmetrically, each head for itself, and turned back into floats.

    A scale and a minimum "token" by "token" over the d numbers of a head, or "channel" by "channel" over all T tokens.
    The first `spare` tokens stay as they are. Raises ValueError for another axis.
    """
    if axis not in AXES:
        raise ValueError(f"A scale belongs to a token or to a channel, not to {axis!r}.")
    kept, rest = x[..., :spare, :], x[..., spare:, :]
    if rest.shape[-2] == 0:
        return x
    if axis == "channel":
        rounded = np.swapaxes(
            quantize(np.swapaxes(rest, -1, -2), bits, symmetric=False, group="row").dequantized, -1, -2
        )
    else:
        rounded = quantize(rest, bits, symmetric=False, group="row").dequantized
    return np.concatenate([kept, rounded], axis=-2)


def cache_error(x: Float[Array, "*heads T d"], bits: int, axis: str, spare: int = 0) -> float:
    """RMS error ÷ RMS size of the rounded tokens."""
    rounded = quantize_cache(x, bits, axis, spare)
    size = np.mean(np.square(x[..., spare:, :], dtype=np.float64))
    return float(np.sqrt(np.mean(np.square(rounded - x, dtype=np.float64)[..., spare:, :]) / size)) if size else 0.0


def outlier_channels(x: Float[Array, "T d"], times: float = 4.0) -> np.ndarray:
    """The channels whose largest |x| is more than `times` the median channel's, largest first."""
    largest = np.max(np.abs(x), axis=-2)
    order = np.argsort(-largest, kind="stable")
    return order[largest[order] > times * np.median(largest)]


def rounded_cache(bits: int, keys: str, values: str, before_rope: bool, layers: int, spare: int = 0) -> Edit:
    """Keys and values of all blocks rounded: what a model reads from a cache kept in `bits` bits."""
    name = "k_raw" if before_rope else "k"
    edit: dict[str, Any] = {}
    for i in range(layers):
        edit[f"blk.{i}.attn.{name}"] = lambda x, seen: quantize_cache(x, bits, keys, spare)
        edit[f"blk.{i}.attn.v"] = lambda x, seen: quantize_cache(x, bits, values, spare)
    return edit


@dataclass(frozen=True)
class Effect:
    """What a rounded cache does to a text."""

    keys: str
    values: str
    before_rope: bool
    loss: float
    divergence: float  # mean KL(unrounded ‖ rounded) of the guesses, in nats
    guess: int  # the likeliest next token


def effects(model: Model, ids: Ids, bits: int, spare: int = 0) -> tuple[Effect, ...]:
    """Every one of `WAYS` on one text: the loss, and how far the guesses move; kept. All are run as one batch."""
    text = tuple(map(int, ids))

    def run() -> tuple[Effect, ...]:
        edit = _all_ways(bits, model.config.layers, spare)
        logits = model.forward(np.tile(np.array(text), (len(WAYS), 1)), edit=edit)
        plain = model.trace(text)["logits"]
        return tuple(_effect(way, plain, rounded, text) for way, rounded in zip(WAYS, logits, strict=True))

    return model.memo.get(("rounded cache", text, bits, spare), run)


def plain_loss(model: Model, ids: Ids) -> float:
    """The loss with keys and values as they are; kept."""
    text = tuple(map(int, ids))
    return model.memo.get(
        ("plain loss", text),
        lambda: float(np.mean(surprisal(model.trace(text)["logits"][:-1], np.asarray(text)[1:]))),
    )


def _all_ways(bits: int, layers: int, spare: int) -> Edit:
    """Text i of the batch is rounded in way i."""

    def part(axes: list[str]) -> Any:
        def rounded(x: Any, seen: Any) -> Any:
            pairs = zip(x, axes, strict=True)
            return np.stack([quantize_cache(one, bits, axis, spare) if axis else one for one, axis in pairs])

        return rounded

    before = [keys if raw else "" for keys, _, raw in WAYS]
    after = ["" if raw else keys for keys, _, raw in WAYS]
    names = {"k_raw": part(before), "k": part(after), "v": part([values for _, values, _ in WAYS])}
    return {f"blk.{i}.attn.{name}": patch for i in range(layers) for name, patch in names.items()}


def _effect(way: tuple[str, str, bool], plain: np.ndarray, rounded: np.ndarray, text: tuple[int, ...]) -> Effect:
    loss = float(np.mean(surprisal(rounded[:-1], np.asarray(text)[1:]))) if len(text) > 1 else 0.0
    return Effect(*way, loss, divergence(plain, rounded), int(np.argmax(rounded[-1])))
