"""What the data does: the same model and the same number of steps on other training texts.

A training set here is a list of windows, and a step draws from it with every window equally likely. Copying some of the
windows makes duplicates; a short list that is drawn from many times makes epochs; drawing from the corpus itself, which
has no end, makes every window fresh. The held-out windows are the corpus' own in all cases.

Sources: duplicates Lee et al. 2021, arXiv:2107.06499, and Hernandez et al. 2022, arXiv:2205.10487; epochs Muennighoff
et al. 2023, arXiv:2305.16264.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from engine.arrays import Array
from engine.corpora import Corpus
from engine.gpt import GPT, Parameters, loss
from engine.training import Plan, Step, train

Windows = Int[Array, "_ _"]
SET = 7
"""The seed of training sets; those of steps and held-out windows are others."""


def windows_of(corpus: Corpus, count: int, context: int) -> Windows:
    """`count` windows of the corpus, each with one token more than the context for the last target."""
    return corpus.train(np.random.default_rng(SET), count, context + 1)


def limited(corpus: Corpus, windows: Windows) -> Corpus:
    """The corpus with nothing to train on but these windows."""

    def draw(rng: np.random.Generator, count: int, length: int) -> Windows:
        return windows[rng.integers(0, len(windows), count), :length]

    return replace(corpus, train=draw)


def with_copies(windows: Windows, share: float, copies: int) -> tuple[Windows, Windows, Windows]:
    """(all windows with the first `share` of them standing there `copies` times, those, the others)."""
    if not 0 < share < 1 or copies < 1:
        raise ValueError("The share that is copied lies between 0 and 1, and each window is there at least once.")
    cut = max(1, round(share * len(windows)))
    copied, single = windows[:cut], windows[cut:]
    return np.concatenate([np.repeat(copied, copies, axis=0), single]), copied, single


def loss_on(gpt: GPT, parameters: Parameters, windows: Windows, most: int = 64) -> float:
    """Mean loss on the first windows of a set, in nats a token."""
    some = windows[:most]
    return float(loss(parameters, gpt, some[:, :-1], some[:, 1:]))


def compare(
    gpt: GPT, plan: Plan, sets: Mapping[str, Corpus], repeats: int = 1
) -> Iterator[dict[str, tuple[Step, ...]]]:
    """The same training on several training sets side by side: after each step, where each of them stands.

    Each is run `repeats` times, with seeds that follow each other: what differs between them is chance.
    """
    plans = [replace(plan, seed=plan.seed + i) for i in range(repeats)]
    runs = [zip(*(train(gpt, corpus, one) for one in plans), strict=True) for corpus in sets.values()]
    for steps in zip(*runs, strict=True):
        yield dict(zip(sets, steps, strict=True))


def epochs(plan: Plan, windows: int) -> float:
    """How often each window of a set is seen in the whole run, on average."""
    return plan.steps * plan.batch / windows


@dataclass(frozen=True)
class Report:
    """What finished runs on one training set have learned, in nats a token: one entry for each repeat."""

    name: str
    held_out: tuple[float, ...]
    copied: tuple[float, ...]  # on the windows that were copied
    single: tuple[float, ...]  # on the others of the set
    looks: tuple[float, float]  # how often each copied window came in a run, on average, and each other

    @property
    def mean(self) -> float:
        """Of the held-out loss."""
        return float(np.mean(self.held_out))


def report(
    name: str, gpt: GPT, plan: Plan, last: Sequence[Step], windows: Windows, share: float, copies: int
) -> Report:
    """What the runs have learned of the copied windows, of the others of their set, and of the language."""
    everything, copied, single = with_copies(windows, share, copies)
    each = epochs(plan, len(everything))
    on = [tuple(loss_on(gpt, run.checkpoint.parameters, part) for run in last) for part in (copied, single)]
    return Report(name, held_out(last), on[0], on[1], (copies * each, each))


def held_out(last: Sequence[Step]) -> tuple[float, ...]:
    """The held-out losses of runs that have just looked."""
    found = tuple(step.validation for step in last if step.validation is not None)
    if len(found) < len(last):
        raise ValueError("These runs have not looked at the held-out windows after this step.")
    return found
