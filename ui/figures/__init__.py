"""Pictures as plain data: what a lab returns, and what the painters in assets/js draw in the browser.

A picture is a dictionary of numbers and words with a `kind`; it holds no colours and no sizes, so one picture serves
light and dark, wide and phone, screen and print. Numbers are rounded here once, to six significant digits.

`tensor` names the colour family: tokens, resid, q, k, v, attn, ffn, logits, grad. `key` names a quantity, so that the
same quantity lights up wherever it appears in a lab.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Picture = dict[str, Any]

SIGNIFICANT = 6
ALWAYS = {
    "values", "labels", "pieces", "items", "series", "nodes", "edges", "weights", "points", "arrows", "boxes", "wires",
    "texts", "paths",
}  # fmt: skip
"""What a painter walks over: sent even where it is empty."""
GRID_LIMIT = 16
"""Matrices up to this many rows and columns are text that can be read; larger ones are heatmaps."""

THUMBNAIL = 24
"""Rows and columns that a thumbnail has at most."""
LEVELS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def numbers(values: Any, significant: int = SIGNIFICANT) -> Any:
    """Arrays -> nested lists rounded to significant digits; what is not finite becomes "nan", "inf" or "-inf"."""
    array = np.asarray(values, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        magnitude = np.where((array == 0) | ~np.isfinite(array), 0, np.floor(np.log10(np.abs(array))))
        scale = 10.0 ** (significant - 1 - magnitude)
        rounded = np.round(array * scale) / scale
    # Infinities have no digits to round, and numbers below 1e-303 no scale that float64 can hold.
    return _finite(np.where(np.isfinite(rounded), rounded, array).tolist())


def _drawn(lines: Sequence[Any], log: bool) -> list[Any]:
    """Coordinates on one axis, rounded to less than half of a thousandth of it: a curve has no finer pixels.

    Six digits of each of a thousand points would be most of a page's weight; the lab's data has them all.
    """
    arrays = [np.asarray(line, dtype=np.float64) for line in lines]
    if log:
        return [numbers(line, 4) for line in arrays]
    seen = np.concatenate([np.ravel(line) for line in arrays] or [np.zeros(0)])
    seen = seen[np.isfinite(seen)]
    with np.errstate(over="ignore"):
        span = float(np.ptp(seen)) if seen.size else 0.0
    # What differs by its last bits only keeps them: the painter knows it as one value.
    if not 1e-200 < span < 1e200 or span <= 1e-9 * np.max(np.abs(seen)):
        return [numbers(line) for line in arrays]
    decimals = 3 - int(np.floor(np.log10(span)))
    return [numbers(np.round(line, decimals)) for line in arrays]


def _finite(values: Any) -> Any:
    if isinstance(values, list):
        return [_finite(value) for value in values]
    if values != values:
        return "nan"
    return values if abs(values) != float("inf") else ("inf" if values > 0 else "-inf")


def matrix(
    values: Any,
    title: str,
    tensor: str,
    name: str = "",
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    scale: str = "signed",
    limit: float | None = None,
    product: tuple[str, str] | None = None,
    divide: float | None = None,
    pick: str | Sequence[str] = "",
    picked: int | Sequence[int] | None = None,
    digits: int | None = None,
    key_rows: str = "",
    key_columns: str = "",
    cell: int | None = None,
    keys: Sequence[Sequence[str]] = (),
) -> Picture:
    """A matrix: a grid of readable numbers while it is small, a heatmap when it is not.

    `name` is how other pictures of the lab refer to it; the tensor's name unless given.
    `scale` is "signed" (diverging around zero), "share" (0 to 1) or "none". `limit` fixes the value of full colour, so
    that dragging a slider does not rescale. `product=(left, right)` names the two matrices of the same lab whose rows
    and columns multiply to a cell: hovering shows the products; `divide` is what their sum is divided by.
    `pick` names the control that clicking a row sets. `cell` is the largest side of a heatmap's cell in pixels; `keys`
    names the quantity in each cell of a small matrix.
    """
    array = np.atleast_2d(np.asarray(values))
    small = max(array.shape) <= GRID_LIMIT
    return _without_empty(
        kind="grid" if small else "heatmap",
        title=title,
        tensor=tensor,
        name=name or tensor,
        values=numbers(array),
        rows=list(rows),
        columns=list(columns),
        scale=scale,
        limit=limit if limit is None else float(limit),
        product=list(product) if product else None,
        divide=None if divide is None else float(divide),
        pick=pick,
        picked=picked,
        digits=digits,
        key_rows=key_rows,
        key_columns=key_columns,
        cell=cell,
        keys=[list(line) for line in keys],
    )


def places(
    values: Sequence[Sequence[dict[str, Any]]],
    *,
    title: str,
    tensor: str,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    legend: Sequence[tuple[str, str]] = (),
) -> Picture:
    """A grid of places, each in one of a few states: {state, text, note, key}; the legend says what a state means.

    States: "new" (filled), "again" (filled and hatched), "read" (tinted), "waste" (hatched), "free" (an empty place),
    "gap" (a narrow space) and "" (no place at all). Hovering writes a cell's `note` below the picture.
    """
    return _without_empty(
        kind="places",
        title=title,
        tensor=tensor,
        values=[[{name: part for name, part in cell.items() if part != ""} for cell in line] for line in values],
        rows=list(rows),
        columns=list(columns),
        legend=[list(line) for line in legend],
    )


def heads_map(
    values: Any, *, title: str, pick: Sequence[str], picked: Sequence[int], limit: float | None = None
) -> Picture:
    """One number for each head of each layer (heads, layers), as a heatmap that a reader clicks into."""
    array = np.asarray(values)
    return _without_empty(
        kind="heatmap",
        title=title,
        tensor="attn",
        name="heads",
        values=numbers(array),
        rows=[f"head {i}" for i in range(array.shape[0])],
        columns=[f"layer {i}" if i % 5 == 0 else str(i) for i in range(array.shape[1])],
        scale="share",
        limit=float(limit or array.max()),
        pick=list(pick),
        picked=list(picked),
    )


def thumbnails(
    maps: Any, *, title: str, pick: Sequence[str], picked: Sequence[int], names: Sequence[str] = ("layer", "head")
) -> Picture:
    """Many small causal attention maps at once, (layers, heads, T, T): a reader compares them and clicks one open.

    A weight travels as one character, its 64 steps from `LEVELS`, and only on and below the diagonal, since the rest is
    zero: 37 thousand characters for 270 maps of 16 tokens. Longer texts are pooled to `THUMBNAIL` rows and columns,
    each cell showing the largest weight in it.
    """
    array = _pooled(np.asarray(maps), THUMBNAIL)
    size = array.shape[-1]
    levels = np.rint(63 * np.clip(np.nan_to_num(array), 0, 1)).astype(np.uint8)[(..., *np.tril_indices(size))]
    return {
        "kind": "thumbnails",
        "title": title,
        "tensor": "attn",
        "size": size,
        "grid": list(array.shape[:2]),
        "maps": np.frombuffer(LEVELS, np.uint8)[levels].tobytes().decode("ascii"),
        "names": list(names),
        "pick": list(pick),
        "picked": list(picked),
    }


def _pooled(maps: np.ndarray, most: int) -> np.ndarray:
    """Square maps (…, T, T) made smaller by an equal whole factor until they fit: the largest of each little square."""
    size = maps.shape[-1]
    factor = -(-size // most)
    edge = [(0, 0)] * (maps.ndim - 2) + [(0, -size % factor)] * 2
    padded = np.pad(maps, edge)
    cells = padded.shape[-1] // factor
    return padded.reshape(*maps.shape[:-2], cells, factor, cells, factor).max(axis=(-3, -1))


def bars(
    labels: Sequence[str],
    values: Any,
    *,
    title: str,
    tensor: str,
    unit: str = "",
    limit: float | None = None,
    share: bool = False,
    notes: Sequence[str] = (),
    keys: Sequence[str] = (),
    pick: str = "",
    picked: int | None = None,
    picks: Sequence[str | int | None] = (),
    marked: Sequence[int] = (),
    texts: Sequence[str] = (),
) -> Picture:
    """Horizontal bars with their label and number; `share` writes percentages, `texts` says what to write instead.

    Clicking a label sets the control `pick` to its index, or to what `picks` has for it; None there is no button.
    """
    return _without_empty(
        kind="bars",
        title=title,
        tensor=tensor,
        labels=list(labels),
        values=numbers(values),
        unit=unit,
        limit=limit,
        share=share or None,
        notes=list(notes),
        keys=list(keys),
        pick=pick,
        picked=picked,
        picks=list(picks),
        marked=list(marked),
        written=list(texts),
    )


def curve(
    series: Sequence[tuple[str, Any, Any]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    tensors: Sequence[str] = (),
    marker: tuple[float, float] | None = None,
    log_x: bool = False,
    log_y: bool = False,
    points: bool = False,
    dots: Sequence[int] = (),
    family: bool = False,
) -> Picture:
    """Lines (name, x, y) over shared axes, with an optional live marker; the series in `dots` are points alone.

    A `family` is many lines of one kind: thin, undashed and without a legend. The numbers are as fine as can be seen.
    """
    xs, ys = _drawn([x for _, x, _ in series], log_x), _drawn([y for *_, y in series], log_y)
    return _without_empty(
        kind="curve",
        title=title,
        series=[{"name": name, "x": x, "y": y} for (name, *_), x, y in zip(series, xs, ys, strict=True)],
        x_label=x_label,
        y_label=y_label,
        tensors=list(tensors),
        marker=None if marker is None else numbers(marker),
        log_x=log_x or None,
        log_y=log_y or None,
        points=points or None,
        dots=list(dots),
        family=family or None,
    )


def histogram(
    edges: Any,
    counts: Any,
    *,
    title: str,
    tensor: str,
    x_label: str = "",
    y_label: str = "",
    marker: float | None = None,
    shade: tuple[float, float] | Sequence[tuple[float, float]] | None = None,
) -> Picture:
    """Upright bars between `edges` (one more than `counts`); a `marker` line at x, the bars inside `shade` filled.

    `shade` is a range of x, or a list of such ranges.
    """
    return _without_empty(
        kind="histogram",
        title=title,
        tensor=tensor,
        edges=numbers(edges),
        values=numbers(counts),
        x_label=x_label,
        y_label=y_label,
        marker=None if marker is None else numbers(marker),
        shade=None if shade is None else numbers(shade),
    )


def plane(
    points: Sequence[dict[str, Any]],
    *,
    title: str,
    arrows: Sequence[dict[str, Any]] = (),
    x_label: str = "",
    y_label: str = "",
    limit: float | None = None,
    circle: float | None = None,
    equal: bool = True,
    pick: str = "",
    picked: int | None = None,
) -> Picture:
    """Two dimensions: points {x, y, label, tensor, key, note}, arrows {x0, y0, x1, y1, label, tensor, dashed, key}.

    With `limit` both axes run from −limit to limit around a cross at zero; without it they fit what is shown. `circle`
    is the radius of a circle around zero; `equal` gives both axes one unit; `pick` names the control that clicking a
    point sets.
    """
    return _without_empty(
        kind="plane",
        title=title,
        points=[_rounded(point) for point in points],
        arrows=[_rounded(arrow) for arrow in arrows],
        x_label=x_label,
        y_label=y_label,
        limit=limit,
        circle=circle,
        equal=equal or None,
        pick=pick,
        picked=picked,
    )


def contour(
    heights: Any,
    view: Sequence[float],
    paths: Sequence[tuple[str, str, Any]],
    *,
    title: str,
    x_label: str = "",
    y_label: str = "",
    start: Sequence[float] | None = None,
    marks: Sequence[Sequence[float]] = (),
    pick: Sequence[str] = (),
    legend: bool = True,
) -> Picture:
    """A landscape as contour lines with paths (name, tensor, points (n, 2)) in it; a click sets the controls `pick`.

    `heights` (rows, columns) are on an even grid over `view` (x from, x to, y from, y to), low y first. The lines stand
    closer together than even steps would near the lowest height (steps of a logarithm). A height travels as two
    characters of `LEVELS`, a place as thousandths of the view.
    """
    return _without_empty(
        kind="contour",
        title=title,
        heights=_coded(np.asarray(heights, np.float64)),
        columns=np.shape(heights)[1],
        levels=CONTOURS,
        view=numbers(view),
        paths=[
            {"name": name, "tensor": tensor, "key": f"walk:{name}"}
            | dict(zip("xy", _thousandths(points, view).T.tolist(), strict=True))
            for name, tensor, points in paths
        ],
        x_label=x_label,
        y_label=y_label,
        start=None if start is None else _thousandths([start], view)[0].tolist(),
        marks=_thousandths(marks, view).tolist() if len(marks) else [],
        pick=list(pick),
        legend=legend or None,
    )


CONTOURS = 14


def _coded(heights: np.ndarray) -> str:
    """Each height, from the lowest (0) to the highest (4095) on a logarithmic scale, as two characters."""
    above = heights - heights.min()
    share = np.log1p(above / (1e-3 * above.max() or 1.0)) / np.log1p(1e3)
    codes = np.rint(4095 * np.clip(share, 0, 1)).astype(np.uint16).ravel()
    pairs = np.stack([codes // 64, codes % 64], axis=-1).ravel()
    return np.frombuffer(LEVELS, np.uint8)[pairs].tobytes().decode("ascii")


def _thousandths(points: Any, view: Sequence[float]) -> np.ndarray:
    """Points (n, 2) as thousandths of the view; what is far outside stops four views away."""
    (x0, x1, y0, y1), array = view, np.nan_to_num(np.asarray(points, np.float64), nan=0.0)
    share = (array - np.array([x0, y0])) / np.array([x1 - x0, y1 - y0])
    return np.rint(1000 * np.clip(share, -4, 5)).astype(int)


def tokens(
    pieces: Sequence[dict[str, Any]],
    *,
    title: str = "",
    pick: str = "",
    picked: int | None = None,
    picks: Sequence[str | int] = (),
    shares: Any = None,
    show: Sequence[str] = (),
    scale: str = "share",
    marked: Sequence[int] = (),
) -> Picture:
    """Token chips. A piece is {text, id, hex, note, key}; `shares` (one number a token) tints each chip.

    Clicking a chip sets the control `pick` to its index, or to what `picks` has for it.

    Without `text` a chip shows its bytes in hex. `show` may hold "bytes", "no-ids" and "plain" (spaces as they are);
    the chips in `marked` stand out.
    """
    return _without_empty(
        kind="tokens",
        title=title,
        pieces=list(pieces),
        pick=pick,
        picked=picked,
        picks=list(picks),
        shares=None if shares is None else numbers(shares),
        show=list(show),
        scale=scale,
        marked=list(marked),
    )


def stretches(
    labels: Sequence[str],
    shares: Any,
    *,
    title: str,
    tensor: str,
    draw: float | None = None,
    chosen: int | None = None,
    keys: Sequence[str] = (),
) -> Picture:
    """Shares laid end to end on a line from 0 to 1, and a number drawn on it: the cumulative distribution, flattened.

    The stretch `chosen` is the one that the `draw` falls on.
    """
    return _without_empty(
        kind="stretches",
        title=title,
        tensor=tensor,
        labels=list(labels),
        values=numbers(shares),
        draw=None if draw is None else numbers(draw),
        chosen=chosen,
        keys=list(keys),
    )


def arcs(
    labels: Sequence[str], weights: Any, *, title: str, selected: int, pick: str = "", tensor: str = "attn"
) -> Picture:
    """Tokens in a line with an arc from the selected one to each that it attends to, as thick as its weight."""
    return _without_empty(
        kind="arcs",
        title=title,
        labels=list(labels),
        weights=numbers(weights),
        selected=selected,
        pick=pick,
        tensor=tensor,
    )


def network(
    nodes: Sequence[dict[str, Any]],
    edges: Sequence[dict[str, Any]],
    *,
    title: str,
    columns: Sequence[str] = (),
    pick: str = "",
    picked: int | None = None,
    gap: tuple[int, int] | None = None,
    edge_values: bool = False,
) -> Picture:
    """Nodes {id, label, value, grad, column, row, tensor, note, state, key}, edges {from, to, value, grad, text, note,
    via, active, key}.

    A node's `state` is "wanted" (thick outline), "input" (dashed) or "off" (faint). An edge that is not `active` is
    faint too. An edge is drawn as thick as its `value`; its
    label is its `text`, or with `edge_values` its value and gradient; `via` lists the (column, row) it bends at. `gap`
    is the least distance of columns and rows in pixels: a picture wider than the page scrolls. Hovering writes `note`
    below the picture.
    """
    return _without_empty(
        kind="network",
        title=title,
        nodes=[_rounded(node) for node in nodes],
        edges=[_rounded(edge) for edge in edges],
        columns=list(columns),
        pick=pick,
        picked=picked,
        gap=list(gap) if gap else None,
        edge_values=edge_values or None,
    )


def diagram(
    boxes: Sequence[dict[str, Any]],
    wires: Sequence[dict[str, Any]],
    *,
    title: str,
    size: tuple[int, int],
    frames: Sequence[dict[str, Any]] = (),
    pick: str = "",
) -> Picture:
    """A drawn diagram of boxes and wires, `size` pixels wide and high; a narrow page shrinks it.

    Boxes {id, label, sub, x, y, w, h, tensor, note, key, form, pick, picked}: x and y are the middle; `form` is "plus"
    for a circle with a sign, "pile" for several of a kind; `note` is written below the picture when the box is pointed
    at; with `pick` naming a control, the box sets it to its own `pick`. Wires {points, text, at, tensor, form}: through
    its points (x, y), with its text at `at`; `form` is "stream" for the residual line (thick), "arrow", "line" or
    "dashed". Frames {x, y, w, h, label} stand behind, x and y their upper left corner.
    """
    return _without_empty(
        kind="diagram",
        title=title,
        boxes=list(boxes),
        wires=list(wires),
        frames=list(frames),
        size=list(size),
        pick=pick,
    )


def cells(
    texts: Sequence[Sequence[str]],
    shares: Any,
    *,
    title: str,
    tensor: str = "logits",
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    pick: Sequence[str] = (),
    picked: Sequence[int] | None = None,
    marked: Sequence[Sequence[int]] = (),
) -> Picture:
    """A table of words, each cell tinted by its share (0 to 1): a token at every layer and position, for example.

    `pick` names the controls that clicking a cell sets (row, column); `marked` lists cells that stand out.
    """
    return _without_empty(
        kind="cells",
        title=title,
        tensor=tensor,
        texts=[list(line) for line in texts],
        shares=numbers(np.round(np.asarray(shares, np.float64), 4)),
        rows=list(rows),
        columns=list(columns),
        pick=list(pick),
        picked=None if picked is None else list(picked),
        marked=[list(cell) for cell in marked],
    )


def stacked(
    labels: Sequence[str],
    parts: Sequence[tuple[str, str, Any]],
    *,
    title: str,
    picked: int | None = None,
) -> Picture:
    """One bar for each label, each cut into the same parts (name, tensor, one share for each label)."""
    return _without_empty(
        kind="stacked",
        title=title,
        labels=list(labels),
        items=[{"name": name, "tensor": tensor, "values": numbers(values)} for name, tensor, values in parts],
        picked=picked,
    )


def readouts(items: Sequence[tuple[str, str]], *, title: str = "") -> Picture:
    """Numbers with a name each, side by side."""
    return _without_empty(kind="readouts", title=title, items=[list(map(str, item)) for item in items])


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str, marked: Sequence[int] = ()) -> Picture:
    """A plain table; numbers align on the right. A cell {"share": 0.3} is a percentage with a bar behind it."""
    body = [[numbers(cell) if isinstance(cell, (float, np.floating)) else cell for cell in row] for row in rows]
    return _without_empty(kind="table", title=title, columns=list(columns), marked=list(marked)) | {"rows": body}


def chart(data: Sequence[dict[str, Any]], layout: dict[str, Any], *, title: str) -> Picture:
    """A Plotly chart (plain dictionaries, never a go.Figure) for what a reader explores with zoom and legend."""
    return {"kind": "chart", "title": title, "data": list(data), "layout": layout}


def words(text: str, *, title: str = "", style: str = "") -> Picture:
    """A passage of plain text in the picture, for example what a model wrote."""
    return _without_empty(kind="words", title=title, text=text, style=style)


def stage(title: str, note: str, link: str, part: Picture) -> Picture:
    """One stage of a path: its name, a line about it, a link to its chapter, and the stage's own picture."""
    return {"kind": "stage", "title": title, "note": note, "link": link, "part": part}


