"""Texts to train on: a grammar with a known entropy, sums, names, short stories, or the reader's own words.

A `Corpus` hands out windows: rows of token ids, some to train on and some held out that training never shows. The
grammar and the sums have no end, so every step sees fresh text; the others are one text, and windows come from
anywhere in it, again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from engine.arrays import Array
from engine.gpt import NOT_COUNTED
from engine.grammar import STOP, grammar

Draw = Callable[[np.random.Generator, int, int], np.ndarray]  # rng, count, length -> ids (count, length)
DATA = Path(__file__).resolve().parents[1] / "data" / "corpora"


@dataclass(frozen=True, eq=False)
class Corpus:
    """A vocabulary, and windows of its tokens."""

    name: str
    vocabulary: tuple[str, ...]
    train: Draw
    held_out: Draw
    start: tuple[int, ...]  # what a sample of the model's begins with
    joiner: str = ""  # between tokens: a space between words, nothing between characters
    floor: Callable[[int], float] | None = None  # exact entropy a token in windows of that many targets, if known
    shallow_floor: Callable[[int], float] | None = None  # the best without looking further back than one token
    text: tuple[int, ...] = ()  # all that is trained on, where that has an end
    counted: Callable[[np.ndarray], np.ndarray] | None = None  # of windows (B, T + 1): which tokens are worth a loss
    numbers: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "numbers", {token: i for i, token in enumerate(self.vocabulary)})

    def encode(self, text: str) -> list[int]:
        """Token ids. Raises ValueError for a word or character that the corpus does not have."""
        parts = text.split() if self.joiner else list(text)
        unknown = [part for part in parts if part not in self.numbers]
        if unknown:
            kind = "word" if self.joiner else "character"
            raise ValueError(f"The corpus has no {kind} “{unknown[0][:20]}”, so the model has no token for it.")
        return [self.numbers[part] for part in parts]

    def decode(self, ids: Sequence[int] | Int[Array, "T"]) -> str:
        return self.joiner.join(self.vocabulary[i] for i in ids)

    def windows(
        self, seed: Sequence[int], count: int, length: int, held_out: bool = False
    ) -> tuple[Int[Array, "B T"], Int[Array, "B T"]]:
        """`count` windows of `length` tokens, and for each token its target: the token after it, −1 if not counted.

        The same seed gives the same windows.
        """
        draw = self.held_out if held_out else self.train
        drawn = draw(np.random.default_rng([int(held_out), *seed]), count, length + 1)
        targets = drawn if self.counted is None else np.where(self.counted(drawn), drawn, NOT_COUNTED)
        return drawn[:, :-1], targets[:, 1:]


# Texts with an end ---------------------------------------------------------------------------------------------------


def text_corpus(
    text: str, name: str = "own text", *, context: int = 64, held_share: float = 0.1, words: bool = False
) -> Corpus:
    """The characters (or words) of one text; its last `held_share`, but at least one window, is held out.

    Raises ValueError for a text that is too short for windows of `context` tokens.
    """
    tokens = text.split() if words else list(text)
    kept = max(round(len(tokens) * held_share), context + 1)
    if len(tokens) < 2 * kept:
        unit = "words" if words else "characters"
        raise ValueError(f"The text has {len(tokens)} {unit}; windows of {context} need at least {2 * kept}.")
    vocabulary = tuple(sorted(set(tokens)))
    numbers = {token: i for i, token in enumerate(vocabulary)}
    ids = np.array([numbers[token] for token in tokens])
    start = numbers.get("\n", int(ids[0])) if not words else int(ids[0])
    return Corpus(
        name, vocabulary, anywhere(ids[:-kept]), anywhere(ids[-kept:]), (start,), " " if words else "",
        text=tuple(ids[:-kept].tolist()),
    )  # fmt: skip


def anywhere(ids: Int[Array, "N"]) -> Draw:
    """Windows that start anywhere in a text of N tokens, each place equally likely."""

    def draw(rng: np.random.Generator, count: int, length: int) -> Int[Array, "count length"]:
        if length > len(ids):
            raise ValueError(f"A window of {length} tokens does not fit into a text of {len(ids)}.")
        starts = rng.integers(0, len(ids) - length + 1, count)
        return ids[starts[:, None] + np.arange(length)]

    return draw


# Texts without an end ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def synthetic() -> Corpus:
    """The grammar of `engine.grammar`, word by word. Every window starts with a full stop and then a new sentence."""
    rules = grammar()
    stop = rules.vocabulary.index(STOP)

    def draw(rng: np.random.Generator, count: int, length: int) -> Int[Array, "count length"]:
        texts = rules.sample(rng, count, length - 1)
        return np.concatenate([np.full((count, 1), stop), texts], axis=1)

    return Corpus("grammar", rules.vocabulary, draw, draw, (stop,), " ", rules.floor, rules.shallow_floor)


SUMS = "\n+0123456789="
LARGEST = 99


@lru_cache(maxsize=1)
def arithmetic() -> Corpus:
    """Lines like 37+48=85, character by character. A tenth of all pairs of numbers is held out."""
    return Corpus("arithmetic", tuple(SUMS), sums(held_out=False), sums(held_out=True), (SUMS.index("\n"),))


def is_held_out(a: Int[Array, "..."], b: Int[Array, "..."]) -> Bool[Array, "..."]:
    """Which sums are kept for validation: one in ten, scattered over the table of all sums."""
    return (7 * a + 3 * b) % 10 == 0


def sums(held_out: bool) -> Draw:
    """Windows of lines a+b=c, each starting at the start of a line; a and b from 0 to 99, all pairs equally likely."""
    a, b = np.divmod(np.arange((LARGEST + 1) ** 2), LARGEST + 1)
    chosen = is_held_out(a, b) == held_out
    lines = [f"{x}+{y}={x + y}\n" for x, y in zip(a[chosen], b[chosen], strict=True)]
    longest = max(map(len, lines))
    table = np.array([[SUMS.index(character) for character in line.ljust(longest)[: len(line)]]
                      + [-1] * (longest - len(line)) for line in lines])  # fmt: skip

    def draw(rng: np.random.Generator, count: int, length: int) -> Int[Array, "count length"]:
        picked = table[rng.integers(0, len(table), (count, length // 6 + 1))]  # the shortest line has 6 characters
        rows = [row[row >= 0][: length - 1] for row in picked.reshape(count, -1)]
        return np.concatenate([np.full((count, 1), SUMS.index("\n")), np.stack(rows)], axis=1)

    return draw


# The built-in ones ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def names() -> Corpus:
    """First names from many languages, one a line, in random order, character by character."""
    listed = (DATA / "names.txt").read_text(encoding="utf-8").split()
    shuffled = np.random.default_rng(0).permutation(listed)
    return text_corpus("\n".join(shuffled) + "\n", "names")


@lru_cache(maxsize=1)
def stories() -> Corpus:
    """Short stories by the project, character by character."""
    return text_corpus((DATA / "stories.txt").read_text(encoding="utf-8"), "stories")


CORPORA: dict[str, Callable[[], Corpus]] = {
    "grammar": synthetic,
    "arithmetic": arithmetic,
    "names": names,
    "stories": stories,
}


def corpus(name: str, text: str = "", context: int = 64) -> Corpus:
    """A built-in corpus by name, or for "own" the characters of `text`. Raises ValueError for an unknown name."""
    if name == "own":
        return text_corpus(text, context=context)
    if name not in CORPORA:
        raise ValueError(f"There is no corpus “{name}”; choose one of {', '.join(CORPORA)}, own.")
    return CORPORA[name]()
