"""Quantization looked at closely: a matrix of 25 numbers in every scheme, real matrices, blocks of the model's file.

The rounding itself is in `engine.quantization`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import gguf
import numpy as np
from jaxtyping import Float, Int

from engine import minilm_file
from engine.arrays import Array
from engine.gguf_file import StoredTensor, read_tensors
from engine.quantization import (
    BLOCK,
    FLOATS,
    Group,
    Quantized,
    cast,
    nf4,
    quantize,
    read_q4_1,
    read_q8_0,
    spacing,
)
from engine.weights import gguf_path

KINDS = {
    "fp32": "FP32", "fp16": "FP16", "bf16": "BF16", "fp8_e4m3": "FP8 E4M3",
    "int8": "INT8", "int4": "INT4", "int3": "INT3", "int2": "INT2", "nf4": "NF4",
}  # fmt: skip
SIDE = 5
OUTLIER = (1, 3)  # row and column of the number that may be made larger


def example(seed: int = 0, outlier: int | float = 1) -> Float[Array, "5 5"]:
    """25 weights as they are usually distributed, one of them (at `OUTLIER`) multiplied by `outlier`."""
    drawn = np.round(np.random.default_rng(seed).normal(0, 0.8, (SIDE, SIDE)), 2)
    at = np.zeros((SIDE, SIDE))
    at[OUTLIER] = 1
    largest = np.where(at == 1, np.sign(drawn) * np.maximum(np.abs(drawn), 0.5), drawn)
    return (largest * np.where(at == 1, outlier, 1)).astype(np.float32)


def own_numbers(text: str) -> Float[Array, "5 5"]:
    """25 numbers written by hand, by rows. Raises ValueError with a sentence for the reader."""
    found = re.findall(r"[-+−]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", text)
    if len(found) != SIDE**2:
        raise ValueError(f"A 5 × 5 matrix needs 25 numbers; there are {len(found)} here.")
    values = np.array([float(number.replace("−", "-")) for number in found])
    if np.max(np.abs(values)) > 1e6:
        raise ValueError("Numbers up to a million, please: FP16 ends long before.")
    return np.reshape(values, (SIDE, SIDE)).astype(np.float32)


@dataclass(frozen=True)
class Treated:
    """A matrix as a scheme keeps it."""

    kind: str
    codes: Int[Array, "..."] | None  # floats have none: their bits are the number
    step: Float[Array, "..."]  # from each number to the next that can be written
    quantized: Quantized | None
    dequantized: Float[Array, "..."]
    error: Float[Array, "..."]  # dequantized − x

    @property
    def rms(self) -> float:
        """√ of the mean squared error."""
        return float(np.sqrt(np.mean(np.square(self.error, dtype=np.float64))))

    @property
    def unique(self) -> int:
        """How many different numbers are left."""
        return len(np.unique(self.dequantized))


def rounded(x: Float[Array, "R C"], kind: str, symmetric: bool, group: Group) -> Quantized | Float[Array, "R C"]:
    """x in one of `KINDS`: codes and scales, or of a float format the numbers alone."""
    if kind in FLOATS:
        return cast(x, kind)
    if kind == "nf4":
        return nf4(x, group=group)
    return quantize(x, int(kind.removeprefix("int")), symmetric=symmetric, group=group)


def treat(x: Float[Array, "R C"], kind: str, symmetric: bool = True, group: Group = "tensor") -> Treated:
    """x in one of `KINDS`. Integers and NF4 have a scale for each `group`; only integers can be asymmetric."""
    found = rounded(x, kind, symmetric, group)
    if isinstance(found, Quantized):
        step, kept = spread(found.scale, x.shape, group), found.dequantized
        return Treated(kind, found.codes, step, found, kept, kept - x)
    return Treated(kind, None, spacing(x, kind), None, found, found - x)


def spread(per_group: Float[Array, "..."], shape: tuple[int, ...], group: Group) -> Float[Array, "..."]:
    """One number a group, written out for every number of the group."""
    if group in ("tensor", "row"):
        return np.broadcast_to(per_group, shape)
    return np.repeat(per_group, int(group), axis=-1)[..., : shape[-1]]


def compare(x: Float[Array, "R C"], symmetric: bool, group: Group) -> dict[str, Treated]:
    """x in every one of `KINDS`."""
    return {kind: treat(x, kind, symmetric, group) for kind in KINDS}


def staircase(x: Float[Array, "n"], kind: str, symmetric: bool, points: int = 301) -> tuple[np.ndarray, np.ndarray]:
    """What becomes of every number from the least of a group to its largest: (numbers, what is kept of them)."""
    between = np.concatenate([x, np.linspace(np.min(x), np.max(x), points).astype(x.dtype)])[None]
    kept = treat(between, kind, symmetric, "row").dequantized[0]  # the same least and largest, so the same scale
    return between[0, len(x) :], kept[len(x) :]


def group_of(shape: tuple[int, int], row: int, column: int, group: Group) -> tuple[slice, slice]:
    """The numbers that share a scale with one of them."""
    if group == "tensor":
        return slice(0, shape[0]), slice(0, shape[1])
    start = 0 if group == "row" else column // int(group) * int(group)
    end = shape[1] if group == "row" else min(start + int(group), shape[1])
    return slice(row, row + 1), slice(start, end)


OUTLIER_SCHEMES: tuple[tuple[str, str, Group], ...] = (
    ("INT8, one scale", "int8", "tensor"),
    ("INT4, one scale", "int4", "tensor"),
    ("INT4 by row", "int4", "row"),
    ("INT4 by 3", "int4", 3),
    ("FP8", "fp8_e4m3", "tensor"),
    ("FP16", "fp16", "tensor"),
)


@lru_cache(maxsize=64)
def outlier_costs(seed: int, symmetric: bool, largest: int = 64) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The RMS error of the other 24 numbers while one grows from 1 to `largest` times its size, for each scheme."""
    sizes = np.geomspace(1, largest, 16)
    found = [outlier_cost(seed, symmetric, float(size)) for size in sizes]
    return sizes, {name: np.array([cost[name] for cost in found]) for name in found[0]}