def quiz(items: Sequence[dict[str, Any]], *, title: str, name: str) -> Picture:
    """Questions {chapter, link, ask, choices, replies, right}; the browser judges at once and keeps the score itself.

    `ask`, `choices` and `replies` are markup from ui.prose.inline, never text that a reader typed. `name` tells one set
    of questions from another, so that each has its own score.
    """
    return {"kind": "quiz", "title": title, "name": name, "items": list(items)}


def math(*lines: str) -> Picture:
    """Formulas below each other, each one `<math>` markup from ui.mathml, never text that a reader typed."""
    return {"kind": "math", "lines": list(lines)}


def sign(symbol: str) -> Picture:
    """An operator between two pictures of a row: ×, =, →, softmax."""
    return {"kind": "sign", "symbol": symbol}


def row(*pictures: Picture) -> Picture:
    """Pictures side by side; they wrap on a phone."""
    return {"kind": "row", "parts": list(pictures)}


def stack(*pictures: Picture) -> Picture:
    """Pictures one below the other."""
    return {"kind": "stack", "parts": list(pictures)}


def _rounded(item: dict[str, Any]) -> dict[str, Any]:
    return {k: numbers(v) if isinstance(v, (float, np.floating)) else v for k, v in item.items()}


def _without_empty(**fields: Any) -> Picture:
    return {name: value for name, value in fields.items() if value not in (None, "", []) or name in ALWAYS}
