"""Rotary position embedding (RoPE): queries and keys are turned by angles that grow with their positions.

A turn of the query by p θ and of the key by q θ leaves (p − q) θ between them, so that a score depends on the distance
alone. Source: Su et al. 2021, "RoFormer", arXiv:2104.09864, section 3.2.2. Beside it stand what came before and after:
sinusoids (Vaswani et al. 2017, arXiv:1706.03762, section 3.5) and ALiBi (Press et al. 2021, arXiv:2108.12409).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Shaped

from engine.arrays import Array

Scaling = tuple[str, float | int] | tuple[str, float | int, int] | None


def frequencies(d: int, base: float | int = 10000.0, scaling: Scaling = None) -> Float[Array, "pairs"]:
    """θ_i = base^(−2i/d) for i = 0 … d/2 − 1: how far pair i turns from one position to the next, in radians; float64.

    `scaling` stretches a model to `factor` times the context it was trained on: ("linear", factor), ("ntk", factor),
    or ("yarn", factor, original_context) with that context in tokens; see the functions below. Raises ValueError for
    an odd d, and for a scaling that is not one of these.
    """
    if d < 2 or d % 2:
        raise ValueError(f"RoPE turns pairs of numbers, so the head width must be even, not {d}.")
    if not base > 0:
        raise ValueError(f"The base of the frequencies must be above 0, not {base}.")
    if scaling is None:
        return _powers(d, base)
    name, factor, *context = scaling
    if not factor >= 1:
        raise ValueError(f"The scaling factor must be 1 or more, not {factor}.")
    if name == "linear":
        return _powers(d, base) / factor
    if name == "ntk":
        return ntk_frequencies(d, base, factor)
    if name == "yarn" and context:
        return yarn_frequencies(d, base, factor, int(context[0]))
    raise ValueError(f'Scaling is ("linear", s), ("ntk", s) or ("yarn", s, original_context), not {scaling!r}.')


def _powers(d: int, base: float | int) -> Float[Array, "pairs"]:
    return float(base) ** (-np.arange(0, d, 2) / d)


def ntk_frequencies(d: int, base: float | int, factor: float | int) -> Float[Array, "pairs"]:
    """A larger base, factor^(d / (d − 2)) times: the fastest pair keeps its speed, the slowest turns `factor` slower.

    Source: bloc97, "NTK-Aware Scaled RoPE", 2023 (r/LocalLLaMA); Peng et al. 2023, arXiv:2309.00071, section 3.1.
    "linear" instead slows all pairs alike: Chen et al. 2023, "position interpolation", arXiv:2306.15595.
    """
    if d < 4:
        raise ValueError("NTK scaling needs a fastest and a slowest pair: a head width of at least 4.")
    return _powers(d, base * factor ** (d / (d - 2)))


def yarn_frequencies(
    d: int, base: float | int, factor: float | int, original_context: int, slow: float = 1.0, fast: float = 32.0
) -> Float[Array, "pairs"]:
    """Pairs with over `fast` turns in the original context keep their speed, below `slow` they turn `factor` slower.

    In between the share changes linearly with the number of turns. Source: Peng et al. 2023, "YaRN",
    arXiv:2309.00071, section 3.2 (α = 1, β = 32). Hugging Face blends linearly in the pair's number instead.
    """
    theta = _powers(d, base)
    turns = original_context * theta / (2 * math.pi)
    kept = np.clip((turns - slow) / (fast - slow), 0.0, 1.0)
    return (1.0 - kept) * theta / factor + kept * theta


def magnitude(scaling: Scaling = None) -> float:
    """What YaRN also multiplies queries and keys by, 0.1 ln(factor) + 1 (its section 3.4); 1 for all others."""
    return 0.1 * math.log(scaling[1]) + 1.0 if scaling is not None and scaling[0] == "yarn" else 1.0


def wavelengths(d: int, base: float | int = 10000.0, scaling: Scaling = None) -> Float[Array, "pairs"]:
    """Positions until each pair has made a full turn: 2π / θ_i."""
    return 2 * math.pi / frequencies(d, base, scaling)


def rotate(
    x: Float[Array, "... T d"],
    positions: Shaped[Array, "... T"],
    base: float | int = 10000.0,
    layout: str = "interleaved",
    scaling: Scaling = None,
) -> Float[Array, "... T d"]:
    """Turn pair i of each row by the angle p θ_i, p the row's position (whole or not).

    "interleaved" pairs the numbers 2i and 2i + 1 (RoFormer; GGUF files), "half" pairs i and i + d/2 (Hugging Face);
    a model works only with the layout its weights were stored for. Raises ValueError for any other layout.
    """
    cos, sin = tables(positions, x.shape[-1], base, scaling, x.dtype)
    if layout == "interleaved":
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = (even * cos - odd * sin)[..., None], (even * sin + odd * cos)[..., None]
        return np.reshape(np.concatenate(turned, axis=-1), x.shape)
    if layout == "half":
        first, second = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
        return np.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)
    raise ValueError(f'The layout must be "interleaved" or "half", not {layout!r}.')


def tables(
    positions: Shaped[Array, "... T"],
    d: int,
    base: float | int = 10000.0,
    scaling: Scaling = None,
    dtype: np.dtype = np.dtype(np.float64),  # noqa: B008 - a constant
) -> tuple[Float[Array, "... T pairs"], Float[Array, "... T pairs"]]:
    """Cosine and sine of every angle p θ_i, in `dtype`, times `magnitude(scaling)`.

    The angles are float64 until then: in float32 a position of 100 000 would be off by a visible part of a turn.
    The last few results are kept, because every layer asks for the same ones; they are read-only.
    """
    positions = np.asarray(positions)
    return _tables(positions.tobytes(), positions.dtype.str, positions.shape, d, base, scaling, np.dtype(dtype).str)


@lru_cache(maxsize=32)
def _tables(
    data: bytes, kind: str, shape: tuple[int, ...], d: int, base: float | int, scaling: Scaling, dtype: str
) -> tuple[np.ndarray, np.ndarray]:
    positions = np.frombuffer(data, dtype=kind).reshape(shape)
    angles = positions[..., None] * frequencies(d, base, scaling)
    cos, sin = ((wave * magnitude(scaling)).astype(dtype) for wave in (np.cos(angles), np.sin(angles)))
    for table in (cos, sin):
        table.setflags(write=False)
    return cos, sin


def sinusoids(positions: Shaped[Array, "T"], d: int, base: float | int = 10000.0) -> Float[Array, "T d"]:
    """The first transformer's vectors, added to the embeddings: sin and cos of p θ_i, interleaved; float64."""
    cos, sin = tables(positions, d, base)
    return np.reshape(np.stack([sin, cos], axis=-1), (len(positions), d))


def alibi_slopes(heads: int) -> Float[Array, "H"]:
    """ALiBi's steepness of each head, 2^(−8h / H) for h = 1 … H; float64.

    The paper gives it for powers of two; for other numbers of heads its code interpolates, and this does not.
    """
    return 2.0 ** (-8.0 * np.arange(1, heads + 1) / heads)


def alibi_bias(heads: int, queries: int, keys: int) -> Float[Array, "H T S"]:
    """What ALiBi adds to the scores: minus slope times distance; the queries are the last of the positions; float64."""
    distance = np.abs(np.arange(keys - queries, keys)[:, None] - np.arange(keys))
    return alibi_slopes(heads)[:, None, None] * -distance
