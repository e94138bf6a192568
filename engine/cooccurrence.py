"""Word vectors by counting: which words stand near which, and nothing else.

Count how often two words meet within a few words of each other, ask how much more often that is than chance
(pointwise mutual information), and keep the directions in which the answers differ most. Rows made so come out close to
what word2vec learns (Levy and Goldberg 2014, "Neural word embedding as implicit matrix factorization"; the weights by
the square root of the singular values are theirs). A language model learns its table differently, by gradients: this is
the smallest case in which a table of meanings can be watched coming out of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import regex
from jaxtyping import Float, Int

from engine.arrays import Array

WIDTH, WINDOW = 24, 2
MAX_WORDS = 150  # different ones: the decomposition takes the cube of that

STORY = """\
The dog chased the cat. The dog barked at the cat. The puppy barked at the kitten. The puppy chased a ball.
The cat chased the mouse. The kitten chased a ball. The cat caught the mouse. The kitten caught a mouse.
The dog drank water. The puppy drank milk. The cat drank milk. The kitten drank milk.
The dog slept in the house. The cat slept in the house. The puppy slept in a basket. The kitten slept in a basket.
The king ruled the land. The queen ruled the land. The king wore a golden crown. The queen wore a silver crown.
The king lived in the castle. The queen lived in the castle. The mouse lived in the house.
The boat crossed the river. The ship crossed the sea. The boat sank in the river. The ship sank in the sea.
The ship sailed the sea. The boat sailed the sea.
"""
"""A small text with several words for each kind of place in a sentence."""


@dataclass(frozen=True)
class Counted:
    """A table of word vectors and the steps to it. V words, the most frequent first."""

    words: tuple[str, ...]
    counts: Int[Array, "V V"]  # how often the two stand at most WINDOW words apart
    information: Float[Array, "V V"]  # what the counts say beyond chance, see `positive_information`
    table: Float[Array, "V D"]  # one row for each word

    def place(self, word: str) -> int:
        """The row of a word. Raises ValueError for one that the text does not hold."""
        if word.lower() not in self.words:
            raise ValueError(f"The text has no word “{word}”.")
        return self.words.index(word.lower())


def sentences(text: str) -> list[list[str]]:
    """ "A cat. A dog!" -> [["a", "cat"], ["a", "dog"]]: words in small letters; a window never reaches across."""
    parts = regex.split(r"[.!?\n]+", text.lower())
    found = [regex.findall(r"[\p{L}\p{M}\p{N}]+(?:['’-][\p{L}\p{M}\p{N}]+)*", part) for part in parts]
    return [words for words in found if words]


def cooccurrences(ids: Sequence[Sequence[int]], rows: int, window: int = WINDOW) -> Int[Array, "V V"]:
    """How often each two words stand at most `window` places apart in a sentence; symmetric."""
    pairs = [
        (one, other)
        for sentence in ids
        for place, one in enumerate(sentence)
        for other in sentence[place + 1 : place + 1 + window]
    ]
    flat = np.array([one * rows + other for one, other in pairs], dtype=np.int64)
    counts = np.reshape(np.bincount(flat, minlength=rows * rows), (rows, rows))
    return counts + counts.T


def positive_information(counts: Int[Array, "V V"]) -> Float[Array, "V V"]:
    """log of (how often two words meet / how often they would by chance), in nats; 0 where that is below 0."""
    total = max(1, int(np.sum(counts)))
    share = np.sum(counts, axis=1) / total
    expected = share[:, None] * share[None] * total
    ratio = np.where(counts > 0, counts, 1) / np.where(counts > 0, expected, 1)
    return np.maximum(np.log(ratio), 0)


def count_embeddings(text: str, width: int = WIDTH) -> Counted:
    """The table of a text: one row of `width` numbers for each of its words (fewer numbers if it has fewer words).

    A direction's sign is free; its entry of largest size is made positive. Raises ValueError for a text with fewer
    than two or more than 150 different words.
    """
    found = sentences(text)
    flat = [word for sentence in found for word in sentence]
    words = sorted(dict.fromkeys(flat), key=lambda word: -flat.count(word))
    if not 2 <= len(words) <= MAX_WORDS:
        raise ValueError(f"The text has {len(words)} different words; 2 to {MAX_WORDS} are needed.")
    place = {word: i for i, word in enumerate(words)}
    counts = cooccurrences([[place[word] for word in sentence] for sentence in found], len(words))
    information = positive_information(counts)
    directions, strengths, _ = np.linalg.svd(information)
    table = directions[:, :width] * np.sqrt(strengths[:width])
    peaks = table[np.argmax(np.abs(table), axis=0), np.arange(table.shape[1])]
    return Counted(tuple(words), counts, information, table * np.where(peaks < 0, -1.0, 1.0))
