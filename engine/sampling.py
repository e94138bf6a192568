"""From logits to the next token: softmax, the filters that cut its tail, the random draw, and beam search.

A *logit* is the model's unnormalised score for one token; softmax turns a row of them into probabilities. Every filter
here takes logits and returns logits, with what it removed set to minus infinity, so that filters chain and softmax
stays the only way to probabilities. There is one softmax in this engine: attention uses it too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from engine.arrays import Array, constant


def softmax(
    logits: Float[Array, "..."], temperature: float | int = 1.0, axis: int = -1, subtract_max: bool = True
) -> Float[Array, "..."]:
    """Probabilities along `axis`: p_i = exp(z_i / T) / Σ_j exp(z_j / T).

    Temperature 0 means that the largest logit takes everything (the first of equals). The maximum is subtracted before
    exp, which changes nothing in exact arithmetic and keeps exp from overflowing (float32: above 88.7);
    `subtract_max=False` leaves that out, to show the nan that comes of it. Raises ValueError for a negative
    temperature and for a row without a logit above minus infinity.
    """
    if not temperature >= 0:
        raise ValueError(f"The temperature must be 0 or more, not {temperature}.")
    largest = _largest(logits, axis)
    if temperature == 1 and subtract_max:  # the plain case, first because every attention head takes it
        exponentials = np.exp(logits - largest)
        return exponentials / np.sum(exponentials, axis=axis, keepdims=True)
    if temperature < np.finfo(logits.dtype).tiny:  # 0, or nothing that this dtype could divide by
        return _one_hot_of_largest(logits, axis)
    shifted = logits - largest if subtract_max else logits
    # A tiny temperature may divide to minus infinity, whose exp is rightly 0.
    with np.errstate(over="ignore", invalid="warn" if subtract_max else "ignore"):
        exponentials = np.exp(shifted / float(temperature))
        return exponentials / np.sum(exponentials, axis=axis, keepdims=True)


def _largest(logits: Float[Array, "..."], axis: int = -1) -> Float[Array, "..."]:
    """The largest logit along the axis, which must not be minus infinity: something has to be left to choose.

    A constant for gradients: whatever is subtracted from all logits alike, no probability changes.
    """
    largest = np.max(constant(logits), axis=axis, keepdims=True)
    if np.any(largest == -np.inf):
        raise ValueError("Every choice has been removed: at least one logit must be above minus infinity.")
    return largest


def _one_hot_of_largest(logits: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    winners = np.expand_dims(np.argmax(logits, axis=axis), -1)
    one_hot = winners == np.arange(logits.shape[axis])
    return np.moveaxis(one_hot, -1, axis).astype(logits.dtype)


def log_softmax(logits: Float[Array, "..."], axis: int = -1) -> Float[Array, "..."]:
    """log softmax(logits), without forming a probability that could round to 0."""
    shifted = logits - _largest(logits, axis)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def cross_entropy(logits: Float[Array, "*batch V"], targets: Int[Array, "*batch"]) -> Float[Array, ""]:
    """Mean over all positions of −log p(target), in nats; `targets` are token ids."""
    return np.mean(surprisal(logits, targets))


def surprisal(logits: Float[Array, "*batch V"], targets: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """−log p(target) at each position, in nats: 0 for a certain token, large for an unexpected one."""
    vocabulary = logits.shape[-1]
    targets = np.asarray(targets)
    if targets.size and not 0 <= np.min(targets) <= np.max(targets) < vocabulary:
        raise ValueError(f"Target ids must lie between 0 and {vocabulary - 1}.")
    rows = np.reshape(log_softmax(logits), (-1, vocabulary))
    chosen = rows[np.arange(rows.shape[0]), targets.reshape(-1)]
    return np.reshape(0.0 - chosen, targets.shape)  # a mere minus sign would turn 0 into −0


def entropy(p: Float[Array, "*batch n"]) -> Float[Array, "*batch"]:
    """Shannon entropy in nats along the last axis, −Σ p log p with 0 log 0 = 0: 0 if certain, log n if uniform."""
    return 0.0 - np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=-1)


# Filters -------------------------------------------------------------------------------------------------------------


def top_k(logits: Float[Array, "*batch V"], k: int) -> Float[Array, "*batch V"]:
    """Keep the k largest logits; of equal ones those with the lower ids. Source: Fan et al. 2018, arXiv:1805.04833."""
    if k < 1:
        raise ValueError(f"Top-k must keep at least 1 token, not {k}.")
    _largest(logits)
    count = np.full((*logits.shape[:-1], 1), min(k, logits.shape[-1]))
    return _removed_unless(_among_first(logits, falling_order(logits), count), logits)


def top_p(logits: Float[Array, "*batch V"], p: float | int) -> Float[Array, "*batch V"]:
    """Keep the most probable tokens until together they have probability p; the one that reaches it stays.

    Also called nucleus sampling: Holtzman et al. 2019, arXiv:1904.09751. At least one token stays. Sums in float64,
    with 1e-9 of slack so that 0.5 + 0.3 reaches 0.8.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"Top-p must lie between 0 and 1, not {p}.")
    _largest(logits)
    if p == 1:
        return logits
    order = falling_order(logits)
    falling = np.take_along_axis(np.asarray(logits, np.float64), order, axis=-1)
    running = np.cumsum(softmax(falling), axis=-1)
    missing = np.sum(running < p - 1e-9, axis=-1, keepdims=True)  # so many do not reach p; the next one does
    count = np.minimum(missing + 1, logits.shape[-1])
    return _removed_unless(_among_first(logits, order, count), logits)


