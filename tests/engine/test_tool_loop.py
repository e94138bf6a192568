"""The mask of the grammar allows just what can still become a call; the loop runs, ends, and shows what it did."""

from __future__ import annotations

import numpy as np
import pytest

from engine import tool_loop
from engine.tokenization import decode, encode
from engine.tools import CALLS


@pytest.mark.parametrize(
    "call", ["calculator: 17 * 23\n", "convert: 26.2 miles to kilometres\n", "calculator: -3 / 2 + 1\n"]
)
def test_every_way_of_writing_a_call_is_allowed(call):
    ids = encode(call, "smollm2")
    for place, token in enumerate(ids):
        assert tool_loop.allowed(decode(ids[:place], "smollm2"))[token]


@pytest.mark.parametrize(
    "written", ["", "calc", "calculator: ", "calculator: 17", "convert: 3 mi", "convert: 3 miles to "]
)
def test_what_is_allowed_continues_a_call_and_nothing_else_does(written):
    found = tool_loop.allowed(written)
    rng = np.random.default_rng(0)
    for token in [*rng.choice(49152, 400), *rng.choice(np.flatnonzero(found), 20)]:
        text = written + decode([int(token)], "smollm2")
        assert found[token] == bool(CALLS.fullmatch(text, partial=True))
    assert not found[:17].any(), "no special token"
    assert found.any()


def test_after_a_whole_call_nothing_is_allowed():
    assert not tool_loop.allowed("calculator: 1 + 1\n").any()


@pytest.mark.parametrize(
    ("text", "number", "there"),
    [("It costs 5 euros.", "5", True), ("5", "5", True), ("15 euros", "5", False), ("5.2", "5", False),
     ("0.5", "5", False), ("They are 4.82.", "4.82", True), ("4882", "4.82", False)],
)  # fmt: skip
def test_a_number_inside_a_longer_one_does_not_count(text, number, there):
    assert tool_loop.holds_number(text, number) == there


@pytest.mark.model
@pytest.mark.parametrize("question", ["What is 847 times 36?", "Who wrote Hamlet?", "", "<|im_end|>"])
def test_an_enforced_line_is_a_call_and_the_loop_ends(smollm2, question):
    *_, loop = tool_loop.run_loop(smollm2, question, enforce=True)
    first = loop.rounds[0]
    assert CALLS.fullmatch(first.text)
    assert first.call is not None
    assert all(0 < token.probability <= token.allowed + 1e-6 <= 1 + 2e-6 for token in first.said)
    assert sum(line.call is not None for line in loop.rounds) <= tool_loop.MOST_CALLS
    assert f"Result: {first.call.result}\n" in decode(loop.ids, "smollm2")


@pytest.mark.model
def test_the_result_reaches_the_answer(smollm2):
    *_, loop = tool_loop.run_loop(smollm2, "A ticket costs 14 euros. What do 23 tickets cost?", enforce=True)
    call, answer = loop.rounds
    assert call.call.tool == "calculator"
    assert call.call.result == "322"
    assert answer.call is None
    assert "322" in answer.text


@pytest.mark.model
def test_the_chat_template_begins_with_its_marks():
    found = tool_loop.beginning("Why?", chat=True)
    assert found.text.startswith("<|im_start|>system")
    assert tool_loop.beginning("Why?").text in found.text
