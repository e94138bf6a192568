"""Quantization: numbers kept with fewer bits, as whole-number codes with a scale, or as shorter floats.

Round to nearest, half to even, throughout. Sources: Jacob et al. 2018, arXiv:1712.05877 (integers with a scale);
Micikevicius et al. 2022, arXiv:2209.05433 (FP8); Dettmers et al. 2023, arXiv:2305.14314 (NF4); the block formats of
https://github.com/ggml-org/ggml (Q4_1, Q8_0). Left out: methods that look at data to choose the codes (GPTQ, AWQ).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array
from engine.ledger import Config, total_parameters

Group = str | int  # "tensor", "row", or so many neighbours of a row

BLOCK = 32  # weights in a block of Q4_1 and Q8_0
Q4_1_BYTES, Q8_0_BYTES = 20, 34


@dataclass(frozen=True)
class Quantized:
    """Codes, and what they stand for: x ≈ scale · code + zero_point. Of NF4: x ≈ scale · table[code].

    `scale` and `zero_point` have one number a group: shape () for one of the whole tensor, (..., 1) for one a row,
    (..., groups) for several. `zero_point` is the minimum of each group, 0 where quantization is symmetric.
    """

    codes: Int[Array, "..."]
    scale: Float[Array, "..."]
    zero_point: Float[Array, "..."]
    dequantized: Float[Array, "..."]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Where an array is wanted, the numbers that the codes stand for."""
        return np.asarray(self.dequantized, dtype)


def quantize(x: Float[Array, "..."], bits: int, *, symmetric: bool = True, group: Group = "tensor") -> Quantized:
    """Each number as the nearest of 2^bits steps; one scale for the tensor, a row, or each `group` of a row.

    Symmetric: scale = max|x| / (2^(bits−1) − 1), codes from minus that to plus that, so that 0 stays 0. Asymmetric:
    2^bits − 1 steps from the minimum to the maximum, codes from 0, x ≈ scale · code + minimum. The last group of a row
    may be shorter. Raises ValueError for no or infinite numbers, and for bits and groups that there are not.
    """
    _check(x, bits, 2 if symmetric else 1)
    grouped = _grouped(x, group)
    if symmetric:
        low, steps = np.zeros_like(grouped[..., :1]), 2 ** (bits - 1) - 1
        scale = np.max(np.abs(grouped), axis=-1, keepdims=True) / steps
    else:
        low, steps = np.min(grouped, axis=-1, keepdims=True), 2**bits - 1
        scale = (np.max(grouped, axis=-1, keepdims=True) - low) / steps
    codes = np.rint((grouped - low) / np.where(scale == 0, 1, scale))
    codes = np.clip(codes, -steps if symmetric else 0, steps)  # x / scale may round to just above
    values = codes * scale + low
    return Quantized(
        _ungrouped(codes, x).astype(np.int32),
        _per_group(scale, x, group),
        _per_group(low, x, group),
        _ungrouped(values, x),
    )


def _check(x: np.ndarray, bits: int, least: int) -> None:
    if not least <= bits <= 16:
        raise ValueError(f"A code has {least} to 16 bits here, not {bits}.")
    if x.size == 0 or not np.all(np.isfinite(x)):
        raise ValueError("Only finite numbers can be quantised, and at least one.")


