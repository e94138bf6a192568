"""Where the tensors of a GGUF file are, and their bytes as stored.

The package `gguf` reads these files too, and is what the tests compare with; it turns each of the 98 052 vocabulary
entries and merges into arrays first, which takes seconds. This walks over them. Format: version 3 of
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Left out: big-endian files, lists in the metadata (they are
the vocabulary and its merges, which data/tokenizers has).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

PLAIN = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # as in struct
SIZES = {kind: struct.calcsize(form) for kind, form in PLAIN.items()}
STRING, ARRAY = 8, 9


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as the file has it."""

    name: str
    tensor_type: gguf.GGMLQuantizationType
    shape: tuple[int, ...]  # rows first, as in NumPy
    offset: int  # of its first byte in the file
    data: np.ndarray  # uint8: the bytes of each row; mapped, not read

    def dequantized(self) -> np.ndarray:
        """The numbers that the bytes stand for, in float32."""
        plain = self.data.view(np.float32) if self.tensor_type == gguf.GGMLQuantizationType.F32 else self.data
        return np.asarray(gguf.dequantize(plain, self.tensor_type), np.float32).reshape(self.shape)


def read_tensors(path: Path) -> dict[str, StoredTensor]:
    """All tensors by name. Raises ValueError for a file that is not GGUF or ends early."""
    data = np.memmap(path, np.uint8, mode="r")
    walk = _Walk(data.data)
    try:
        tensors, values = _begin(walk, path)
        for _ in range(values):
            walk.string()
            walk.skip_value(*walk.take("<I"))
        found = [walk.tensor() for _ in range(tensors)]
    except (struct.error, OverflowError) as error:
        raise ValueError(f"{path.name} ends too early.") from error
    start = -(-walk.at // gguf.GGUF_DEFAULT_ALIGNMENT) * gguf.GGUF_DEFAULT_ALIGNMENT
    return {name: _stored(data, name, shape, kind, start + offset) for name, shape, kind, offset in found}


def read_metadata(path: Path) -> dict[str, str | int | float | bool]:
    """What the file says of its model besides the tensors: texts and numbers by name. Raises as `read_tensors` does."""
    walk = _Walk(np.memmap(path, np.uint8, mode="r").data)
    found: dict[str, str | int | float | bool] = {}
    try:
        _, values = _begin(walk, path)
        for _ in range(values):
            name = walk.string()
            (kind,) = walk.take("<I")
            if kind == STRING:
                found[name] = walk.string()
            elif kind in PLAIN:
                (found[name],) = walk.take("<" + PLAIN[kind])
            else:
                walk.skip_value(kind)
    except (struct.error, OverflowError) as error:
        raise ValueError(f"{path.name} ends too early.") from error
    return found


def _begin(walk: _Walk, path: Path) -> tuple[int, int]:
    """How many tensors the file has, and how many values before them."""
    magic, version, tensors, values = walk.take("<4sIQQ")
    if magic != b"GGUF" or version != 3:
        raise ValueError(f"{path.name} is not a GGUF file of version 3.")
    return tensors, values


def _stored(data: np.ndarray, name: str, shape: tuple[int, ...], kind: int, offset: int) -> StoredTensor:
    tensor_type = gguf.GGMLQuantizationType(kind)
    in_bytes = gguf.quant_shape_to_byte_shape(shape, tensor_type)
    stored = data[offset : offset + math.prod(in_bytes)]
    if len(stored) < math.prod(in_bytes):
        raise ValueError(f"The file ends before {name} does.")
    return StoredTensor(name, tensor_type, shape, offset, stored.reshape(in_bytes))


class _Walk:
    """A place in the file that moves on with what is read."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> tuple:
        values = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return values

    def string(self) -> str:
        (length,) = self.take("<Q")
        text = bytes(self.data[self.at : self.at + length])
        self.at += length
        return text.decode("utf-8", "replace")

    def skip_value(self, kind: int) -> None:
        if kind == ARRAY:
            inner, count = self.take("<IQ")
            if inner in SIZES:
                self.at += SIZES[inner] * count
            else:
                for _ in range(count):
                    self.skip_value(inner)
        elif kind == STRING:
            (length,) = self.take("<Q")
            self.at += length
        elif kind in SIZES:
            self.at += SIZES[kind]
        else:
            raise ValueError(f"GGUF has no values of kind {kind}.")

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self.string()
        (dimensions,) = self.take("<I")
        shape = self.take(f"<{dimensions}Q")[::-1]  # the file writes the width first
        kind, offset = self.take("<IQ")
        return name, shape, kind, offset
