"""Pieces of chapter 10's pictures, sentences and formulas: arrows, next tokens, what a scheme or an edit changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine import positions as schemes
from engine import rope_study as study
from engine.rope import Scaling
from pages._reading import Reading, piece, spoken
from ui.figures import Picture, bars, plane
from ui.mathml import bracketed, number

CONTEXT = 8192  # that the pairs of the lab on longer contexts were trained with
ROUNDING = 1e-9  # what is smaller is float arithmetic, and nothing that a scheme does


def base_of(power: float) -> float:
    """10 to the power, at three digits: 5.699 is Llama 3's 500 000."""
    return float(f"{10**power:.3g}")


def cleaned(values: np.ndarray) -> np.ndarray:
    """Rounding errors drawn as the zeros that they stand for."""
    return np.where(np.abs(values) < ROUNDING, 0.0, values)


def fixed(value: float, digits: int = 2, sign: str = "") -> str:
    """A number in a sentence, with a real minus."""
    return f"{value:{sign}.{digits}f}".replace("-", "−")


def steps(distance: int) -> str:
    """4 positions, 1 position; how far, not which way."""
    return f"{abs(distance):,} position{'' if abs(distance) == 1 else 's'}"


# --- arrows --------------------------------------------------------------------------------------------------------


def arrow(tip: np.ndarray, label: str, tensor: str, **more: Any) -> dict[str, Any]:
    """An arrow from the middle of a plane."""
    return {"x0": 0.0, "y0": 0.0, "x1": float(tip[0]), "y1": float(tip[1]), "label": label, "tensor": tensor, **more}


def two_places(
    before: Sequence[np.ndarray], after: Sequence[np.ndarray], labels: Sequence[str], title: str, **more: Any
) -> Picture:
    """A query and a key before (dashed) and after (solid)."""
    dashed = [arrow(tip, "", name, dashed=True, key=name) for tip, name in zip(before, "qk", strict=True)]
    solid = [arrow(tip, label, name, key=name) for tip, label, name in zip(after, labels, "qk", strict=True)]
    return plane([], arrows=dashed + solid, title=title, **more)


def products(q: np.ndarray, k: np.ndarray) -> str:
    """A dot product of two arrows, written out."""
    return " + ".join(rf"\q{{{bracketed(a, 3)}}} \cdot \k{{{bracketed(b, 3)}}}" for a, b in zip(q, k, strict=True))


# --- sentences and formulas of single labs -------------------------------------------------------------------------


def order_sentence(found: schemes.Order, other: str, scheme: str, causal: bool) -> str:
    """Which words of the two orders differ, and what follows."""
    told = "Without positions" if scheme == "none" else f"With {schemes.SCHEMES[scheme].replace(', added', ' added')}"
    how = f"{told} and {'with' if causal else 'without'} a mask"
    words, top = found.words, float(np.max(found.differences))
    if top < ROUNDING:
        return (
            f"{how}, “dog bites man” and “{other}” give the same three vectors, only in another order. The largest "
            f"difference, {top:.0e}, is the rounding of float64. Whoever reads them cannot know who bit."
        )
    if found.differences[2] < ROUNDING:
        return (
            f"{how}, the words differ by up to {top:.2f}, except the last: “man” sees a dog and a bite in both, and "
            "one layer cannot tell in which order."
        )
    most = int(np.argmax(found.differences))
    return f"{how}, every word comes out differently; {{{{word:{most}|“{words[most]}” by {top:.2f}}}}}."


def scaling_of(method: str, factor: int) -> Scaling:
    """The engine's name for a way to read a longer context."""
    return {"none": None, "yarn": ("yarn", factor, CONTEXT)}.get(method, (method, factor))


def scaled_formula(method: str, factor: int, pair: int, base: float, found: study.Extension) -> str:
    """θ' of one pair, by the rule of the method."""
    theta, turns = rf"\theta_{{{pair}}}", float(found.trained[pair]) / (2 * np.pi)
    rule = {
        "none": theta,
        "linear": rf"\frac{{{theta}}}{{{factor}}}",
        "ntk": rf"({base:.0f} \cdot {factor}^{{64/62}})^{{-2 \cdot {pair}/64}}",
        "yarn": rf"(1-\gamma) \frac{{{theta}}}{{{factor}}} + \gamma {theta}",
    }[method]
    plain, scaled = found.trained[pair] / CONTEXT, found.reach[pair] / (CONTEXT * factor)
    return (
        rf"{theta} = {number(float(plain))}, \quad \theta'_{{{pair}}} = {rule} = {number(float(scaled))}, "
        rf"\quad {number(turns, 3)} \text{{ turns in training}}"
    )


# --- the real model ------------------------------------------------------------------------------------------------


def next_tokens(probabilities: np.ndarray, title: str) -> Picture:
    """The five likeliest next tokens."""
    best = study.likeliest(probabilities, 5)
    labels = [piece(int(i)) for i in best]
    return bars(labels, probabilities[best], title=f"Next token: {title}", tensor="logits", share=True, limit=1)


def spoilt_sentence(reading: Reading, how: str, surprisals: Sequence[np.ndarray], guesses: Sequence[np.ndarray]) -> str:
    """What an edit did to the reader's text: perplexity, the token hit hardest, the next token."""
    (trained, now), (usual, changed) = surprisals, guesses
    before, after = (float(np.exp(np.mean(losses))) for losses in surprisals)
    told = f"{reading.note}RoPE {study.SPOILT[how]}: the perplexity of your text is {after:.4g}"
    if how == "trained":
        told += "."
    elif abs(after / before - 1) < 1e-3:
        told += f", against {before:.4g} as trained; nothing has changed but the last digits."
    else:
        worst = int(np.argmax(np.abs(now - trained))) + 1
        hit = f"{{{{token:{worst}|“{spoken(reading.pieces[worst])}”}}}}"
        told += f", against {before:.4g} as trained, {after / before:.2f} times as much. "
        told += f"{hit} changes most, by {fixed(float(now[worst - 1] - trained[worst - 1]), 2, '+')} nats."
    best, usual_best = (int(study.likeliest(p, 1)[0]) for p in (changed, usual))
    verb = "is" if how == "trained" else "is still" if best == usual_best else "is now"
    told += f" The likeliest next token {verb} “{spoken(piece(best))}”, with {changed[best]:.1%}"
    return told + ("." if how == "trained" else f" instead of {usual[best]:.1%}.")
