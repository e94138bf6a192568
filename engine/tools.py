"""Tools that a model can call: a calculator and a unit converter, and the words in which a call is written.

A tool gets text that a model wrote, and a model writes what its context makes it write. So nothing here is executed:
the calculator walks the safe grammar of `engine/expression.py`, the converter looks two names up in a table. Both are
bounded in the length of their input and in what it can cost.

A call is one line, `calculator: 17 * 23` or `convert: 5 miles to kilometres`. Published models write theirs as JSON
(Schick et al. 2023, "Toolformer", arXiv:2302.04761, uses brackets); the smallest form is the best for a small model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import regex

from engine.expression import MAX_CHARACTERS, calculate

NUMBER = r"-?\d{1,12}(?:\.\d{1,8})?"
SHORT = r"-?\d{1,7}(?:\.\d{1,3})?"  # under the grammar, where every digit is a token: a line has to end

# name: (kind, how many of the kind's first unit one of it is, other names). International yard and pound of 1959.
_UNITS: dict[str, tuple[str, float, tuple[str, ...]]] = {
    "metres": ("length", 1, ("metre", "meters", "meter", "m")),
    "kilometres": ("length", 1000, ("kilometre", "kilometers", "kilometer", "km")),
    "centimetres": ("length", 0.01, ("centimetre", "centimeters", "centimeter", "cm")),
    "miles": ("length", 1609.344, ("mile", "mi")),
    "feet": ("length", 0.3048, ("foot", "ft")),
    "inches": ("length", 0.0254, ("inch", "in")),
    "yards": ("length", 0.9144, ("yard", "yd")),
    "kilograms": ("mass", 1, ("kilogram", "kg")),
    "grams": ("mass", 0.001, ("gram", "g")),
    "pounds": ("mass", 0.45359237, ("pound", "lb", "lbs")),
    "ounces": ("mass", 0.028349523125, ("ounce", "oz")),
    "litres": ("volume", 1, ("litre", "liters", "liter", "l")),
    "gallons": ("volume", 3.785411784, ("gallon", "gal")),
    "seconds": ("time", 1, ("second", "s")),
    "minutes": ("time", 60, ("minute", "min")),
    "hours": ("time", 3600, ("hour", "h")),
    "days": ("time", 86400, ("day",)),
    "kelvin": ("temperature", 1, ("k",)),
    "celsius": ("temperature", 1, ("c", "°c")),
    "fahrenheit": ("temperature", 5 / 9, ("f", "°f")),
}
_ZERO = {"celsius": 273.15, "fahrenheit": 459.67 * 5 / 9}  # these two scales do not begin at nothing
_NAMES = {alias: name for name, (_, _, aliases) in _UNITS.items() for alias in (name, *aliases)}
_QUANTITY = regex.compile(rf"\s*({NUMBER})\s*(\S+)\s+(?:to|in|into|as)\s+(\S+?)[.?]?\s*")


@dataclass(frozen=True)
class Tool:
    """A function from text to text, and the words that tell a model of it."""

    name: str
    says: str
    example: str
    run: Callable[[str], str]
    grammar: str  # a regular expression of the input, for decoding that can write nothing else

    def __call__(self, text: str) -> str:
        """The result as text. Raises ValueError with a plain sentence for input that it does not understand."""
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"The input has {len(text)} characters; a tool reads at most {MAX_CHARACTERS}.")
        return self.run(text)


def written_number(value: float) -> str:
    """Ten significant digits, without an exponent where it can be avoided."""
    if not math.isfinite(value):
        raise ValueError("The result is infinite or undefined.")
    short = f"{value:.10g}"
    return short if "e" not in short or abs(value) > 1e15 else f"{value:.0f}" if abs(value) > 1 else f"{value:.3g}"


def convert(text: str) -> str:
    """ "5 miles to kilometres" -> "8.04672 kilometres". Raises ValueError for anything else."""
    found = _QUANTITY.fullmatch(text.lower())
    if not found:
        raise ValueError("The converter reads a number, a unit, “to” and a unit: 5 miles to kilometres.")
    source, target = (_unit(found[i]) for i in (2, 3))
    if _UNITS[source][0] != _UNITS[target][0]:
        raise ValueError(f"{source} measure {_UNITS[source][0]} and {target} {_UNITS[target][0]}.")
    amount = float(found[1]) * _UNITS[source][1] + _ZERO.get(source, 0.0)
    if _UNITS[source][0] == "temperature" and amount < -1e-9:  # -459.67 °F is exactly 0 K, but not in floating point
        raise ValueError(f"{found[1]} {source} would be below absolute zero.")
    return f"{written_number((amount - _ZERO.get(target, 0.0)) / _UNITS[target][1])} {target}"


def _unit(name: str) -> str:
    if name not in _NAMES:
        raise ValueError(f"“{name[:20]}” is not a unit that the converter knows: {', '.join(_UNITS)}.")
    return _NAMES[name]


_UNIT = "(?:" + "|".join(sorted(_UNITS, key=len, reverse=True)) + ")"
TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            "calculator",
            "works out an expression of numbers, + - * / ** and brackets",
            "17 * 23",
            lambda text: written_number(calculate(text)),
            rf"{SHORT}(?: [-+*/] {SHORT}){{1,3}}",
        ),
        Tool(
            "convert",
            "turns a quantity into another unit",
            "5 miles to kilometres",
            convert,
            rf"{SHORT} {_UNIT} to {_UNIT}",
        ),
    )
}


@dataclass(frozen=True)
class Call:
    """A call that stands in a text, and what came back: a result, or the sentence that says why there is none."""

    tool: str
    input: str
    result: str
    failed: bool = False


_CALL = regex.compile(rf"({'|'.join(TOOLS)})\s*[:(]\s*([^\n]{{1,200}}?)\)?\s*(?:\n|$)")


def find_call(text: str) -> tuple[str, str] | None:
    """The first call in a text, as (tool, input); also as calculator(17 * 23). None where there is none."""
    found = _CALL.search(text)
    return (found[1], found[2]) if found else None


def run_call(tool: str, text: str) -> Call:
    """Run a tool on what the model wrote. Never raises: a refusal is a result too, which the model then reads."""
    if tool not in TOOLS:
        return Call(tool, text, f"There is no tool called {tool[:20]}; there are {', '.join(TOOLS)}.", True)
    try:
        return Call(tool, text, TOOLS[tool](text))
    except ValueError as refusal:
        return Call(tool, text, str(refusal), True)


CALLS = regex.compile("|".join(rf"{tool.name}: {tool.grammar}\n" for tool in TOOLS.values()))
"""Every call that decoding under the grammar can write."""
