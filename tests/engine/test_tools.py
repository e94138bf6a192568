"""The tools compute what they should, and refuse everything else in a sentence."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.expression import calculate
from engine.tools import CALLS, TOOLS, find_call, run_call


@pytest.mark.parametrize(
    ("line", "result"),
    [("17 * 23", "391"), ("(847 + 12) * 36 / 4", "7731"), ("2 ** 10", "1024"), ("1 / 3", "0.3333333333"),
     ("0.1 + 0.2", "0.3"), ("-5 − 3 × 2", "-11"), ("sqrt(2) ** 2", "2"), ("10 ** 14", "100000000000000")],
)  # fmt: skip
def test_the_calculator_calculates(line, result):
    assert TOOLS["calculator"](line) == result


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**4), st.sampled_from("+-*"))
def test_as_exact_arithmetic(a, b, c, sign):
    exact = eval(f"(Fraction(a) {sign} b) / c", {"Fraction": Fraction, "a": a, "b": b, "c": c})
    assert calculate(f"({a} {sign} {b}) / {c}") == pytest.approx(float(exact), rel=1e-15)


@pytest.mark.parametrize(
    ("line", "result"),
    [("26.2 miles to kilometres", "42.1648128 kilometres"), ("100 fahrenheit to celsius", "37.77777778 celsius"),
     ("-40 C in °F", "-40 fahrenheit"), ("0 celsius to kelvin", "273.15 kelvin"), ("1 lb to oz", "16 ounces"),
     ("1 gallon to litres", "3.785411784 litres"), ("3 days to minutes", "4320 minutes"), ("5 ft to in", "60 inches"),
     ("-273.15 c to kelvin", "0 kelvin")],
)  # fmt: skip
def test_the_converter_converts(line, result):
    assert TOOLS["convert"](line) == result


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(
    "line",
    ["", "__import__('os').system('true')", "9**9**9**9", "1/0", "x", "open('/etc/passwd')", "().__class__", "1e400",
     "[1]*9", "lambda: 0", "1 if 1 else 2", "'a'*9", "3 miles to kilograms", "3 parsecs to miles", "a" * 10_000,
     "(" * 199, "1" * 199 + " miles to feet", "\0", "🤷", "1,000 * 2", "-500 c to kelvin"],
)  # fmt: skip
def test_all_else_is_refused_in_a_sentence(tool, line):
    found = run_call(tool, line)
    assert found.failed
    assert found.result.endswith(".")
    assert "\n" not in found.result


@settings(deadline=None)
@given(st.text(max_size=80), st.sampled_from([*TOOLS, "shell"]))
def test_a_call_never_raises(line, tool):
    assert isinstance(run_call(tool, line).result, str)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_call_of_the_grammar_can_be_read(data):
    name = data.draw(st.sampled_from(list(TOOLS)))
    line = data.draw(st.from_regex(TOOLS[name].grammar, fullmatch=True, alphabet=st.characters(max_codepoint=127)))
    assert CALLS.fullmatch(f"{name}: {line}\n")
    assert find_call(f"{name}: {line}\n") == (name, line)
    found = run_call(name, line)
    refusals = ("measure", "infinite", "Exponents", "at most", "not complete")
    assert not found.failed or any(word in found.result for word in refusals)


@pytest.mark.parametrize(
    ("text", "call"),
    [("calculator: 2 + 3\n", ("calculator", "2 + 3")), ("calculator(2 + 3)", ("calculator", "2 + 3")),
     ("I will use convert: 3 miles to feet", ("convert", "3 miles to feet")), ("no call here", None),
     ("calculator:", None)],
)  # fmt: skip
def test_calls_are_found(text, call):
    assert find_call(text) == call
