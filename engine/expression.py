"""A reader's own expression as a computation graph: "(a*b + c)**2 / tanh(a)".

The grammar: names a to z, numbers, + - * / ** and brackets, and the functions below. The text is cut into tokens by a
pattern, parsed by the standard library's `ast`, and only the listed kinds of node are walked; nothing is ever executed.
All arithmetic is float64, so that 9**9**9**9 becomes an error message and not a very long wait.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, SupportsFloat

import numpy as np
from jaxtyping import Float

from engine.activation import relu, sigmoid
from engine.arrays import Array
from engine.backpropagation import Graph, Traced, history, trace
from engine.derivatives import RULES
from engine.formulas import FORMULAS, describe, number
from engine.traced import record

MAX_CHARACTERS = 200
MAX_NODES = 60  # and so the depth is limited too
MAX_EXPONENT = 100

# As steps of their own, so that the graph shows one node and not what they are made of.
RULES[relu] = (lambda g, y, x: g * (x > 0),)
RULES[sigmoid] = (lambda g, y, x: g * y * (1 - y),)
FORMULAS[relu] = ("relu {0}", ("1 where {0} > 0, else 0",))
FORMULAS[sigmoid] = ("sigmoid {0}", ("{y} · (1 − {y})",))

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp": np.exp, "log": np.log, "tanh": np.tanh, "sin": np.sin, "cos": np.cos, "sqrt": np.sqrt, "relu": relu,
    "sigmoid": sigmoid,
}  # fmt: skip
OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide, ast.Pow: np.power,
    ast.USub: np.negative, ast.UAdd: np.positive,
}  # fmt: skip

_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)|([A-Za-z]+)|(\*\*|[-+*/()])|(\S))")
_TYPOGRAPHIC = str.maketrans({"−": "-", "–": "-", "×": "*", "·": "*", "÷": "/", "^": "**"})


@dataclass(frozen=True)
class Expression:
    """A checked expression: its text, the names in it in alphabetical order, and its syntax tree."""

    text: str
    names: tuple[str, ...]
    tree: ast.expr


def parse(text: str, *, names_needed: bool = True) -> Expression:
    """Check an expression against the grammar and its limits. Raises ValueError with a plain sentence otherwise."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"The expression has {len(text)} characters; at most {MAX_CHARACTERS} are read.")
    tokens = _tokens(text)
    if not tokens:
        raise ValueError("The expression is empty.")
    try:
        tree = ast.parse(" ".join(tokens), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError("The expression is not complete: check the brackets, and write products with *.") from None
    nodes = sum(isinstance(node, ast.expr) for node in ast.walk(tree))
    if nodes > MAX_NODES:
        raise ValueError(f"The expression has {nodes} parts; at most {MAX_NODES} can be drawn.")
    _check(tree)
    names = sorted({token for token in tokens if len(token) == 1 and token.isalpha()})
    if names_needed and not names:
        raise ValueError("The expression needs at least one name, such as a or x.")
    return Expression(text, tuple(names), tree)


def expression_graph(expression: str | Expression, values: Mapping[str, SupportsFloat]) -> Graph:
    """The graph of an expression at the given values of its names, with the gradient of its result by every step.

    Raises ValueError with a plain sentence when the text is outside the grammar, a value is missing or not finite, or a
    step or gradient comes out infinite or undefined.
    """
    if isinstance(expression, str):
        expression = parse(expression)
    names = {name: trace(np.float64(_finite(name, values)), name) for name in expression.names}
    with np.errstate(all="ignore"):  # what is not finite is reported in words
        result = _evaluate(expression.tree, names)
        _refuse_infinite(result)
        graph = Graph(result)
        slopes = [node.gradient for node in graph.nodes] + [edge.passed for edge in graph.edges]
    if not np.all(np.isfinite(slopes)):
        raise ValueError("The result is finite, but at these values its gradient is infinite or undefined.")
    return graph


def evaluate(expression: str | Expression, values: Mapping[str, Float[Array, "n"]]) -> Float[Array, "n"]:
    """The expression at many values at once, without a graph: {"x": an array} -> an array.

    Raises ValueError with a plain sentence when the text is outside the grammar, uses other names than those given, or
    is infinite or undefined at one of the values.
    """
    if isinstance(expression, str):
        expression = parse(expression)
    if other := sorted(set(expression.names) - set(values)):
        raise ValueError(f"Only {', '.join(values)} can be used as a name here, not {', '.join(other)}.")
    with np.errstate(all="ignore"):  # what is not finite is reported in words
        result = np.asarray(_evaluate(expression.tree, values), dtype=np.float64)
    if not np.all(np.isfinite(result)):
        at = int(np.argmin(np.isfinite(result)))
        where = ", ".join(f"{name} = {number(values[name][at])}" for name in expression.names)
        raise ValueError(f"At {where} the expression is infinite or undefined.")
    return result


def calculate(text: str) -> float:
    """The value of an expression of numbers alone: "(2 + 3) * 4.5" -> 22.5.

    Raises ValueError with a plain sentence when the text is outside the grammar or the value is not finite.
    """
    expression = parse(text, names_needed=False)
    if expression.names:
        raise ValueError(f"Only numbers can be calculated with, and {expression.names[0]} is none.")
    with np.errstate(all="ignore"):  # what is not finite is reported in words
        return float(_evaluate(expression.tree, {}))


def _tokens(text: str) -> list[str]:
    found = []
    for value, name, symbol, other in _TOKEN.findall(text.translate(_TYPOGRAPHIC)):
        if other:
            shown = other if other.isprintable() else f"U+{ord(other):04X}"
            raise ValueError(
                f"The character {shown} is not part of the grammar (letters, numbers, + - * / **, brackets)."
            )
        if len(name) > 1 and name not in FUNCTIONS:
            raise ValueError(f"{name} is not known: names are single letters, functions are {', '.join(FUNCTIONS)}.")
        if name.isupper():
            raise ValueError(f"Names are small letters: write {name.lower()} instead of {name}.")
        found.append(value or name or symbol)
    return found


def _check(node: ast.AST) -> None:
    """Refuse everything that is not listed in the grammar."""
    match node:
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            children = [left, right]
        case ast.UnaryOp(operand=operand, op=op) if type(op) in OPERATORS:
            children = [operand]
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
            children = [argument]
        case ast.Name(id=name) if name not in FUNCTIONS:
            children = []
        case ast.Constant(value=value) if type(value) in (int, float):
            children = []
        case ast.Name(id=name):
            raise ValueError(f"{name} needs its argument in brackets: {name}(a).")
        case _:
            raise ValueError("Only names, numbers, + - * / **, brackets and the listed functions can be used.")
    for child in children:
        _check(child)


def _evaluate(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.BinOp(left=left, op=op, right=right):
            return _compute(OPERATORS[type(op)], _evaluate(left, names), _evaluate(right, names))
        case ast.UnaryOp(operand=operand, op=op):
            return _compute(OPERATORS[type(op)], _evaluate(operand, names))
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            return _compute(FUNCTIONS[name], _evaluate(argument, names))
        case ast.Name(id=name):
            return names[name]
        case ast.Constant(value=value):
            return np.float64(value)  # type: ignore[arg-type]
    raise AssertionError("_check lets nothing else through")


def _compute(function: Callable[..., Any], *arguments: Any) -> Any:
    if function is np.power:
        _check_exponent(arguments[1])
    if any(isinstance(argument, Traced) for argument in arguments):
        return record(function, arguments, {})
    result = function(*arguments)
    if np.ndim(result) == 0 and not np.isfinite(result):
        raise ValueError("A part made of numbers alone is infinite or undefined.")
    return result


def _check_exponent(exponent: Any) -> None:
    size = float(np.max(np.abs(exponent.value if isinstance(exponent, Traced) else exponent)))
    if size > MAX_EXPONENT:
        raise ValueError(f"Exponents may be at most {MAX_EXPONENT}; one here is {number(size)}.")


def _finite(name: str, values: Mapping[str, SupportsFloat]) -> float:
    if name not in values:
        raise ValueError(f"The value of {name} is missing.")
    value = float(values[name])
    if not math.isfinite(value):
        raise ValueError(f"The value of {name} must be a finite number, not {value}.")
    return value


def _refuse_infinite(result: Traced) -> None:
    for step in history(result):
        if not np.isfinite(step.value):
            labels = {source.order: number(source.value) for source, _, _ in step.sources}
            _, numbers = describe(step, labels)
            raise ValueError(f"At these values {numbers} is infinite or undefined, so there is no gradient.")
