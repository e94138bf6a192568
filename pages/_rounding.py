"""How one number is rounded, written out: the formulas of the chapter on quantization."""

from __future__ import annotations

import numpy as np

from engine.quantization import FLOATS, Group, Half, nf4_table
from engine.quantization_study import KINDS, Treated, group_of
from ui.mathml import number, signed

MINUS = "−"


def shown(value: float, digits: int = 4) -> str:
    """A number in a sentence."""
    return f"{value:.{digits}g}".replace("-", MINUS)


def percent(share: float) -> str:
    """A share in a sentence, with two significant digits."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"


def cell_formula(x: np.ndarray, treated: Treated, at: tuple[int, int], symmetric: bool, group: Group) -> str:
    """What the scheme does to one cell, with its numbers."""
    value, kept = float(x[at]), float(treated.dequantized[at])
    if treated.kind in FLOATS:
        return float_formula(value, kept, treated.kind)
    assert treated.codes is not None
    code, step = int(treated.codes[at]), float(treated.step[at])
    mates = x[group_of((x.shape[0], x.shape[1]), *at, group)]
    largest = float(np.max(np.abs(mates)))
    if treated.kind == "nf4":
        entry = float(nf4_table()[code])
        return (
            rf"s = \max|x| = {number(largest)}, \quad \frac{{x}}{{s}} = "
            rf"\frac{{{number(value)}}}{{{number(largest)}}} = {number(value / step if step else 0.0)} \approx "
            rf"t_{{{code}}} = {number(entry)}, \quad \hat{{x}} = s \cdot t_{{{code}}} = {number(kept)}"
        )
    bits = int(treated.kind.removeprefix("int"))
    if symmetric:
        return (
            rf"s = \frac{{\max|x|}}{{2^{{{bits} - 1}} - 1}} = \frac{{{number(largest)}}}{{{2 ** (bits - 1) - 1}}} = "
            rf"{number(step)}, \quad "
            rf"q = \mathrm{{round}}\left(\frac{{{number(value)}}}{{{number(step)}}}\right) = {code}, \quad "
            rf"\hat{{x}} = {code} \cdot {number(step)} = {number(kept)}"
        )
    low, high = float(np.min(mates)), float(np.max(mates))
    return (
        rf"s = \frac{{{number(high)} {signed(-low)}}}{{2^{{{bits}}} - 1}} = {number(step)}, \quad "
        rf"q = \mathrm{{round}}\left(\frac{{{number(value)} {signed(-low)}}}{{{number(step)}}}\right) = {code}, \quad "
        rf"\hat{{x}} = {code} \cdot {number(step)} {signed(low)} = {number(kept)}"
    )


def float_formula(value: float, kept: float, kind: str) -> str:
    """A float as sign, power of two and mantissa."""
    form = FLOATS[kind]
    if kept == 0 or not np.isfinite(kept):
        return rf"{number(value)} \to {'0' if kept == 0 else (MINUS if kept < 0 else '') + chr(0x221E)}"
    exponent = max(int(np.frexp(abs(kept))[1]) - 1, form.lowest)
    steps = 2**form.mantissa
    mantissa = round(abs(kept) / 2.0**exponent * steps)
    whole, rest = divmod(mantissa, steps)
    return (
        rf"{number(value)} \approx {'-' if kept < 0 else ''}2^{{{exponent}}} \cdot "
        rf"\left({whole} + \frac{{{rest}}}{{{steps}}}\right) = {number(kept, 7)}"
    )


def half_formula(name: str, half: Half, data: bytes) -> str:
    """A half of the file, from its two bytes to its value."""
    pattern = f"{half.bits:016b}"
    least = half.exponent == 0
    return (
        rf"\text{{{data.hex(' ')}}} \to \text{{{pattern[0]} {pattern[1:6]} {pattern[6:]}}} \to "
        rf"{name} = {'-' if half.sign else ''}2^{{{-14 if least else f'{half.exponent} - 15'}}} \cdot "
        rf"\left({0 if least else 1} + \frac{{{half.mantissa}}}{{1024}}\right) = {number(half.value, 6)}"
    )


def scheme_words(kind: str, symmetric: bool) -> str:
    """INT4, symmetric; FP16."""
    return f"{KINDS[kind]}{', symmetric' if symmetric else ', asymmetric'}" if kind.startswith("int") else KINDS[kind]
