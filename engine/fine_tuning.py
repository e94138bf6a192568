"""From continuing to answering: a small GPT that has read about animals, and is then shown what an answer looks like.

The base text holds facts ("the cat says meow .") and lists of questions that nobody answers. So the base model goes on
from a question with another question. Supervised fine-tuning shows dialogues with special tokens, about some of the
animals only; what it says about the others must come from the base text. The world is this project's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array
from engine.backpropagation import value_and_grad
from engine.corpora import Corpus
from engine.gpt import GPT, Parameters
from engine.optimizers import AdamW
from engine.post_training import masked_loss
from engine.training import Plan, clipped, train

ANIMALS = ("cat", "dog", "cow", "duck", "frog", "owl", "lion", "bee", "horse", "sheep", "mouse", "wolf")
FACTS = {
    "says": ("meow", "woof", "moo", "quack", "croak", "hoot", "roar", "buzz", "neigh", "baa", "squeak", "howl"),
    "eats": ("fish", "bones", "grass", "weed", "flies", "mice", "meat", "nectar", "oats", "clover", "cheese", "deer"),
    "likes": ("milk", "sticks", "hay", "rain", "mud", "night", "sun", "roses", "apples", "salt", "crumbs", "snow"),
}  # fmt: skip
ASKED = {"says": "say", "eats": "eat", "likes": "like"}
USER, ASSISTANT, END = "<user>", "<assistant>", "<end>"
WORDS = (
    USER, ASSISTANT, END, "the", "what", "does", "?", ".", *FACTS, *ASKED.values(), *ANIMALS,
    *(word for words in FACTS.values() for word in words),
)  # fmt: skip
NUMBER = {word: i for i, word in enumerate(WORDS)}
SHARE_OF_FACTS = 0.6
BASE = GPT(len(WORDS), layers=2, width=48, heads=4, context=32)
BASE_STEPS, TUNING_STEPS, BATCH = 800, 120, 8


def fact(animal: int, verb: str) -> str:
    """the cat says meow ."""
    return f"the {ANIMALS[animal]} {verb} {FACTS[verb][animal]} ."


def question(animal: int, verb: str) -> str:
    """what does the cat say ?"""
    return f"what does the {ANIMALS[animal]} {ASKED[verb]} ?"


def dialogue(animal: int, verb: str) -> tuple[list[int], list[bool]]:
    """A question and its answer between special tokens, and which tokens count: the answer's, and the end."""
    prompt = [USER, *question(animal, verb).split(), ASSISTANT]
    answer = [*fact(animal, verb).split(), END]
    return ids_of([*prompt, *answer]), [False] * len(prompt) + [True] * len(answer)


def ids_of(words: list[str]) -> list[int]:
    return [NUMBER[word] for word in words]


def spell(ids: list[int]) -> str:
    return " ".join(WORDS[i] for i in ids)


def base_text(rng: np.random.Generator, count: int, length: int) -> Int[Array, "count length"]:
    """Passages about one animal each, of facts or of questions that nobody answers."""
    return np.array([_passages(rng, length) for _ in range(count)])


def _passages(rng: np.random.Generator, length: int) -> list[int]:
    words: list[str] = []
    while len(words) < length + 6:
        animal = int(rng.integers(len(ANIMALS)))
        tell = fact if rng.random() < SHARE_OF_FACTS else question
        for verb in rng.choice(list(FACTS), int(rng.integers(2, 5))):
            words += tell(animal, verb).split()
            tell = tell if rng.random() < 0.8 else (fact if tell is question else question)
    start = int(rng.integers(6))
    return ids_of(words[start : start + length])


CORPUS = Corpus("animals", WORDS, base_text, base_text, (NUMBER["the"],), " ")


@dataclass(frozen=True)
class Moment:
    """The model at one step of one of the two stages."""

    stage: str  # "base" or "tuning"
    step: int
    loss: float  # of the batch that it learns from next, in nats a token that counts
    answers: float | None  # loss over the answers about the animals that no dialogue was about
    right: float | None  # share of those that it answers word for word
    parameters: Parameters


def pretrain(seed: int = 0, steps: int = BASE_STEPS) -> Iterator[Moment]:
    """The base model, from random weights."""
    for step in train(BASE, CORPUS, Plan(steps=steps, learning_rate=5e-3, evaluate_every=steps, seed=seed)):
        yield Moment("base", step.number, step.loss, None, None, step.checkpoint.parameters)


def tune(
    start: Parameters, shown: int, mask: bool, seed: int = 0, steps: int = TUNING_STEPS, look_every: int = 10
) -> Iterator[Moment]:
    """Supervised fine-tuning on dialogues about the first `shown` animals; without `mask` the questions count, too.

    Raises ValueError unless at least one animal is shown and one is left.
    """
    if not 0 < shown < len(ANIMALS):
        raise ValueError(f"Dialogues are about 1 to {len(ANIMALS) - 1} of the animals, not {shown}.")
    rng, optimizer, now = np.random.default_rng([seed, 7]), AdamW(1e-3), start
    lessons = [dialogue(animal, verb) for animal in range(shown) for verb in FACTS]
    slope = value_and_grad(dialogue_loss)
    for step in range(steps + 1):
        batch = [lessons[i] for i in rng.integers(len(lessons), size=BATCH)]
        value, gradients = slope(now, *as_batch(batch, mask))
        look = step % look_every == 0 or step == steps
        answers, right = judged(now, shown) if look else (None, None)
        yield Moment("tuning", step, float(value), answers, right, now)
        now = optimizer.step(now, clipped(gradients, 1.0)[0])


def as_batch(batch: list[tuple[list[int], list[bool]]], mask: bool) -> tuple[np.ndarray, np.ndarray]:
    """Dialogues, which are all of one length, as an array of ids and one of what counts."""
    counts = np.array([counted for _, counted in batch])
    return np.array([ids for ids, _ in batch]), counts if mask else np.ones_like(counts)


def dialogue_loss(parameters: Parameters, ids: Int[Array, "B T"], counts: np.ndarray) -> Float[Array, ""]:
    """The masked loss of the small GPT."""
    logits = BASE.model(parameters).forward(ids[:, :-1])
    return masked_loss(logits, ids[:, 1:], counts[:, 1:])


def judged(parameters: Parameters, shown: int) -> tuple[float, float]:
    """Loss over the answers about animals without a dialogue, and the share of them that come out word for word."""
    left = [dialogue(animal, verb) for animal in range(shown, len(ANIMALS)) for verb in FACTS]
    ids, counts = as_batch(left, True)
    guesses = np.argmax(BASE.model(parameters).forward(ids[:, :-1]), axis=-1)
    right = np.all((guesses == ids[:, 1:]) | ~counts[:, 1:], axis=1)
    return float(dialogue_loss(parameters, ids, counts)), float(np.mean(right))


def asked(parameters: Parameters, animal: int, verb: str, chat: bool, tokens: int = 14) -> str:
    """What the model goes on with after a question, greedily: as plain text, or as a user's turn."""
    words = question(animal, verb).split()
    prompt = ids_of([USER, *words, ASSISTANT] if chat else words)
    steps = BASE.model(parameters).generate(prompt, tokens, stop=(NUMBER[END],))
    return spell([step.id for step in steps])
