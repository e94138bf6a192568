"""The reader's sentence in the real model: what every "In the real model" lab starts from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from engine.model import Model, ModelBroken, ModelMissing, load
from engine.tokenization import decoded, encode, token_bytes
from ui.lab import ReaderError

ENCODING = "smollm2"
TOKEN_LIMIT = 48


@dataclass(frozen=True)
class Reading:
    """The model with the reader's tokens."""

    model: Model
    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    note: str
    """What was cut off, as a sentence to put before the lab's own; "" if nothing."""

    @property
    def trace(self) -> Mapping[str, np.ndarray]:
        return self.model.trace(self.ids)


def read(sentence: str, *, limit: int = TOKEN_LIMIT, least: int = 1) -> Reading:
    """Tokens of the sentence, at most `limit`. Raises ReaderError where the model or the text does not allow it."""
    ids = encode(sentence, ENCODING)
    if len(ids) < least:
        wanted = "a sentence" if least == 1 else f"a sentence of at least {least} tokens"
        raise ReaderError(f"Type {wanted} into the bar at the top of the page.")
    kept = tuple(ids[:limit])
    cut = f"Your text has {len(ids):,} tokens; this lab uses the first {limit}. " if len(ids) > limit else ""
    return Reading(the_model(), kept, tuple(piece(i) for i in kept), cut)


def the_model() -> Model:
    """SmolLM2. Raises ReaderError with the engine's own sentence where it is missing or broken."""
    try:
        return load()
    except (ModelMissing, ModelBroken) as problem:
        raise ReaderError(str(problem)) from problem


def piece(token: int) -> str:
    """A token as a label: its text, or its bytes in hex where they are only part of a character."""
    data = token_bytes(token, ENCODING)
    return decoded(data) or data.hex(" ")


def spoken(label: str) -> str:
    """A token inside a sentence: without the space it begins with, and never invisible."""
    return label.strip() or {" ": "a space", "\n": "a line break"}.get(label, "white space")


def written(ids: Iterable[int]) -> str:
    """What the model wrote; bytes that are not yet a whole character stay visible as \\xe2 and the like."""
    return b"".join(token_bytes(i, ENCODING) for i in ids).decode("utf-8", errors="backslashreplace")
