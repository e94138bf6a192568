"""The default training run, recorded so that there is one to look at before a reader has trained.

    python -m engine.recorded_training

writes data/runs/training.npz: the curves of every step, and the weights at a few, in float16. The page says that it is
a recording wherever it shows it; what a reader trains takes its place.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from engine.corpora import Corpus, corpus
from engine.gpt import GPT, Parameters
from engine.training import Plan, train
from engine.training_study import Curves, excess, halved, kept_steps, shortened, widened

FILE = Path(__file__).resolve().parents[1] / "data" / "runs" / "training.npz"
COMMAND = "python -m engine.recorded_training"
CORPUS = "grammar"


@dataclass(frozen=True)
class Recording:
    """A run to look back on: a reader's own, or the recorded one."""

    gpt: GPT
    corpus: Corpus
    plan: Plan
    curves: Curves
    steps: tuple[int, ...]  # at which weights were kept
    weights: Callable[[int], Parameters]  # after that many steps, one of `steps`
    own: bool  # the reader's


def default_gpt() -> GPT:
    """Two blocks of width 64 with four heads: about 100 000 parameters."""
    return GPT(len(corpus(CORPUS).vocabulary))


@lru_cache(maxsize=1)
def recorded() -> Recording:
    """The recorded run."""
    with np.load(FILE, allow_pickle=False) as stored:
        arrays = dict(stored)
    steps = tuple(arrays["steps"].tolist())
    weights = {step: widened(shortened(arrays, f"{step}/")) for step in steps}
    return Recording(
        default_gpt(), corpus(CORPUS), Plan(), Curves.from_arrays(arrays), steps, weights.__getitem__, False
    )


def main() -> None:
    """Train with the default plan, and write it down."""
    gpt, plan, curves = default_gpt(), Plan(), Curves()
    arrays: dict[str, np.ndarray] = {}
    keep = kept_steps(plan.steps)
    windows = corpus(CORPUS).windows([0], plan.held_out, gpt.context, held_out=True)
    for step in train(gpt, corpus(CORPUS), plan):
        curves.add(step, lambda parameters: excess(gpt, parameters, *windows))
        if step.number in keep:
            parameters = halved(step.checkpoint.parameters)
            arrays |= {f"{step.number}/{name}": array for name, array in parameters.items()}
    about = f"{COMMAND}; numpy {np.__version__}, python {platform.python_version()}, {plan}"
    FILE.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        FILE, allow_pickle=False, **arrays, **curves.arrays(), steps=np.array(keep), about=np.array(about)
    )
    print(FILE, FILE.stat().st_size, curves.validation[-1])


if __name__ == "__main__":
    main()