def outlier_cost(seed: int, symmetric: bool, outlier: int | float) -> dict[str, float]:
    """The same for one size of the outlier."""
    others = np.ones((SIDE, SIDE), bool)
    others[OUTLIER] = False
    costs = {}
    for name, kind, group in OUTLIER_SCHEMES:
        error = treat(example(seed, outlier), kind, symmetric, group).error[others]
        costs[name] = float(np.sqrt(np.mean(np.square(error, dtype=np.float64))))
    return costs


# --- real matrices -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """How the numbers of a matrix are distributed."""

    edges: Float[Array, "n1"]
    counts: Int[Array, "n"]
    deviation: float
    largest: float  # max |w|
    beyond: float  # share further than three standard deviations from 0; of a normal distribution 0.27 %


def weight_spread(matrix: Float[Array, "R C"], bins: int = 81) -> Spread:
    """A histogram of four standard deviations to both sides (what lies beyond is counted at its ends)."""
    deviation = float(np.sqrt(np.mean(np.square(matrix))))
    reach = 4 * deviation or 1.0
    places = ((np.clip(matrix, -reach, reach) + reach) * (bins / (2 * reach))).astype(np.int32)
    counts = np.bincount(np.reshape(np.minimum(places, bins - 1), -1), minlength=bins)
    beyond = float(np.mean(np.abs(matrix) > 3 * deviation))
    largest = float(np.max(np.abs(matrix)))
    return Spread(np.linspace(-reach, reach, bins + 1), counts, deviation, largest, beyond)


