"""Where the nodes of a computation graph stand: columns by depth, rows with few crossings, bends for long edges.

After Sugiyama, Tagawa and Toda 1981, "Methods for visual understanding of hierarchical system structures": an edge
over several columns gets an unseen node in each, so that it finds its own way between the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

SWEEPS = 12
BEND_ROOM = 0.6
"""Rows that a passing edge takes up, where a node takes 1."""


@dataclass(frozen=True)
class Layout:
    """Column and row of every node, and the bends (column, row) of every edge."""

    columns: list[int]
    rows: list[float]
    bends: list[list[tuple[float, float]]]


def layered(count: int, edges: Sequence[tuple[int, int]]) -> Layout:
    """A layout of nodes 0 … count − 1; an edge (source, target) always has source < target."""
    columns = _depths(count, edges)
    chains = [[source, target] for source, target in edges]
    for chain in chains:
        between = range(columns[chain[0]] + 1, columns[chain[1]])
        chain[1:1] = range(len(columns), len(columns) + len(between))
        columns += between
    links = [pair for chain in chains for pair in pairwise(chain)]
    order = _ordered(columns, links)
    rows = _spread(order, links, count)
    bends = [[(float(columns[i]), rows[i]) for i in chain[1:-1]] for chain in chains]
    return Layout(columns[:count], rows[:count], _parted(edges, bends, columns, rows))


def _depths(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Inputs in column 0, every other node one column after the last of those it is made from."""
    depth = [0] * count
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        depth[target] = max(depth[target], depth[source] + 1)
    return depth


def _ordered(columns: list[int], links: list[tuple[int, int]]) -> list[list[int]]:
    """The nodes of each column from top to bottom: each near the middle of its neighbours, from both sides in turn."""
    order: list[list[int]] = [[] for _ in range(max(columns, default=0) + 1)]
    for node, depth in enumerate(columns):
        order[depth].append(node)
    before, after = _neighbours(len(columns), links)
    for sweep in range(SWEEPS):
        neighbours, across = (before, order[1:]) if sweep % 2 == 0 else (after, order[-2::-1])
        for nodes in across:
            place = {node: row for column in order for row, node in enumerate(column)}
            nodes.sort(key=lambda node: _mean([place[n] for n in neighbours[node]], place[node]))
    return order


def _spread(order: list[list[int]], links: list[tuple[int, int]], count: int) -> list[float]:
    """Rows as near to their neighbours as the order and the room between nodes allow; the topmost is 0."""
    before, after = _neighbours(sum(map(len, order)), links)
    rows = {node: float(row) for nodes in order for row, node in enumerate(nodes)}
    for sweep in range(SWEEPS):
        for nodes in order if sweep % 2 else order[::-1]:
            wished = [_mean([rows[n] for n in before[node] + after[node]], rows[node]) for node in nodes]
            rows.update(zip(nodes, _apart(wished, [1.0 if node < count else BEND_ROOM for node in nodes]), strict=True))
    top = min(rows.values(), default=0.0)
    return [round(rows[node] - top, 3) for node in sorted(rows)]


def _apart(wished: list[float], rooms: list[float]) -> list[float]:
    """The rows nearest to those wished for (least squares) that keep the order and half of both rooms in between."""
    offsets, total = [0.0], 0.0
    for one, next_one in pairwise(rooms):
        total += (one + next_one) / 2
        offsets.append(total)
    blocks: list[list[float]] = []
    for wish, offset in zip(wished, offsets, strict=True):
        blocks.append([wish - offset])
        while len(blocks) > 1 and _mean(blocks[-2]) >= _mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    level = [_mean(block) for block in blocks for _ in block]
    return [height + offset for height, offset in zip(level, offsets, strict=True)]


def _parted(
    edges: Sequence[tuple[int, int]], bends: list[list[tuple[float, float]]], columns: list[int], rows: list[float]
) -> list[list[tuple[float, float]]]:
    """Edges between the same two nodes bend apart, as in a · a."""
    parted = []
    for place, (source, target) in enumerate(edges):
        twins = [i for i, edge in enumerate(edges) if edge == (source, target)]
        bend = bends[place]
        if len(twins) > 1 and not bend:
            middle = (columns[source] + columns[target]) / 2, (rows[source] + rows[target]) / 2
            bend = [(middle[0], middle[1] + 0.5 * (twins.index(place) - (len(twins) - 1) / 2))]
        parted.append(bend)
    return parted


def _neighbours(count: int, links: list[tuple[int, int]]) -> tuple[list[list[int]], list[list[int]]]:
    before: list[list[int]] = [[] for _ in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]
    for source, target in links:
        before[target].append(source)
        after[source].append(target)
    return before, after


def _mean(values: Sequence[float], otherwise: float = 0.0) -> float:
    return sum(values) / len(values) if values else otherwise
