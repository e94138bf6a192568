"""The KV cache in the real model: with it and without, for one reader and for many, and with a window on it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.block import prefill_flops
from engine.edits import sliding_window
from engine.kv_cache import KVCache, bytes_per_token
from engine.ledger import Config
from engine.model import Ids, Model, Step
from engine.sampling import softmax, surprisal


@dataclass(frozen=True)
class Comparison:
    """The same text continued twice, greedily: with a cache, and running everything anew for each token."""

    cached: tuple[Step, ...]
    uncached: tuple[Step, ...]

    @property
    def same(self) -> bool:
        """Did both choose the same tokens?"""
        return [step.id for step in self.cached] == [step.id for step in self.uncached]

    @property
    def logit_difference(self) -> list[float]:
        """The largest difference of any logit at each step."""
        pairs = zip(self.cached, self.uncached, strict=True)
        return [float(np.max(np.abs(one.logits - other.logits))) for one, other in pairs]


def with_and_without(model: Model, ids: Ids, tokens: int) -> Comparison:
    """Generate `tokens` tokens both ways. Raises RuntimeError if they differ: the cache must change nothing."""
    cached = tuple(model.generate(ids, tokens, cached=True, stop=()))
    uncached = tuple(model.generate(ids, tokens, cached=False, stop=()))
    found = Comparison(cached, uncached)
    if not found.same:
        raise RuntimeError("With and without the cache the model chose different tokens.")
    return found


@dataclass(frozen=True)
class Growth:
    """Measured seconds of one more token, at each length of the text, and what arithmetic predicts."""

    lengths: tuple[int, ...]
    uncached: tuple[float, ...]  # the whole text run anew
    cached: tuple[float, ...]  # the newest token alone
    predicted: tuple[float, ...]  # uncached, from the shortest and the second-longest of them

    @property
    def speed_up(self) -> list[float]:
        """How many times faster the cached step is."""
        return [slow / fast for slow, fast in zip(self.uncached, self.cached, strict=True)]


def step_times(model: Model, ids: Ids, lengths: Sequence[int], runs: int = 2) -> Growth:
    """Run the model over the first n tokens, then over one more with the cache; each time is the quickest of `runs`.

    Running over n tokens is what a step without a cache does, and what fills a cache. All lengths are measured before
    any is measured again: what else a server does comes in bursts, and should not spoil every run of one length. `ids`
    are repeated if they are too few. Raises ValueError for fewer than three lengths: the prediction needs two.
    """
    if len(lengths) < 3:
        raise ValueError("Two lengths are needed for a prediction, and a third to test it.")
    text = np.resize(np.asarray(ids), max(lengths) + 1)
    rounds = [[_both_steps(model, text, length) for length in lengths] for _ in range(runs)]
    uncached, cached = np.min(rounds, axis=0).T.tolist()
    known = (lengths[0], uncached[0]), (lengths[-2], uncached[-2])
    predicted = predicted_seconds(model.config, lengths, *known)
    return Growth(tuple(lengths), tuple(uncached), tuple(cached), tuple(predicted))


def _both_steps(model: Model, text: np.ndarray, length: int) -> tuple[float, float]:
    """Seconds of a run over `length` tokens, and of one more token with the cache that it filled."""
    cache = model.new_cache(length + 1)
    return _seconds(model, text[:length], cache), _seconds(model, text[length : length + 1], cache)


def predicted_seconds(
    config: Config, lengths: Sequence[int], one: tuple[int, float], other: tuple[int, float]
) -> list[float]:
    """Seconds of a run over each length, from two measured ones, each (length, seconds).

    A run costs what every run costs, such as fetching the weights, and its arithmetic: t(n) = a + b · flops(n).
    """
    (few, quick), (many, slow) = one, other
    rate = (slow - quick) / (prefill_flops(config, many).total - prefill_flops(config, few).total)
    return [quick + rate * (prefill_flops(config, n).total - prefill_flops(config, few).total) for n in lengths]


def _seconds(model: Model, ids: np.ndarray, cache: KVCache) -> float:
    started = time.perf_counter()
    model.forward(ids, cache, last_only=True)
    return time.perf_counter() - started


@dataclass(frozen=True)
class BatchTimes:
    """Measured seconds of one cached step for several readers at once."""

    readers: tuple[int, ...]
    seconds: tuple[float, ...]
    cache_bytes: tuple[int, ...]

    @property
    def tokens_a_second(self) -> list[float]:
        """Tokens that all readers together get in a second."""
        return [count / taken for count, taken in zip(self.readers, self.seconds, strict=True)]


def batch_times(model: Model, ids: Ids, readers: Sequence[int], runs: int = 2) -> BatchTimes:
    """The next token after a text, for 1, 2, 4 … readers in one step; the quickest of `runs`."""
    text = np.asarray(ids)[None]
    cache = model.new_cache(text.shape[-1] + 1, batch=1)
    model.forward(text, cache, last_only=True)
    seconds, sizes = [], []
    for count in readers:
        cache.rewind(text.shape[-1])
        cache.reorder([0] * count)  # everyone goes on from the same text
        best = float("inf")
        for _ in range(runs):
            cache.rewind(text.shape[-1])
            best = min(best, _seconds(model, np.tile(text[:, -1:], (count, 1)), cache))
        seconds.append(best)
        sizes.append(cache.nbytes)
    return BatchTimes(tuple(readers), tuple(seconds), tuple(sizes))


@dataclass(frozen=True)
class Windowed:
    """One text read through windows of several widths, the last of them wide enough for everything."""

    widths: tuple[int, ...]
    surprisal: Float[Array, "W predicted"]  # of each token but the first, in nats
    next: Float[Array, "W V"]  # probabilities of the token after the text
    continued: tuple[tuple[int, ...], ...]  # what the model writes on through each window
    kept_bytes: tuple[int, ...]  # of keys and values that can still be seen at the end of the text

    @property
    def loss(self) -> Float[Array, "W"]:
        """Mean surprisal in nats a token."""
        return np.mean(self.surprisal, axis=-1)


def through_windows(model: Model, ids: Ids, widths: Sequence[int], sinks: int = 0, tokens: int = 0) -> Windowed:
    """Read a text once with all windows, as one batch, and continue it greedily by `tokens` tokens; kept.

    Raises ValueError for a text of fewer than two tokens.
    """
    text = tuple(map(int, ids))
    if len(text) < 2:
        raise ValueError("A loss needs at least two tokens: the first only serves to predict the second.")

    def run() -> list[np.ndarray]:
        reach = tuple(width if width < len(text) else len(text) + tokens for width in widths)  # all stays all
        count, edit = len(widths), sliding_window(model.config, reach, sinks)
        cache = model.new_cache(len(text) + tokens, batch=count)
        logits = model.forward(np.tile(text, (count, 1)), cache, edit=edit)
        surprisals = np.stack([surprisal(row[:-1], np.asarray(text[1:])) for row in logits])
        found, newest = [], logits[:, -1]
        for left in range(tokens, 0, -1):
            found.append(np.argmax(newest, axis=-1))
            if left > 1:
                newest = model.forward(found[-1][:, None], cache, edit=edit)[:, -1]
        said = np.stack(found, axis=-1) if found else np.empty((count, 0), int)
        return [surprisals, softmax(logits[:, -1]), said]

    surprisals, after, said = model.memo.get(("windows", text, tuple(widths), sinks, tokens), run)
    each = int(bytes_per_token(model.config, model.weights.embedding.dtype.itemsize))
    kept = tuple(each * int(visible(len(text), width, sinks)) for width in widths)
    return Windowed(tuple(widths), surprisals, after, tuple(tuple(map(int, row)) for row in said), kept)


def visible(length: int, width: int, sinks: int) -> int:
    """How many of `length` tokens the last of them can still see."""
    return min(length, width + sinks)


def useful_widths(length: int, least: int = 1) -> tuple[int, ...]:
    """Powers of two from `least` on below the length of the text, and the length itself: no window."""
    return (*(1 << k for k in range(12) if least <= 1 << k < length), length)
