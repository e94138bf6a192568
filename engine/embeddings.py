"""Embeddings: every token id names a row of a table, and the directions between rows carry meaning.

The measures here are the plain ones: cosine similarity, vector offsets (Mikolov et al. 2013, arXiv:1301.3781), and
principal components. Approximate neighbour search is left out: 49 152 rows are few enough to compare them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array


def lookup(table: Float[Array, "V D"], ids: Int[Array, "..."] | Sequence[int]) -> Float[Array, "... D"]:
    """Row `id` of the table for each id; the same as one-hot rows times the table, without the multiplication.

    Raises ValueError for an id that the table has no row for.
    """
    ids = np.asarray(ids)
    if ids.size and not 0 <= np.min(ids) <= np.max(ids) < len(table):
        raise ValueError(f"Token ids must lie between 0 and {len(table) - 1}; got {np.min(ids)} to {np.max(ids)}.")
    return table[ids]


def cosine_similarity(a: Float[Array, "*#batch D"], b: Float[Array, "*#batch D"]) -> Float[Array, "..."]:
    """Cosine of the angle between vectors along the last axis, −1 to 1; 0 where one of them is all zeros."""
    lengths = np.sqrt(np.sum(a * a, axis=-1) * np.sum(b * b, axis=-1))
    return np.sum(a * b, axis=-1) / np.where(lengths > 0, lengths, 1.0)


@dataclass(frozen=True)
class Neighbours:
    """Rows of a table by their cosine similarity to a vector, the most similar first."""

    target: Float[Array, "D"]  # the vector they are compared with
    ids: Int[Array, "k"]
    similarities: Float[Array, "k"]


def nearest(table: Float[Array, "V D"], vector: Float[Array, "D"], k: int, exclude: Iterable[int] = ()) -> Neighbours:
    """The k rows most similar to `vector` (fewer if the table runs out), skipping the ids in `exclude`.

    Equal similarities keep the order of the table.
    """
    if k < 1:
        raise ValueError(f"At least one neighbour must be asked for, not {k}.")
    lengths = np.sqrt(np.einsum("vd,vd->v", table, table) * np.sum(vector * vector))
    similarities = table @ vector / np.where(lengths > 0, lengths, 1.0)
    excluded = np.isin(np.arange(len(table)), list(exclude))
    order = np.argsort(np.where(excluded, np.inf, -similarities), kind="stable")
    ids = order[: min(k, len(table) - np.count_nonzero(excluded))]
    return Neighbours(vector, ids, similarities[ids])


def analogy(table: Float[Array, "V D"], a: int, b: int, c: int, k: int, exclude_inputs: bool = True) -> Neighbours:
    """The rows nearest to table[a] − table[b] + table[c], as in king − man + woman; a, b, c are ids.

    Papers leave the three inputs out of the answer; `exclude_inputs=False` shows that they often are the nearest.
    """
    target = table[a] - table[b] + table[c]
    return nearest(table, target, k, exclude=(a, b, c) if exclude_inputs else ())


@dataclass(frozen=True)
class PCA:
    """n points seen along the directions in which they differ most."""

    mean: Float[Array, "D"]
    components: Float[Array, "dims D"]  # unit rows at right angles, the widest direction first
    projected: Float[Array, "n dims"]  # coordinates of the points along the components
    explained_variance_ratio: Float[Array, "dims"]  # each direction's share of all variance


def pca(x: Float[Array, "n D"], dims: int = 2) -> PCA:
    """Principal components by singular value decomposition of the centred rows.

    A component's sign is free; its entry of largest size is made positive. Raises ValueError when there are fewer
    points or columns than `dims`.
    """
    if not 1 <= dims <= min(x.shape):
        raise ValueError(f"{x.shape[0]} points of {x.shape[1]} numbers cannot be shown in {dims} dimensions.")
    mean = np.mean(x, axis=0)
    _, stretch, directions = np.linalg.svd(x - mean, full_matrices=False)
    components = directions[:dims]
    largest = components[np.arange(dims), np.argmax(np.abs(components), axis=1)]
    components = components * np.where(largest < 0, -1, 1).astype(x.dtype)[:, None]
    total = np.sum(stretch * stretch)
    ratio = stretch[:dims] ** 2 / (total if total > 0 else x.dtype.type(1))
    return PCA(mean, components, (x - mean) @ components.T, ratio)
