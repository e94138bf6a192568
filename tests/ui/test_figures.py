"""Pictures: numbers rounded once to six digits, what is not finite kept apart, nothing that JSON cannot hold."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ui import figures
from ui.figures import numbers


@settings(deadline=None, max_examples=400)
@given(st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=True))
def test_a_number_keeps_six_significant_digits(value: float) -> None:
    shown = numbers(value)
    assert math.isclose(shown, value, rel_tol=5.1e-6)
    assert (shown < 0) == (value < 0)


@settings(deadline=None, max_examples=200)
@given(st.floats(min_value=1e-12, max_value=1e5))
def test_a_rounded_number_is_short_in_json(value: float) -> None:
    digits = json.dumps(numbers(value)).partition("e")[0].replace(".", "").strip("0")
    assert len(digits) <= figures.SIGNIFICANT


@settings(deadline=None, max_examples=200)
@given(st.floats(), st.floats(width=32))
def test_rounding_twice_changes_nothing_and_json_holds_it(wide: float, narrow: float) -> None:
    for value in (wide, np.float32(narrow)):
        shown = numbers(value)
        json.dumps(shown, allow_nan=False)
        if isinstance(shown, float):
            assert math.isclose(numbers(shown), shown, rel_tol=1e-12)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.floats(), min_size=1, max_size=9), st.lists(st.floats(), min_size=1, max_size=9), st.booleans())
def test_a_curve_is_rounded_by_less_than_can_be_seen(one: list[float], other: list[float], log: bool) -> None:
    picture = figures.curve([("a", one, one), ("b", other, other)], title="", x_label="", y_label="", log_y=log)
    json.dumps(picture, allow_nan=False)
    drawn = [value for line in picture["series"] for value in line["x"]]
    seen = np.array([value for value in one + other if math.isfinite(value)])
    span = max(seen, default=0.0) - min(seen, default=0.0)
    for value, shown in zip(one + other, drawn, strict=True):
        if not math.isfinite(value):
            assert isinstance(shown, str)
        elif span < 1e200:
            assert abs(shown - value) <= 5.1e-4 * span + 5.1e-6 * abs(value)
    for value, shown in zip(one + other, [y for line in picture["series"] for y in line["y"]], strict=True):
        if log and math.isfinite(value):
            assert math.isclose(shown, value, rel_tol=5.1e-4)


def test_what_is_not_finite_is_a_word() -> None:
    assert numbers([np.nan, np.inf, -np.inf, 0.0, None]) == ["nan", "inf", "-inf", 0.0, "nan"]
    assert numbers(np.array([[True, False]])) == [[1.0, 0.0]]
    assert numbers([]) == []
    assert numbers(np.zeros((2, 0))) == [[], []]
    assert numbers(np.float32(0.1)) == 0.1, "a float32 shows no digits that it does not have"
    assert numbers(1.5e308) == 1.5e308
    assert numbers(5e-324) == 5e-324


def test_a_matrix_is_readable_text_while_it_is_small() -> None:
    assert figures.matrix(np.zeros((16, 16)), title="M", tensor="q", name="m")["kind"] == "grid"
    assert figures.matrix(np.zeros((16, 17)), title="M", tensor="q", name="m")["kind"] == "heatmap"
    assert figures.matrix(np.zeros((17, 1)), title="M", tensor="q", name="m")["kind"] == "heatmap"
    assert figures.matrix(np.zeros(3), title="M", tensor="q", name="m")["values"] == [[0.0, 0.0, 0.0]]


def test_what_was_not_given_is_not_sent_but_zero_is() -> None:
    picture = figures.bars(["a"], [0.0], title="B", tensor="q", picked=0)
    assert picture["picked"] == 0
    assert "pick" not in picture
    assert "limit" not in picture
    assert figures.bars([], [], title="B", tensor="q")["values"] == []


AWKWARD = "\u202e<script>\"'&{{x|y}}</script>"
EXAMPLES: dict[str, Any] = {
    "matrix": figures.matrix(np.full((2, 2), np.inf), title=AWKWARD, tensor="q", name="m", rows=["a", "b"], limit=1.0),
    "heatmap": figures.matrix(
        np.full((20, 2), np.nan, np.float32), title="H", tensor="q", name="h", picked=3, pick="x"
    ),
    "bars": figures.bars([AWKWARD], np.float32([np.nan]), title="B", tensor="logits", limit=2.0),
    "curve": figures.curve([("f", np.arange(3), np.log(np.arange(3) + 1))], title="C", x_label="x", y_label="y"),
    "marker": figures.curve([], title="C", x_label="x", y_label="y", marker=(np.float32(1), np.nan)),
    "tokens": figures.tokens([{"text": AWKWARD, "id": 1}], shares=np.float32([0.5]), picked=0, pick="x"),
    "picks": figures.bars(
        ["a", "b"], [1, 2], title="B", tensor="q", pick="x", picks=["1.2", None], texts=["one", "two"]
    ),
    "stretches": figures.stretches(
        ["a", AWKWARD], np.float32([0.25, 0.75]), title="S", tensor="logits", draw=np.float64(0.5), chosen=1
    ),
    "arcs": figures.arcs(["a", "b"], np.float32([0.5, 0.5]), title="A", selected=1),
    "network": figures.network(
        [{"id": "a", "label": "a", "value": np.float32(1), "column": 0, "row": 0}], [], title="N"
    ),
    "diagram": figures.diagram(
        [{"id": "a", "label": AWKWARD, "x": 1, "y": 2, "w": 3, "h": 4, "pick": 0, "picked": True}],
        [{"points": [[0, 0], [1, 1]], "text": "2×3", "at": [0, 0]}],
        title="D",
        size=(10, 20),
        frames=[{"x": 0, "y": 0, "w": 9, "h": 9, "label": "f"}],
        pick="x",
    ),
    "cells": figures.cells([[AWKWARD, ""]], np.float32([[0.5, np.nan]]), title="C", pick=["x", "y"], picked=(0, 1)),
    "stacked": figures.stacked(["a"], [("p", "ffn", np.float32([1]))], title="S", picked=0),
    "thumbnails": figures.thumbnails(
        np.full((2, 1, 3, 3), np.nan, np.float32), title=AWKWARD, pick=["x", "y"], picked=[0, 0]
    ),
    "readouts": figures.readouts([("a", 1)]),
    "table": figures.table(["a"], [[np.float64(0.1)], ["b"], [3]], title="T"),
    "chart": figures.chart([{"x": [1], "y": [2]}], {}, title="P"),
    "words": figures.words(AWKWARD),
    "row": figures.row(figures.sign("×"), figures.words("")),
    "stack": figures.stack(),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_picture_is_plain_json(name: str) -> None:
    picture = EXAMPLES[name]
    assert json.loads(json.dumps(picture, allow_nan=False)) == picture


def test_thumbnails_travel_as_one_character_a_weight() -> None:
    maps = np.tril(np.random.default_rng(0).random((3, 2, 5, 5)))
    picture = figures.thumbnails(maps, title="M", pick=["layer", "head"], picked=[1, 0])
    assert picture["grid"] == [3, 2]
    levels = np.array([figures.LEVELS.index(character.encode()) for character in picture["maps"]])
    back = np.zeros((3, 2, 5, 5))
    back[(..., *np.tril_indices(5))] = levels.reshape(3, 2, 15) / 63
    np.testing.assert_allclose(back, maps, atol=0.5 / 63 + 1e-9)


def test_long_texts_have_thumbnails_of_the_largest_weights() -> None:
    maps = np.zeros((1, 1, 50, 50))
    maps[0, 0, 49, 0], maps[0, 0, 4, 4] = 1.0, 0.5
    picture = figures.thumbnails(maps, title="M", pick=["layer", "head"], picked=[0, 0])
    assert picture["size"] == 17, "50 tokens in squares of 3"
    assert len(picture["maps"]) == 17 * 18 // 2
    assert picture["maps"][16 * 17 // 2] == "/", "the last row's first cell"
    assert picture["maps"][2] == chr(figures.LEVELS[32]), "row 1, column 1"


def test_cells_can_name_their_quantity_and_shares_stay_shares() -> None:
    named = figures.matrix([[1.0, 2.0]], "X", "resid", keys=[["x:0", "x:1"]])
    assert named["keys"] == [["x:0", "x:1"]]
    assert "keys" not in figures.matrix([[1.0]], "X", "resid")
    assert figures.table(["a"], [[{"share": 0.25}]], title="T")["rows"] == [[{"share": 0.25}]]


def test_bars_write_their_numbers_unless_told_otherwise() -> None:
    assert "written" not in figures.bars(["a"], [1.0], title="", tensor="logits")
    assert figures.bars(["a"], [1.0], title="", tensor="logits", texts=["one"])["written"] == ["one"]


def test_places_send_only_what_they_have() -> None:
    picture = figures.places([[{"state": "new", "text": "A", "note": ""}, {}]], title="Memory", tensor="k", rows=["0"])
    assert picture["values"] == [[{"state": "new", "text": "A"}, {}]]
    assert "columns" not in picture
    assert "legend" not in picture


def test_formulas_inside_a_picture_keep_their_order() -> None:
    assert figures.math("<math>a</math>", "<math>b</math>") == {
        "kind": "math",
        "lines": ["<math>a</math>", "<math>b</math>"],
    }


def test_a_landscape_keeps_its_order_and_its_places() -> None:
    """Two characters a height: the lowest is AA, the highest //, and higher never reads as lower."""
    heights = np.array([[0.0, 1e-4, 0.02], [5.0, 80.0, 100.0]])
    picture = figures.contour(
        heights, (-1, 1, 0, 4), [("path", "q", [[-1, 0], [1, 4], [1e9, 2]])], title="t", start=(0, 2), marks=[(0.5, 1)]
    )
    text = picture["heights"]
    codes = [64 * figures.LEVELS.index(text[i : i + 1].encode()) for i in range(0, 12, 2)]
    codes = [c + figures.LEVELS.index(text[2 * k + 1 : 2 * k + 2].encode()) for k, c in enumerate(codes)]
    assert codes == sorted(codes)
    assert (codes[0], codes[-1]) == (0, 4095)
    assert len(set(codes)) == 6
    assert picture["paths"][0]["x"] == [0, 1000, 5000]
    assert picture["paths"][0]["y"] == [0, 1000, 500]
    assert picture["start"] == [500, 500]
    assert picture["marks"] == [[750, 250]]
    json.dumps(picture, allow_nan=False)


def test_a_level_landscape_without_paths_is_a_picture_too() -> None:
    picture = figures.contour(np.ones((2, 2)), (0, 1, 0, 1), [], title="t")
    assert picture["heights"] == "AAAAAAAA"
    assert picture["paths"] == []
