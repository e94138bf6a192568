"""LaTeX to MathML on the server, so that a formula costs the browser no script at all."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from functools import lru_cache

from latex2mathml.converter import convert

TENSORS = ("tokens", "resid", "q", "k", "v", "attn", "ffn", "logits", "grad")

_SPACE = "{http://www.w3.org/1998/Math/MathML}"
_SCRIPTS = {_SPACE + name for name in ("msub", "msup", "msubsup", "munder", "mover", "munderover")}
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_BARS = {"‖", "∥", "|"}
_RELATIONS, _SIGNS = "=≈≤≥<>,(→", "−+-"
ET.register_namespace("", _SPACE[1:-1])


@lru_cache(maxsize=4096)
def mathml(latex: str, *, block: bool = False) -> str:
    r"""LaTeX -> `<math>` markup. `\q{Q}` and its like (`\resid`, `\attn`, …) give a symbol its tensor's colour."""
    for name in TENSORS:
        latex = re.sub(rf"\\{name}\{{", rf"\\textcolor{{t-{name}}}{{", latex)
    root = ET.fromstring(convert(latex, display="block" if block else "inline"))
    _colour(root)
    _tighten(root)
    return ET.tostring(root, encoding="unicode")


def number(value: float, digits: int = 4) -> str:
    """A number as formulas write it: `digits` significant digits, powers of ten spelled out."""
    if value != value or value in (float("inf"), float("-inf")):
        return {"nan": r"\text{not a number}", "inf": r"\infty", "-inf": r"-\infty"}[str(float(value))]
    text = f"{float(value) + 0.0:.{digits}g}"  # + 0.0: no minus sign at 0
    if "e" in text:
        mantissa, exponent = text.split("e")
        return rf"{mantissa} \times 10^{{{int(exponent)}}}"
    return text


def superscript(power: int) -> str:
    """An exponent where there is no formula, as in 5.8 · 10⁻⁹."""
    return str(power).translate(_RAISED)


def bracketed(value: float, digits: int = 4) -> str:
    """A number as a factor, or as the base of a power: in brackets if it is negative or has a power of its own."""
    text = number(value, digits)
    return f"({text})" if value < 0 or "^" in text else text


def signed(value: float, digits: int = 4) -> str:
    """A number as the next term of a sum: "+ 2" or "- 2"."""
    return f"{'-' if value < 0 else '+'} {number(abs(value), digits)}"


def _colour(root: ET.Element) -> None:
    for node in root.iter():
        if node.get("mathcolor", "").startswith("t-"):
            node.set("class", node.attrib.pop("mathcolor"))


def _tighten(root: ET.Element) -> None:
    """What the converter leaves looser than TeX would: names of functions, signs, scripts."""
    for node in root.iter():
        if (
            node.tag == _SPACE + "mi" and node.text == "′"
        ):  # a prime is high already; as small as an exponent it cannot be seen
            node.tag = _SPACE + "mo"
            node.set("mathsize", "150%")
        if node.tag in _SCRIPTS:
            for mark in (mo for script in list(node)[1:] for mo in script.iter(_SPACE + "mo")):
                mark.set("lspace", "0")
                mark.set("rspace", "0")
        if node.tag == _SPACE + "mo" and node.text and len(node.text) > 1 and node.text.isalpha():
            node.tag = _SPACE + "mi"
        if node.tag == _SPACE + "mo" and node.text in _BARS and not node.attrib:
            node.set("stretchy", "false")
    for parent in list(root.iter()):
        for before, after in list(zip(parent, list(parent)[1:], strict=False)):
            if (
                before.tag == after.tag == _SPACE + "mo"
                and (before.text or "") in _RELATIONS
                and (after.text or "") in _SIGNS
            ):
                after.set("form", "prefix")
            if _is_word(before) and parent.tag not in _SCRIPTS and next(after.iter()).tag != _SPACE + "mo":
                parent.insert(list(parent).index(after), ET.Element(_SPACE + "mspace", width="0.167em"))


def _is_word(node: ET.Element) -> bool:
    """The name of a function, such as log, possibly with an index."""
    base = node[0] if node.tag in _SCRIPTS and len(node) else node
    return base.tag == _SPACE + "mi" and bool(base.text) and len(base.text or "") > 1 and (base.text or "").isalpha()
