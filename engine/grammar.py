"""A small language whose entropy is known exactly, so that a training run can be told how far it is from perfect.

Sentences are independent of each other and end with a full stop. Some words are free, some are fixed by words further
back: a verb agrees with the first noun and not with the nearest (Linzen et al. 2016, arXiv:1611.01368), and names and
things come back later in the sentence, where only attention can fetch them. What may come next depends on a *state*
that the words so far fix completely, so the entropy of the next word is a sum over states.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array
from engine.sampling import entropy

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Ida")
THINGS = {"key": "keys", "box": "boxes", "cat": "cats", "lamp": "lamps"}
VERBS = {"falls": "fall", "waits": "wait", "shines": "shine", "moves": "move"}
PLACES = ("near", "behind")
STOP = "."
START = ("start",)

State = tuple[str, ...]
Choice = tuple[str, float, State]  # words to say, with what probability, and the state after them


def equally(phrases: Iterable[tuple[str, State]], share: float | int = 1) -> list[Choice]:
    """Choices that divide `share` of the probability evenly."""
    listed = list(phrases)
    return [(words, share / len(listed), after) for words, after in listed]


def nouns() -> list[tuple[str, str]]:
    """Every noun with its number."""
    return [(one, "one") for one in THINGS] + [(many, "many") for many in THINGS.values()]


def choices(state: State) -> list[Choice]:
    """The whole grammar: what may be said in a state. No two choices of a state begin with the same word."""
    match state:
        case ("start",):
            asking = equally(((f"{a} asks", ("whom", a)) for a in NAMES), 0.4)
            return [("the", 0.4, ("subject",)), *asking, ("who", 0.2, ("question",))]
        case ("subject",):
            return equally((noun, ("after", number)) for noun, number in nouns())
        case ("after", number):
            further = equally(((f"{place} the", ("second", number)) for place in PLACES), 0.5)
            return [*further, *((words, p / 2, after) for words, p, after in choices(("verb", number)))]
        case ("second", number):
            return equally((noun, ("verb", number)) for noun, _ in nouns())
        case ("verb", number):
            return equally((f"{VERBS[verb] if number == 'many' else verb} {STOP}", START) for verb in VERBS)
        case ("whom", a):
            return equally((f"{b} for the", ("what", a, b)) for b in NAMES if b != a)
        case ("what", a, b):
            return equally((f"{thing} and {b} gives {a} the {thing} {STOP}", START) for thing in THINGS)
        case ("question",):
            return equally((f"{verb} ?", ("answer", verb)) for verb in VERBS)
        case ("answer", verb):
            return equally((f"{a} {verb} {STOP}", START) for a in NAMES)
    raise ValueError(f"The grammar has no state {state}.")


@dataclass(frozen=True, eq=False)
class Grammar:
    """The grammar word by word: row s holds what may follow in state s, padded with probability 0.

    State 0 is the start of a sentence; within a phrase a state has one word only. `last` is the word before the state.
    """

    vocabulary: tuple[str, ...]
    last: Int[Array, "S"]
    words: Int[Array, "S K"]
    probabilities: Float[Array, "S K"]
    after: Int[Array, "S K"]

    @cached_property
    def entropies(self) -> Float[Array, "S"]:
        """Of the next word in each state, in nats."""
        return entropy(self.probabilities)

    def occupation(self, length: int) -> Float[Array, "length S"]:
        """The probability of each state before word 1, 2, … `length` of a text that starts with a sentence."""
        now, found = np.eye(1, len(self.last))[0], []
        for _ in range(length):
            found.append(now)
            moved = now[:, None] * self.probabilities
            now = np.bincount(self.after.reshape(-1), weights=moved.reshape(-1), minlength=len(now))
        return np.stack(found)

    def floor(self, length: int) -> float:
        """The exact entropy a word, in nats, of texts of `length` words that start with a sentence.

        By the chain rule: the entropies of the next word, averaged over all places, each weighted by how likely its
        states are. No predictor can have a lower expected loss on such windows.
        """
        return float(np.mean(self.occupation(length) @ self.entropies))

    def shallow_floor(self, length: int) -> float:
        """The same for a predictor that sees only the word just before: the best that is possible without attention."""
        weights = np.mean(self.occupation(length), axis=0)[:, None] * self.probabilities
        pairs = self.last[:, None] * len(self.vocabulary) + self.words
        joint = np.bincount(pairs.reshape(-1), weights=weights.reshape(-1), minlength=len(self.vocabulary) ** 2)
        joint = np.reshape(joint, (len(self.vocabulary), -1))
        return float(entropy(joint.reshape(-1)) - entropy(np.sum(joint, axis=1)))

    def sample(self, rng: np.random.Generator, count: int, length: int) -> Int[Array, "count length"]:
        """`count` texts of `length` words, each from the start of a sentence."""
        state, found = np.zeros(count, int), []
        cumulative = np.cumsum(self.probabilities, axis=1)
        cumulative = np.where(cumulative > 1 - 1e-9, np.inf, cumulative)  # the last choice takes what rounding leaves
        for u in rng.random((length, count)):
            chosen = np.sum(u[:, None] >= cumulative[state], axis=1)
            found.append(self.words[state, chosen])
            state = self.after[state, chosen]
        return np.stack(found, axis=1)

    def surprisal(self, texts: Int[Array, "count length"]) -> Float[Array, "count length"]:
        """−log of the true probability of each word, in nats: what a perfect model would lose. Infinite where wrong."""
        state, found = np.zeros(len(texts), int), []
        for word in texts.T:
            fits = (self.words[state] == word[:, None]) & (self.probabilities[state] > 0)
            chosen = np.argmax(fits, axis=1)
            p = np.where(np.any(fits, axis=1), self.probabilities[state, chosen], 0.0)
            with np.errstate(divide="ignore"):
                found.append(-np.log(p))
            state = self.after[state, chosen]
        return np.stack(found, axis=1)


@lru_cache(maxsize=1)
def grammar() -> Grammar:
    """`choices` compiled: every state that can be reached, phrases taken apart into words."""
    states = [_Place((), START, STOP)]
    rows: list[list[tuple[str, float, int]]] = []
    index = {states[0]: 0}
    for place in states:  # grows while it is walked
        row = []
        for word, p, after in place.following():
            if after not in index:
                index[after] = len(states)
                states.append(after)
            row.append((word, p, index[after]))
        rows.append(row)
    vocabulary = tuple(sorted({word for row in rows for word, _, _ in row}))
    return _tables(vocabulary, [place.last for place in states], rows)


@dataclass(frozen=True)
class _Place:
    """A state word by word: what is still to be said before `state`, and the word just said."""

    pending: tuple[str, ...]
    state: State
    last: str

    def following(self) -> list[tuple[str, float, _Place]]:
        if self.pending:
            word, *rest = self.pending
            return [(word, 1.0, _Place(tuple(rest), self.state, word))]
        split = [(words.split(), p, after) for words, p, after in choices(self.state)]
        return [(words[0], p, _Place(tuple(words[1:]), after, words[0])) for words, p, after in split]


def _tables(vocabulary: tuple[str, ...], last: list[str], rows: list[list[tuple[str, float, int]]]) -> Grammar:
    number = {word: i for i, word in enumerate(vocabulary)}
    width = max(map(len, rows))
    padded = [row + [(STOP, 0.0, 0)] * (width - len(row)) for row in rows]
    words, probabilities, after = (np.array([[item[part] for item in row] for row in padded]) for part in range(3))
    ids = np.vectorize(number.__getitem__)(words)
    return Grammar(vocabulary, np.array([number[word] for word in last]), ids, probabilities, after)
