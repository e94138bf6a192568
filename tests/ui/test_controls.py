"""Controls: whatever is sent becomes a value the lab can use, and the reader is told what was changed."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ui.controls import Choice, Control, Pick, Slider, Text, Toggle, Trail, clean_text, within
from ui.static import to_html

SLIDERS = [
    Slider("whole", "Whole", 3, 0, 10),
    Slider("fine", "Fine", 0.5, 0, 1, 0.01),
    Slider("negative", "Negative", 0.0, -3, 3, 0.25),
    Slider("odd", "Odd", 0.1, 0.1, 1.0, 0.3),
    Slider("tiny", "Tiny", 1e-4, 1e-5, 1e-3, 1e-5),
    Slider("wide", "Wide", 123.4567, 0, 10_000, 0.0001),
    Slider("large", "Large", 0, 0, 5_000_000),
]
CONTROLS: list[Control] = [
    *SLIDERS,
    Toggle("on", "On", True),
    Toggle("off", "Off", False),
    Choice("choice", "Choice", "b", options={"a": "One", "b": "Two", "": "None"}),
    Text("text", "Text", "words", limit=50),
    Text("line", "Line", "", limit=5, rows=1),
    Pick("pick", "Pick", 2, high=7),
    Pick("last", "Last", -1),
    Trail("trail", "Trail", "", high=99, limit=4),
]
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(alphabet=st.characters(), max_size=80)
    | st.sampled_from([10**400, -(10**400), "1" * 400, "NaN", "-inf", "1e999", "0x10", "1_0", "٣", "true", "½"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def fits(control: Control, value: Any) -> bool:
    """Is `value` one that the control itself could have?"""
    if isinstance(control, Slider):
        steps = (value - control.low) / control.step
        on_step = math.isclose(steps, round(steps), abs_tol=1e-6) or value == control.high
        return type(value) in (int, float) and control.low <= value <= control.high and on_step
    if isinstance(control, Toggle):
        return type(value) is bool
    if isinstance(control, Choice):
        return value in control.options
    if isinstance(control, Pick):
        return type(value) is int and -1 <= value <= control.high
    if isinstance(control, Trail):
        return len(Trail.items(value)) <= control.limit and all(
            0 <= item <= control.high for item in Trail.items(value)
        )
    assert isinstance(control, Text)
    value.encode()  # no lone surrogates
    return len(value) <= control.limit and not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", value)


@settings(deadline=None, max_examples=400)
@given(control=st.sampled_from(CONTROLS), sent=ANYTHING)
def test_whatever_is_sent_becomes_a_value_that_fits(control: Control, sent: Any) -> None:
    value, note = control.clean(sent)
    assert fits(control, value)
    assert note == "" or note.endswith(".")
    assert control.clean(value) == (value, ""), "cleaning twice changes nothing more"
    json.dumps([value, note], allow_nan=False)


@settings(deadline=None, max_examples=400)
@given(control=st.sampled_from(CONTROLS), sent=ANYTHING)
def test_a_value_survives_its_link(control: Control, sent: Any) -> None:
    value, _ = control.clean(sent)
    assert control.clean(control.to_query(value)) == (value, "")


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_defaults_and_extremes_fit_and_pass_unchanged(control: Control) -> None:
    for value in [control.default, *control.extremes()]:
        assert fits(control, value)
        assert control.clean(value) == (value, "")
    assert control.clean(None) == (control.default, "")


@pytest.mark.parametrize("control", SLIDERS, ids=lambda control: control.name)
def test_a_number_outside_is_moved_to_the_edge_and_the_reader_told(control: Slider) -> None:
    for sent in (1e308, float("inf"), 10**400, "1e999"):
        value, note = control.clean(sent)
        if sent == 10**400:  # no float64 can hold it: not a number to us
            assert value == control.default
        else:
            assert value == pytest.approx(control.high, abs=control.step)
        assert note.endswith(".")
    value, note = control.clean(-1e308)
    assert value == control.low
    assert control.label in note
    for sent in (float("nan"), "NaN", "abc", [], {}, True):
        value, note = control.clean(sent)
        assert value == control.default
        assert "not a number" in note


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_a_number_too_long_to_write_is_no_trouble(control: Control) -> None:
    for sent in (10**5000, -(10**5000), "9" * 5000):
        value, _ = control.clean(sent)
        assert fits(control, value)


def test_a_slider_snaps_to_its_steps() -> None:
    assert Slider("s", "S", 0, 0, 1, 0.25).clean(0.3) == (0.25, "")
    assert Slider("s", "S", 0, 0, 10).clean("7.4") == (7, "")
    assert type(Slider("s", "S", 0, 0, 10).clean(7.0)[0]) is int
    assert Slider("s", "S", 0, 0.0, 1.0, 0.1).clean(0.30000000000000004) == (0.3, "")


def test_choices_and_switches_explain_what_they_did() -> None:
    choice = Choice("c", "C", "b", options={"a": "One", "b": "Two"})
    assert choice.clean("a") == ("a", "")
    assert choice.clean("A") == ("b", "There is no such choice; Two is shown.")
    switch = Toggle("t", "Mask", True)
    assert [switch.clean(sent)[0] for sent in ("0", "off", "FALSE", 0, False, 0.0)] == [False] * 6
    assert [switch.clean(sent)[0] for sent in ("1", "on", "True", 1, True)] == [True] * 5
    assert switch.clean("maybe") == (True, "Mask is on or off; it was left on.")


@pytest.mark.parametrize(
    ("sent", "kept", "said"),
    [
        ("plain", "plain", ""),
        ("", "", ""),
        ("a\tb\nc", "a\tb\nc", ""),
        ("a\0b\x07c", "abc", "2 control characters were left out."),
        ("half \ud83d", "half \ufffd", "surrogate"),
        ("\udc00\ud800", "\ufffd\ufffd", "surrogate"),
        ("\ufffd", "\ufffd", ""),
        ("\ufeffa", "\ufeffa", ""),
        ("x" * 100, "x" * 20, "100 characters; the first 20 are used."),
        ("x" * 100_000, "x" * 20, "100,000 characters"),
        ("\u202eabc", "\u202eabc", ""),
        ("<script>alert(1)</script>"[:20], "<script>alert(1)</sc", ""),
        ("<|endoftext|>", "<|endoftext|>", ""),
        ("🤷🏽‍♀️" * 2, "🤷🏽‍♀️" * 2, ""),
        (None, "", ""),
        (5, "", ""),
    ],
    ids=lambda value: ascii(value)[:16],
)
def test_text_is_cleaned_and_the_reader_told(sent: Any, kept: str, said: str) -> None:
    value, note = clean_text(sent, 20)
    assert value == kept
    assert said in note
    assert bool(note) == bool(said)


def test_a_picked_item_is_brought_inside() -> None:
    assert [within(index, 4) for index in (-1, 0, 3, 4, 4095)] == [3, 0, 3, 3, 3]
    assert Pick("p", "P", 2, high=7).clean("5") == (5, "")
    assert Pick("p", "P", 2, high=7).clean(99) == (7, "")
    assert Pick("p", "P", 2, high=7).clean(-99) == (-1, "")


def test_a_trail_keeps_what_can_be_a_choice_and_says_what_it_left_out() -> None:
    trail = Trail("t", "T", "", high=99, limit=3)
    assert trail.clean("7.42.0") == ("7.42.0", "")
    assert Trail.items("7.42.0") == [7, 42, 0]
    assert trail.clean("") == ("", "")
    assert trail.clean("007") == ("7", "")
    for sent, kept in [("7.100.8", "7.8"), ("7..8", "7.8"), ("-1", ""), ("1e3", ""), (7, ""), ([7], ""), ("٣", "")]:
        value, note = trail.clean(sent)
        assert (value, note) == (kept, "What is not a choice was left out."), sent
    assert trail.clean("1.2.3.4")[0] == "1.2.3"
    assert "first 3" in trail.clean("1.2.3.4")[1]


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_a_control_shows_its_value_and_its_label(control: Control) -> None:
    for value in [control.default, *control.extremes()]:
        markup = to_html(control.component("lab-x", value))
        assert 'id="lab-x"' in markup
        if isinstance(control, (Pick, Trail)):
            assert 'type="hidden"' in markup
        else:
            assert '<label for="lab-x"' in markup
            assert control.label in markup
            assert 'id="lab-x-note"' in markup


def test_text_in_a_control_is_escaped() -> None:
    for rows in (1, 2):
        markup = to_html(Text("t", "T", "", rows=rows).component("x", '"><script>alert(1)</script>'))
        assert "<script>" not in markup
        assert "&lt;script&gt;" in markup
