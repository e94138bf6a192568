"""LaTeX to MathML on the server, so that a formula costs the browser no script at all."""

from __future__ import annotations

import re
from functools import lru_cache

from latex2mathml.converter import convert

TENSORS = ("tokens", "resid", "q", "k", "v", "attn", "ffn", "logits", "grad")
_COLOUR = re.compile(r'mathcolor="t-(\w+)"')


@lru_cache(maxsize=4096)
def mathml(latex: str, *, block: bool = False) -> str:
    r"""LaTeX -> `<math>` markup. `\q{Q}` and its like (`\resid`, `\attn`, …) give a symbol its tensor's colour."""
    for name in TENSORS:
        latex = re.sub(rf"\\{name}\{{", rf"\\textcolor{{t-{name}}}{{", latex)
    markup = convert(latex, display="block" if block else "inline")
    return _COLOUR.sub(r'class="t-\1"', markup)


def number(value: float, digits: int = 4) -> str:
    """A number as formulas write it: `digits` significant digits, a real minus sign, powers of ten spelled out."""
    if value != value or value in (float("inf"), float("-inf")):
        return {"nan": r"\text{not a number}", "inf": r"\infty", "-inf": r"-\infty"}[str(float(value))]
    text = f"{float(value):.{digits}g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        return rf"{mantissa} \times 10^{{{int(exponent)}}}"
    return text