def levels_a_block(matrix: Float[Array, "R C"], block: int = BLOCK) -> Int[Array, "blocks"]:
    """How many different numbers each block of `block` neighbours in a row holds."""
    ordered = np.sort(np.reshape(matrix, (-1, block)), axis=-1)
    return 1 + np.count_nonzero(np.diff(ordered, axis=-1), axis=-1)


@dataclass(frozen=True)
class Loss:
    """What a scheme costs a matrix."""

    name: str
    bits: int | float  # a weight, scales counted in
    error: float  # RMS error ÷ RMS of the weights


RECIPES: tuple[tuple[str, str, bool, Group, int | float], ...] = (
    ("BF16", "bf16", True, "tensor", 16),
    ("FP8 E4M3", "fp8_e4m3", True, "tensor", 8),
    ("INT8, one scale", "int8", True, "tensor", 8),
    ("INT8 by row", "int8", True, "row", 8),
    ("INT4, one scale", "int4", True, "tensor", 4),
    ("INT4 by row", "int4", True, "row", 4),
    ("INT4 by 32", "int4", True, 32, 4.5),
    ("INT4 by 32, min", "int4", False, 32, 5),
    ("NF4 by 64", "nf4", True, 64, 4.5),
    ("INT3 by 32", "int3", True, 32, 3.5),
    ("INT2 by 32, min", "int2", False, 32, 3),
)


def losses(matrix: Float[Array, "R C"]) -> list[Loss]:
    """The relative error of a matrix in each of `RECIPES`. A scale a row adds 16 bits a row."""
    size = float(np.sqrt(np.mean(np.square(matrix, dtype=np.float64))))
    found = []
    for name, kind, symmetric, group, bits in RECIPES:
        error = np.asarray(rounded(matrix, kind, symmetric, group)) - matrix
        rms = float(np.sqrt(np.mean(np.square(error), dtype=np.float64)))
        beside = 16 / matrix.shape[-1] if group == "row" else 0
        found.append(Loss(name, bits + beside, rms / size))
    return found


MINILM_PARTS = {
    "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
    "out": "attention.output.dense", "up": "intermediate.dense", "down": "output.dense",
}  # fmt: skip


def minilm_matrix(layer: int, part: str) -> Float[Array, "out in"]:
    """A matrix of the encoder MiniLM in float32, never quantised; `part` is one of `MINILM_PARTS`."""
    return minilm_file.tensors()[f"encoder.layer.{layer}.{MINILM_PARTS[part]}.weight"]


@lru_cache(maxsize=64)
def minilm_losses(layer: int, part: str) -> list[Loss]:
    """`losses` of a matrix of MiniLM."""
    return losses(minilm_matrix(layer, part))


# --- a block of the model's file -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class StoredBlock:
    """A block of the model's file: its bytes, where they lie, and what they stand for."""

    kind: str  # "Q4_1" or "Q8_0"
    data: bytes
    offset: int  # of its first byte in the file
    weights: Quantized


def stored_tensor(name: str) -> StoredTensor:
    """One tensor of SmolLM2's file, still as its bytes. Raises ModelMissing or ModelBroken."""
    return _stored_tensors(gguf_path())[f"{name}.weight"]


@lru_cache(maxsize=1)
def _stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """Where all tensors of the file are; looked up once, since walking through the file takes a tenth of a second."""
    return read_tensors(path)


def stored_block(name: str, row: int, block: int) -> StoredBlock:
    """Block `block` of a row of a tensor. Raises ValueError where there is none."""
    tensor = stored_tensor(name)
    kind = tensor.tensor_type.name
    _, size = gguf.GGML_QUANT_SIZES[tensor.tensor_type]
    rows, width = tensor.data.shape
    if not (0 <= row < rows and 0 <= block < width // size):
        raise ValueError(f"{name} has {rows} rows of {width // size} blocks.")
    start = block * size
    data = tensor.data[row, start : start + size].tobytes()
    read = read_q4_1 if kind == "Q4_1" else read_q8_0
    return StoredBlock(kind, data, tensor.offset + row * width + start, read(data))
