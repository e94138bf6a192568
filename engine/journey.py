"""One sentence through everything: the model writes a few tokens with its cache, and what happened is kept by stage.

The loop is that of `Model.generate`; here every run also leaves what a chapter of its own looks at.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array
from engine.continuation import logits_of
from engine.edits import Trace
from engine.model import END_IDS, Model
from engine.rope import frequencies
from engine.sampling import sample

LENS_STEP = 3  # blocks from one look at the residual stream to the next
KEPT = ("embed", "blk.*.attn.weights", "blk.*.ffn.hidden", "blk.*.resid", "logits")


@dataclass(frozen=True)
class Stop:
    """One run of the model, and the token that came of it. Everything is of the newest position."""

    read: Int[Array, "n"]  # the tokens read in this run: the whole text first, then one each time
    position: int  # of the newest token, from 0
    embedding: Float[Array, "D"]  # the newest token's row of the table
    angles: Float[Array, "pairs"]  # by how much RoPE has turned each pair, in radians
    attention: Float[Array, "L H T"]  # where the newest token looks
    hidden: Float[Array, "L F"]  # activated gate times value, neuron by neuron
    lens_ids: Int[Array, "looks"]  # what the stream would say after 0, 3, 6 … blocks
    lens_p: Float[Array, "looks"]
    logits: Float[Array, "V"]
    chosen: int
    draw: float  # the uniform number; the chosen token owns the stretch from low to high
    low: float
    high: float
    cache_bytes: int  # keys and values of everything read so far
    seconds: float  # that the run took


def journey(
    model: Model, ids: Sequence[int], tokens: int, temperature: float | int = 0.8, seed: int = 1
) -> tuple[Stop, ...]:
    """Up to `tokens` runs, one token each; fewer where the model ends the text. Read-only, and kept by the model."""
    key = ("journey", tuple(map(int, ids)), tokens, temperature, seed)

    def run() -> tuple[Stop, ...]:
        rng, cache, fresh = np.random.default_rng(seed), model.new_cache(len(ids) + tokens), list(map(int, ids))
        stops: list[Stop] = []
        while len(stops) < tokens and (not stops or stops[-1].chosen not in END_IDS):
            trace, start = Trace(*KEPT), time.perf_counter()
            model.forward(fresh, cache, trace=trace, last_only=True)
            seconds = time.perf_counter() - start
            stops.append(_stop(model, trace, fresh, cache.length, cache.nbytes, seconds, rng, temperature))
            fresh = [stops[-1].chosen]
        return tuple(stops)

    found: tuple[Stop, ...] = model.memo.get(key, run)
    return found


def _stop(
    model: Model, trace: Trace, fresh: Sequence[int], length: int, nbytes: int, seconds: float,
    rng: np.random.Generator, temperature: float | int,
) -> Stop:  # fmt: skip
    layers = range(model.config.layers)
    drawn = sample(trace["logits"][-1], rng, temperature)
    lens_ids, lens_p = _lens(model, trace)
    assert model.config.rope_base
    return Stop(
        read=np.array(fresh),
        position=length - 1,
        embedding=trace["embed"][-1].copy(),
        angles=(length - 1) * frequencies(model.config.head_dim, model.config.rope_base),
        attention=np.stack([trace[f"blk.{i}.attn.weights"][:, -1] for i in layers]),
        hidden=np.stack([trace[f"blk.{i}.ffn.hidden"][-1] for i in layers]),
        lens_ids=lens_ids,
        lens_p=lens_p,
        logits=trace["logits"][-1].copy(),
        chosen=drawn.token,
        draw=drawn.draw,
        low=drawn.low,
        high=drawn.high,
        cache_bytes=nbytes,
        seconds=seconds,
    )


def _lens(model: Model, trace: Trace) -> tuple[Int[Array, "looks"], Float[Array, "looks"]]:
    """The likeliest token, and its probability, read off the stream before the first block and after every third."""
    last = model.config.layers - 1
    streams = [trace["embed"][-1], *(trace[f"blk.{i}.resid"][-1] for i in range(LENS_STEP - 1, last + 1, LENS_STEP))]
    logits = logits_of(model, np.stack(streams))
    best = np.argmax(logits, axis=-1)
    top = np.max(logits, axis=-1)
    return best, 1 / np.sum(np.exp(logits - top[:, None]), axis=-1)


def lens_depths(layers: int) -> list[int]:
    """How many blocks lie before each look of the lens."""
    return [0, *range(LENS_STEP, layers + 1, LENS_STEP)]


def strongest_neurons(stop: Stop, block: int, count: int = 5) -> list[tuple[int, float]]:
    """The neurons of a block that fire most for the newest token: (number, value), the largest size first."""
    values = stop.hidden[block]
    order = np.argsort(-np.abs(values), kind="stable")[:count]
    return [(int(i), float(values[i])) for i in order]