def _grouped(x: np.ndarray, group: Group) -> np.ndarray:
    """The numbers that share a scale, side by side on the last axis."""
    if group == "tensor":
        return np.reshape(x, (1, -1))
    if group == "row":
        return np.reshape(x, (-1, 1, x.shape[-1]))
    if not isinstance(group, int) or group < 1:
        raise ValueError(f'A scale belongs to the "tensor", a "row", or a number of neighbours, not to {group!r}.')
    short = -x.shape[-1] % group
    # The last number again and again fills a short group without changing its least or its largest.
    filled = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, short)], mode="edge") if short else x
    return np.reshape(filled, (-1, filled.shape[-1] // group, group))


def _ungrouped(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Back in the shape of x, without what filled a short group."""
    if values.size == x.size:
        return np.reshape(values, x.shape)
    return np.reshape(np.reshape(values, (*x.shape[:-1], -1))[..., : x.shape[-1]], x.shape)


def _per_group(values: np.ndarray, x: np.ndarray, group: Group) -> np.ndarray:
    return np.reshape(values, () if group == "tensor" else (*x.shape[:-1], -1))


# --- shorter floats ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FloatFormat:
    """A float: one bit for the sign, `exponent` and `mantissa` bits, and the largest number that it can hold."""

    name: str
    exponent: int
    mantissa: int
    largest: float
    overflow: float  # what becomes of larger numbers

    @property
    def lowest(self) -> int:
        """The least exponent; below 2 to the power of it, numbers are evenly spaced down to 0."""
        return 2 - 2 ** (self.exponent - 1)


FLOATS = {
    "fp32": FloatFormat("FP32", 8, 23, float(np.finfo(np.float32).max), np.inf),
    "fp16": FloatFormat("FP16", 5, 10, 65504.0, np.inf),
    "bf16": FloatFormat("BF16", 8, 7, (2 - 2.0**-7) * 2.0**127, np.inf),
    "fp8_e4m3": FloatFormat("FP8 E4M3", 4, 3, 448.0, 448.0),  # has no infinity; hardware is told to stop at 448
}


def spacing(x: Float[Array, "..."], kind: str) -> Float[Array, "..."]:
    """How far apart neighbouring numbers of a float format are around x: 2^(exponent − mantissa bits)."""
    form = _form(kind)
    _, exponent = np.frexp(x)  # |x| = fraction · 2^exponent with the fraction from a half to one
    at = np.maximum(np.where(x == 0, form.lowest, exponent - 1), form.lowest)
    return np.ldexp(np.ones_like(x), at - form.mantissa)


def cast(x: Float[Array, "..."], kind: str, *, group: Group = "tensor") -> Float[Array, "..."]:
    """x as "fp32", "fp16", "bf16", "fp8_e4m3" or "nf4" keeps it, in the dtype of x.

    Beyond the largest number FP16 and BF16 give infinity and FP8 stays at 448. NF4 has a scale for each `group`; floats
    have none. Raises ValueError for another kind.
    """
    if kind == "nf4":
        return nf4(x, group=group).dequantized
    form, step = _form(kind), spacing(x, kind).astype(np.float64)
    rounded = np.rint(x / step) * step
    kept = np.where(np.abs(rounded) > form.largest, np.copysign(form.overflow, x), rounded)
    with np.errstate(over="ignore"):
        return kept.astype(x.dtype)


def _form(kind: str) -> FloatFormat:
    if kind not in FLOATS:
        raise ValueError(f"There is no format {kind!r} here, only {', '.join(FLOATS)} and nf4.")
    return FLOATS[kind]


# --- NF4 -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def nf4_table() -> Float[Array, "16"]:
    """The 16 numbers of NF4, −1 to 1 with 0 among them: quantiles of a normal distribution, so that weights that are
    normally distributed use all codes equally often.

    Source: Dettmers et al. 2023, arXiv:2305.14314, section 3 and appendix E; the outermost quantile, 0.9677083, as in
    its code.
    """
    quantile = NormalDist().inv_cdf
    negative = [-quantile(p) for p in np.linspace(0.9677083, 0.5, 8)[:-1]]
    positive = [quantile(p) for p in np.linspace(0.9677083, 0.5, 9)[:-1]]
    table = np.sort(np.array([*negative, 0.0, *positive])) / max(positive)
    table.setflags(write=False)
    return table


def nf4(x: Float[Array, "..."], *, group: Group = "tensor") -> Quantized:
    """Each number as the nearest of NF4's 16, times the largest |x| of its group. Raises ValueError as `quantize`."""
    _check(x, 4, 4)
    table, grouped = nf4_table().astype(x.dtype), _grouped(x, group)
    scale = np.max(np.abs(grouped), axis=-1, keepdims=True)
    middles = (table[1:] + table[:-1]) / 2
    scaled = grouped / np.where(scale == 0, 1, scale)
    codes = sum((scaled > middle).astype(np.int8) for middle in middles)  # how many middles lie below
    zero = _per_group(np.zeros_like(scale), x, group)
    return Quantized(
        _ungrouped(codes, x).astype(np.int32), _per_group(scale, x, group), zero, _ungrouped(table[codes] * scale, x)
    )


# --- blocks of a GGUF file -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Half:
    """A float of 16 bits taken apart: (−1)^sign · 2^(exponent − 15) · (1 + mantissa / 1024)."""

    bits: int
    sign: int
    exponent: int
    mantissa: int
    value: float


def read_half(two_bytes: bytes) -> Half:
    """An IEEE half from its two bytes, the low one first. With exponent 0 the 1 is missing and 2^−14 counts."""
    bits = int.from_bytes(two_bytes, "little")
    sign, exponent, mantissa = bits >> 15, bits >> 10 & 31, bits & 1023
    if exponent == 31:
        size = np.inf if mantissa == 0 else np.nan
    else:
        size = 2.0 ** max(exponent - 15, -14) * ((exponent > 0) + mantissa / 1024)
    return Half(bits, sign, exponent, mantissa, float(-size if sign else size))


def read_q4_1(block: bytes) -> Quantized:
    """32 weights from the 20 bytes of a Q4_1 block: scale and minimum as halves, then two codes a byte.

    The low half of byte i is the code of weight i, its high half that of weight i + 16. Raises ValueError for another
    number of bytes.
    """
    if len(block) != Q4_1_BYTES:
        raise ValueError(f"A block of Q4_1 has {Q4_1_BYTES} bytes, not {len(block)}.")
    scale, minimum = np.float32(read_half(block[:2]).value), np.float32(read_half(block[2:4]).value)
    nibbles = [byte & 15 for byte in block[4:]] + [byte >> 4 for byte in block[4:]]
    codes = np.array(nibbles, np.int32)
    return Quantized(codes, np.asarray(scale), np.asarray(minimum), codes.astype(np.float32) * scale + minimum)


def read_q8_0(block: bytes) -> Quantized:
    """32 weights from the 34 bytes of a Q8_0 block: a scale as half, then one signed byte a weight."""
    if len(block) != Q8_0_BYTES:
        raise ValueError(f"A block of Q8_0 has {Q8_0_BYTES} bytes, not {len(block)}.")
    scale = np.float32(read_half(block[:2]).value)
    codes = np.frombuffer(block[2:], np.int8).astype(np.int32)
    return Quantized(codes, np.asarray(scale), np.asarray(np.float32(0)), codes.astype(np.float32) * scale)


# --- sizes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scheme:
    """How weights are stored: bits a code, and what each group of them needs beside."""

    name: str
    bits: int
    group: int = 0  # 0: no groups, nothing beside
    beside: int | float = 0  # bits of scale and minimum a group

    @property
    def bits_per_weight(self) -> float:
        """Everything counted."""
        return self.bits + (self.beside / self.group if self.group else 0.0)


SCHEMES = {
    "fp32": Scheme("FP32", 32),
    "fp16": Scheme("FP16", 16),
    "bf16": Scheme("BF16", 16),
    "fp8_e4m3": Scheme("FP8 E4M3", 8),
    "q8_0": Scheme("Q8_0", 8, BLOCK, 16),
    "q6_k": Scheme("Q6_K", 6, 256, 16 * 8 + 16),  # 16 scales of 8 bits, and a half for all of them
    "q5_1": Scheme("Q5_1", 5, BLOCK, 32),
    "q4_1": Scheme("Q4_1", 4, BLOCK, 32),
    "q4_0": Scheme("Q4_0", 4, BLOCK, 16),
    "q4_k": Scheme("Q4_K", 4, 256, 8 * 12 + 32),  # 8 scales and minimums of 6 bits, and two halves for all of them
    "nf4": Scheme("NF4", 4, 64, 32),
    "nf4_double": Scheme("NF4, double", 4, 64, 8 + 32 / 256),
    "q3_k": Scheme("Q3_K", 3, 256, 16 * 6 + 16),
    "q2_k": Scheme("Q2_K", 2, 256, 16 * 8 + 32),
}


def model_bytes(config: Config, scheme: str | Scheme, *, embedding: str | Scheme | None = None) -> int:
    """Bytes of all weights of a model, scales counted in; `embedding` is stored in another scheme if given.

    Raises ValueError for an unknown scheme.
    """
    rest, total = _scheme(scheme), total_parameters(config)
    table = config.vocabulary * config.width if embedding is not None else 0
    bits = (total - table) * rest.bits_per_weight
    return round((bits + table * _scheme(embedding or scheme).bits_per_weight) / 8)


def _scheme(scheme: str | Scheme) -> Scheme:
    if isinstance(scheme, Scheme):
        return scheme
    if scheme not in SCHEMES:
        raise ValueError(f"There is no scheme {scheme!r}, only {', '.join(SCHEMES)}.")
    return SCHEMES[scheme]
