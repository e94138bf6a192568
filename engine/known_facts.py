"""How sure is the model, and is it right? Short sentences with one right next word, and what the model says instead.

On probabilities that match how often a model is right: Kadavath et al. 2022, arXiv:2207.05221. Here only the next token
is looked at, so every sentence is written so that the right answer begins with a token of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.model import Model
from engine.sampling import most_likely, softmax
from engine.tokenization import decode, encode

FILE = Path(__file__).parent.parent / "data" / "known_facts.json"


@dataclass(frozen=True)
class Known:
    """A sentence that stops before a fact, and how it goes on in truth."""

    begins: str
    right: str


@dataclass(frozen=True)
class Guess:
    """What the model makes of one of them."""

    known: Known
    probabilities: Float[Array, "V"]

    @property
    def right_id(self) -> int:
        """The first token of the right answer."""
        return encode(f" {self.known.right}", "smollm2")[0]

    @property
    def said_id(self) -> int:
        """The likeliest token."""
        return int(most_likely(self.probabilities, 1)[0])

    @property
    def is_right(self) -> bool:
        """Is the likeliest token the right one?"""
        return self.said_id == self.right_id

    @property
    def sure(self) -> float:
        """The likeliest token's probability."""
        return float(self.probabilities[self.said_id])

    @property
    def said(self) -> str:
        """The likeliest token as a word."""
        return decode([self.said_id], "smollm2").strip()


@lru_cache(maxsize=1)
def known_facts() -> tuple[Known, ...]:
    """The built-in sentences."""
    return tuple(Known(*line) for line in json.loads(FILE.read_text("utf-8")))


def guess(model: Model, known: Known) -> Guess:
    """One run of the model; kept."""
    ids = tuple(encode(known.begins, "smollm2"))
    found = model.memo.get(("guess", ids), lambda: softmax(model.forward(ids, last_only=True)[0]))
    return Guess(known, found)


def guesses(model: Model) -> tuple[Guess, ...]:
    """All of them."""
    return tuple(guess(model, known) for known in known_facts())


@dataclass(frozen=True)
class Calibration:
    """In bins of the probability that the model gave its guess: how many guesses, and how many of them right."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    right: tuple[int, ...]


def calibration(found: tuple[Guess, ...], edges: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)) -> Calibration:
    """Guesses sorted into bins, each bin from its edge up to the next one."""
    bins = [min(int(np.searchsorted(edges, g.sure, side="right")) - 1, len(edges) - 2) for g in found]
    counts = tuple(bins.count(i) for i in range(len(edges) - 1))
    right = tuple(sum(g.is_right for g, b in zip(found, bins, strict=True) if b == i) for i in range(len(edges) - 1))
    return Calibration(edges, counts, right)
