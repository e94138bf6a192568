"""Modular addition: a model that learns sums by heart first, and the rule much later.

The texts have three tokens, "a b =", and one answer, (a + b) mod p. Some of all pairs are trained on, in every step
the same ones; the others are never shown. The model, its gradient and its optimizer are those of `engine.training`;
only the last token counts. A pair and its mirror image (b, a) are always on the same side, so that knowing that
a + b = b + a answers none of the held-out questions.

Source of the experiment: Power et al. 2022, arXiv:2201.02177. What such a network computes in the end, sums by turning
around circles: Nanda et al. 2023, arXiv:2301.05217. Theirs have learned positions and an output table of their own;
ours is the small Llama of the other labs, with RoPE and one table for input and output.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array
from engine.gpt import GPT, NOT_COUNTED, Parameters
from engine.optimizers import AdamW
from engine.sampling import surprisal
from engine.training import batch_step
from engine.weights import keep_freed_memory

Texts = tuple[Int[Array, "_ _"], Int[Array, "_ _"]]


@dataclass(frozen=True)
class Setting:
    """One experiment: which sums, which model, which steps."""

    modulus: int = 37
    share: float = 0.5  # of all pairs, trained on
    width: int = 64
    heads: int = 1
    hidden: int | None = None  # feed-forward width
    learning_rate: float | int = 5e-3
    weight_decay: float | int = 1.0
    warmup: int = 10
    betas: tuple[float, float] = (0.9, 0.98)
    steps: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 3 <= self.modulus <= 200:
            raise ValueError("The modulus must be between 3 and 200.")
        if not 0 < self.share < 1:
            raise ValueError("The share of pairs to train on must be above 0 and below 1.")

    @property
    def gpt(self) -> GPT:
        """One block; a token for each number, and one for the equals sign."""
        return GPT(self.modulus + 1, layers=1, width=self.width, heads=self.heads, hidden=self.hidden, context=3)

    def optimizer(self) -> AdamW:
        return AdamW(self.learning_rate, self.betas, weight_decay=self.weight_decay)


def split(setting: Setting) -> tuple[Texts, Texts]:
    """(training texts, held-out texts), each with their targets: −1 but for the last token, where it is the sum."""
    p = setting.modulus
    a, b = np.divmod(np.arange(p * p), p)
    texts = np.stack([a, b, np.full(p * p, p)], axis=1)
    nothing = np.full(p * p, NOT_COUNTED)
    targets = np.stack([nothing, nothing, (a + b) % p], axis=1)
    pair = np.minimum(a, b) * p + np.maximum(a, b)  # the same for (a, b) and (b, a)
    shuffled = np.random.default_rng(setting.seed).permutation(np.unique(pair))
    chosen = np.isin(pair, shuffled[: round(setting.share * len(shuffled))])
    return (texts[chosen], targets[chosen]), (texts[~chosen], targets[~chosen])


@dataclass(frozen=True)
class Look:
    """What the model knows after so many steps."""

    step: int
    loss: tuple[float, float]  # training, held out: mean surprisal of the answer in nats
    accuracy: tuple[float, float]
    norm: float  # length of all weights as one vector
    parameters: Parameters


def score(gpt: GPT, parameters: Parameters, texts: Texts) -> tuple[float, float]:
    """(mean surprisal, share of right answers) of the last token."""
    inputs, targets = texts
    logits = gpt.model(parameters).forward(inputs)[:, -1]
    wanted = targets[:, -1]
    return float(np.mean(surprisal(logits, wanted))), float(np.mean(np.argmax(logits, axis=-1) == wanted))


def look(setting: Setting, step: int, parameters: Parameters, sides: tuple[Texts, Texts]) -> Look:
    """Both sides scored."""
    (trained, right), (held, right_held) = (score(setting.gpt, parameters, side) for side in sides)
    norm = math.sqrt(sum(float(np.vdot(p, p)) for p in parameters.values()))
    return Look(step, (trained, held), (right, right_held), norm, parameters)


def run(setting: Setting, every: int = 10) -> Iterator[Look]:
    """Train on all of the training texts at once, step after step, and look after every `every` steps."""
    keep_freed_memory()
    gpt, optimizer, sides = setting.gpt, setting.optimizer(), split(setting)
    parameters = gpt.start(setting.seed)
    for step in range(setting.steps + 1):
        if step % every == 0:
            yield look(setting, step, parameters, sides)
        optimizer.lr = setting.learning_rate * min(1.0, (step + 1) / setting.warmup)
        parameters, _, _ = batch_step(gpt, parameters, optimizer, *sides[0])


# What the embedding table holds --------------------------------------------------------------------------------------


def spectrum(numbers: Float[Array, "p d"]) -> Float[Array, "f"]:
    """How much of the table is a wave of frequency 1, 2, … (p − 1) / 2 over the numbers 0 … p − 1: shares, sum 1.

    Each of the d columns is a function of the number; its discrete Fourier transform says of which waves it is made.
    The mean (frequency 0) is left out. A table of noise has about the same of each.
    """
    waves = np.fft.rfft(numbers, axis=0)[1:]
    power = np.sum(np.abs(waves) ** 2, axis=1)
    return power / np.sum(power)


def circle(numbers: Float[Array, "p d"], frequency: int) -> Float[Array, "d two"]:
    """The plane of the d dimensions in which the table holds the wave of this frequency: two orthonormal directions.

    They span the best cosine and the best sine of that frequency (least squares, one for each column).
    """
    p = len(numbers)
    if not 1 <= frequency <= p // 2:
        raise ValueError(f"Frequencies go from 1 to {p // 2}.")
    angle = 2 * np.pi * frequency * np.arange(p) / p
    waves = np.stack([np.cos(angle), np.sin(angle)])  # (2, p)
    directions, _ = np.linalg.qr((2 / p * waves @ numbers).T)
    return directions


def on_plane(numbers: Float[Array, "p d"], plane: Float[Array, "d two"]) -> Float[Array, "p two"]:
    """Where each number stands in the plane, seen from their middle."""
    return (numbers - np.mean(numbers, axis=0)) @ plane


def roundness(points: Float[Array, "p two"], frequency: int) -> float:
    """How much of the points' spread is a walk around a circle at this frequency: 1 for a perfect one, about 2/p for
    noise. The points are taken as complex numbers; a perfect circle has one frequency only, turning one way."""
    transformed = np.abs(np.fft.fft(points[:, 0] + 1j * points[:, 1])) ** 2
    return float(max(transformed[frequency], transformed[-frequency]) / np.sum(transformed[1:]))


def around(modulus: int, frequency: int) -> Int[Array, " p"]:
    """The numbers in the order in which they stand around the circle of a frequency; needs a modulus without divisors.

    The number at place j has angle 2π j / p, so it is j times the inverse of the frequency.
    """
    if math.gcd(modulus, frequency) != 1:
        raise ValueError(f"{modulus} and {frequency} have a common divisor, so numbers share a place.")
    return np.arange(modulus) * pow(frequency, -1, modulus) % modulus