def min_p(logits: Float[Array, "*batch V"], p: float | int) -> Float[Array, "*batch V"]:
    """Keep the tokens with at least p times the largest probability. Source: Nguyen et al. 2024, arXiv:2407.01082."""
    if not 0 <= p <= 1:
        raise ValueError(f"Min-p must lie between 0 and 1, not {p}.")
    threshold = math.log(p) - 1e-9 if p > 0 else -math.inf  # a ratio of probabilities is a difference of logits
    return _removed_unless(logits - _largest(logits) >= threshold, logits)


def repetition_penalty(
    logits: Float[Array, "*batch V"], ids: Iterable[int], penalty: float
) -> Float[Array, "*batch V"]:
    """Make every token in `ids` less likely: positive logits are divided by the penalty, negative ones multiplied.

    A penalty of 1 changes nothing. Source: Keskar et al. 2019, "CTRL", arXiv:1909.05858, section 4.1; the paper only
    divides, which would make tokens with negative logits more likely.
    """
    if not penalty > 0:
        raise ValueError(f"The repetition penalty must be above 0, not {penalty}.")
    seen = np.isin(np.arange(logits.shape[-1]), list(ids))
    penalised = np.where(logits > 0, logits / float(penalty), logits * float(penalty))
    return np.where(seen, penalised, logits)


def falling_order(logits: Float[Array, "*batch V"]) -> Int[Array, "*batch V"]:
    """The ids from the largest logit to the smallest; of equal ones the lower id comes first."""
    return np.argsort(-logits, axis=-1, kind="stable")


def most_likely(logits: Float[Array, "V"], count: int) -> Int[Array, "count"]:
    """The first `count` of the falling order, without sorting the rest of the vocabulary."""
    if count >= len(logits):
        return falling_order(logits)
    lowest = np.partition(logits, len(logits) - count)[-count]
    candidates = np.flatnonzero(logits >= lowest)
    return candidates[falling_order(logits[candidates])][:count]


def _among_first(
    logits: Float[Array, "*batch V"], order: Int[Array, "*batch V"], count: Int[Array, "*batch 1"]
) -> Bool[Array, "*batch V"]:
    """True for the first `count` tokens of the falling order: those above the last of them, or equal with a lower id.

    Comparing with the last one kept spares a second sort, which would be half of the time on a real vocabulary.
    """
    last = np.take_along_axis(order, count - 1, axis=-1)
    lowest = np.take_along_axis(logits, last, axis=-1)
    return (logits > lowest) | ((logits == lowest) & (np.arange(logits.shape[-1]) <= last))


def _removed_unless(kept: Bool[Array, "*batch V"], logits: Float[Array, "*batch V"]) -> Float[Array, "*batch V"]:
    return np.where(kept, logits, -np.inf)


# The draw ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One random choice, with everything that decided it."""

    token: int
    draw: float  # the uniform random number, 0 ≤ draw < 1
    low: float  # the token owns the draws from low up to high, a stretch as long as its probability
    high: float
    probabilities: Float[Array, "V"]
    cumulative: Float[Array, "V"]  # running sum of the probabilities, in the order of the ids; the last is 1


