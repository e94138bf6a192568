"""The recorded run of modular addition: its curves, and its table of numbers at some of the steps.

Recorded by `python -m scripts.record_modular_addition` with `engine.modular_addition.run`; the file says when, with
which versions, and how long it took. Nothing here computes the run.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array
from engine.modular_addition import Look, Setting, circle, on_plane, spectrum
from engine.phases import Curves, Phase, detect_phases

FILE = Path(__file__).resolve().parents[1] / "data" / "modular_addition.npz"
SETTING = Setting(modulus=53, share=0.4, width=24, hidden=128, learning_rate=7e-3, weight_decay=1.0, steps=3000, seed=0)
EVERY, KEEP = 10, 50
"""Steps between two looks, and between two tables that are kept."""


@dataclass(frozen=True, eq=False)
class Kept:
    """What the file holds."""

    setting: Setting
    made: dict[str, Any]  # command, versions, date, seconds
    steps: Int[Array, "n"]
    loss: Float[Array, "n two"]  # training, held out
    accuracy: Float[Array, "n two"]
    norm: Float[Array, "n"]
    kept: Int[Array, "k"]  # the steps of the tables
    embeddings: Float[Array, "k tokens d"]  # float16, as little as a picture needs

    @cached_property
    def phases(self) -> list[Phase]:
        """By the stated rule."""
        return detect_phases(Curves(self.steps, *self.accuracy.T))

    def numbers(self, index: int) -> Float[Array, "p d"]:
        """The rows of the numbers, without that of the equals sign, in the table kept at place `index`."""
        return self.embeddings[index, :-1].astype(np.float32)

    @cached_property
    def frequencies(self) -> list[int]:
        """From the strongest in the last table to the weakest."""
        return [int(i) + 1 for i in np.argsort(-spectrum(self.numbers(-1)))]

    def points(self, index: int, frequency: int) -> Float[Array, "p two"]:
        """The numbers of a kept table in the plane that the *last* table has for this frequency."""
        return on_plane(self.numbers(index), circle(self.numbers(-1), frequency))

    def place(self, step: int) -> int:
        """The last kept table that is not after `step`."""
        return int(np.searchsorted(self.kept, step, side="right")) - 1


def write(path: Path, setting: Setting, looks: Iterable[Look], made: dict[str, Any]) -> None:
    """Write down a run; `made` says how it was made, and is added to."""
    listed = list(looks)
    tables = [now for now in listed if now.step % KEEP == 0]
    about = made | {"setting": asdict(setting), "numpy": np.__version__, "python": platform.python_version()}
    np.savez_compressed(
        path,
        about=np.array(json.dumps(about)),
        steps=np.array([now.step for now in listed], np.int32),
        loss=np.array([now.loss for now in listed], np.float32),
        accuracy=np.array([now.accuracy for now in listed], np.float32),
        norm=np.array([now.norm for now in listed], np.float32),
        kept=np.array([now.step for now in tables], np.int32),
        embeddings=np.stack([now.parameters["embedding"] for now in tables]).astype(np.float16),
    )


@lru_cache(maxsize=2)
def load(path: Path = FILE) -> Kept:
    """The recorded run, read once."""
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(str(file["about"]))
        arrays = {name: file[name] for name in file.files if name != "about"}
    given = about.pop("setting")
    return Kept(Setting(**given | {"betas": tuple(given["betas"])}), about, **arrays)