def sample(logits: Float[Array, "V"], rng: np.random.Generator, temperature: float | int = 1.0) -> Sample:
    """Draw a token by inverting the cumulative distribution: the first whose running sum exceeds one uniform number."""
    return token_at(logits, float(rng.random()), temperature)


def token_at(logits: Float[Array, "V"], draw: float, temperature: float | int = 1.0) -> Sample:
    """The token that a given draw falls on. Raises ValueError unless 0 ≤ draw < 1."""
    if not 0 <= draw < 1:
        raise ValueError(f"A draw lies between 0 and 1, and is never 1 itself; it cannot be {draw}.")
    probabilities, cumulative = _cumulative(logits, temperature)
    token = int(np.searchsorted(cumulative, draw, side="right"))
    low = float(cumulative[token - 1]) if token else 0.0
    return Sample(token, draw, low, float(cumulative[token]), probabilities, cumulative)


def sample_many(
    logits: Float[Array, "V"], rng: np.random.Generator, count: int, temperature: float | int = 1.0
) -> Int[Array, "count"]:
    """`count` draws from one frozen distribution: the tokens that as many calls of `sample` would give."""
    return np.searchsorted(_cumulative(logits, temperature)[1], rng.random(count), side="right")


def _cumulative(logits: Float[Array, "V"], temperature: float | int) -> tuple[Float[Array, "V"], Float[Array, "V"]]:
    probabilities = softmax(logits, temperature)
    running = np.cumsum(probabilities, dtype=np.float64)  # in float32, 49 152 small terms would drift
    return probabilities, running / running[-1]


# Beam search ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Beam:
    """One partial sequence."""

    ids: tuple[int, ...]
    log_probability: float  # of everything after the start, in nats; the sum of the steps' log-probabilities
    finished: bool = False


@dataclass(frozen=True)
class BeamSearch:
    """The surviving sequences, the most probable first, and all that survived on the way."""

    beams: tuple[Beam, ...]
    rounds: tuple[tuple[Beam, ...], ...]  # rounds[0] is the start alone, rounds[-1] is `beams`


def beam_search(
    step: Callable[..., Float[Array, "..."]],
    start: Sequence[int],
    width: int,
    length: int,
    end: int | None = None,
    *,
    batched: bool = False,
) -> BeamSearch:
    """Keep the `width` most probable sequences while extending each by every token, `length` times.

    `step(ids)` gives the logits (or log-probabilities) of the next token, (V,); with `batched`, `step` is given a list
    of texts and answers with a row for each, (B, V). A beam that ends in `end` is finished and kept as it is. No length
    normalisation. Width 1 is greedy decoding. Equal sequences keep the order of their parents, then of their ids.
    Raises ValueError for a width or length below 1.
    """
    if width < 1 or length < 1:
        raise ValueError(f"Beam search needs a width and a length of at least 1, not {width} and {length}.")
    rounds: list[tuple[Beam, ...]] = [(Beam(tuple(int(i) for i in start), 0.0),)]
    while len(rounds) <= length and not all(beam.finished for beam in rounds[-1]):
        texts = unfinished(rounds[-1])
        logits = step(texts) if batched else np.stack([np.asarray(step(list(text))) for text in texts])
        rounds.append(beam_round(rounds[-1], logits, width, () if end is None else (end,)))
    return BeamSearch(rounds[-1], tuple(rounds))


def unfinished(beams: Sequence[Beam]) -> list[tuple[int, ...]]:
    """The texts that go on."""
    return [beam.ids for beam in beams if not beam.finished]


def beam_round(
    beams: Sequence[Beam], logits: Float[Array, "B V"], width: int, ends: Collection[int] = ()
) -> tuple[Beam, ...]:
    """One round: the best `width` of all extensions. `logits` has a row for each beam that is not finished."""
    rows = iter(log_softmax(logits))
    families = [[beam] if beam.finished else _longer(beam, next(rows), width, ends) for beam in beams]
    grown = [beam for family in families for beam in family]
    return tuple(sorted(grown, key=lambda beam: -beam.log_probability)[:width])


def _longer(beam: Beam, log_p: Float[Array, "V"], width: int, ends: Collection[int]) -> list[Beam]:
    """The `width` best ways to go on from one beam; further ones could not survive the round."""
    return [
        Beam((*beam.ids, int(token)), beam.log_probability + float(log_p[token]), int(token) in ends)
        for token in most_likely(log_p, width)
        if log_p[token] > -np.inf
    ]
