"""What several labs of the post-training page share: the five answers, pairs to judge, a dialogue as chips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine import preferences
from engine import small_policy as small
from engine.preferences import Pairs, ranking
from engine.small_policy import ANSWERS, NAMES, REFERENCE
from ui.controls import Trail
from ui.figures import Picture, bars, row, table, tokens, words
from ui.lab import Preset

COUNT = len(ANSWERS)
MINUS = "−"


def coded(pairs: Pairs) -> str:
    """Pairs as the trail of choices that a link carries."""
    return ".".join(str(winner * COUNT + loser) for winner, loser in pairs)


CAREFUL, LONG, WARM = ranking((0, 1, 2, 4, 3)), ranking((1, 0, 2, 3, 4)), ranking((2, 4, 0, 1, 3))
CIRCLE: Pairs = ((0, 1), (1, 2), (2, 0))
ISLANDS: Pairs = ((0, 3), (1, 4))
ONE: Pairs = ((0, 1),)


def verdicts(default: Pairs) -> Trail:
    """The control that holds the reader's verdicts."""
    return Trail("wins", "Your verdicts", coded(default), high=COUNT * COUNT - 1, limit=12)


def judge(label: str, pairs: Pairs, why: str, **others: Any) -> Preset:
    return Preset(label, {"wins": coded(pairs), **others}, why)


def pair_chips(pairs: Pairs) -> Picture:
    """Every possible verdict as a chip: a click gives it, a second one takes it back."""
    return row(*(_chips_of(winner, pairs) for winner in range(COUNT)))


def _chips_of(winner: int, pairs: Pairs) -> Picture:
    losers = [loser for loser in range(COUNT) if loser != winner]
    return tokens(
        [{"text": NAMES[loser], "key": f"pair:{winner}:{loser}"} for loser in losers],
        title=f"“{NAMES[winner]}” is better than …",
        pick="wins",
        picks=[_after(pairs, (winner, loser)) for loser in losers],
        marked=[place for place, loser in enumerate(losers) if (winner, loser) in pairs],
        shares=[float((winner, loser) in pairs) for loser in losers],
        show=["no-ids", "plain"],
    )


def _after(pairs: Pairs, verdict: tuple[int, int]) -> str:
    if verdict in pairs:
        return coded(tuple(pair for pair in pairs if pair != verdict))
    return coded((*(pair for pair in pairs if set(pair) != set(verdict)), verdict))


def answers_in_full() -> Picture:
    return row(
        *(words(one.text, title=f"{one.name} (base model: {share(float(p))})")
          for one, p in zip(ANSWERS, REFERENCE, strict=True))
    )  # fmt: skip


def policy_table(columns: dict[str, Any], title: str, names: Sequence[str] = NAMES) -> Picture:
    """Several policies side by side: the probability of each answer."""
    return table(
        ["answer", *columns],
        [[name, *({"share": float(policy[i])} for policy in columns.values())] for i, name in enumerate(names)],
        title=title,
    )


def policy_bars(policy: Any, title: str, **more: Any) -> Picture:
    """Probabilities of the five answers."""
    return bars(
        list(NAMES), policy, title=title, tensor="logits", share=True, limit=1.0,
        keys=[f"answer:{i}" for i in range(COUNT)], **more,
    )  # fmt: skip


def signed_text(value: float, digits: int = 2) -> str:
    """A number in a sentence, with a real minus sign and none at 0."""
    return f"{value + 0.0:.{digits}f}".replace("-", MINUS) if round(value, digits) else f"{0:.{digits}f}"


def share(value: float) -> str:
    """A probability in a sentence."""
    if value < 0.0001 or value > 0.9999:
        return "nearly 0%" if value < 0.5 else "nearly 100%"
    return f"{value:.0%}" if 0.1 <= value <= 0.995 else f"{value:.2%}"


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    quoted = [f"“{name}”" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def order_of(values: Any) -> list[int]:
    """Places from the largest value to the smallest."""
    return [int(i) for i in np.argsort(-np.asarray(values), kind="stable")]


def verdict_words(pairs: preferences.Pairs, now: Any, beats: Any) -> str:
    if not pairs:
        return "No verdict yet, so every reward is 0 and every pair a toss-up. Click a chip."
    best, worst = order_of(now)[0], order_of(now)[-1]
    agreed = sum(bool(now[w] > now[lost]) for w, lost in pairs)
    many = f"{len(pairs)} verdict{'' if len(pairs) == 1 else 's'}"
    if np.ptp(now) < 1e-9:
        return f"With {many}, all five rewards are still equal."
    known = (*pairs, *((lost, won) for won, lost in pairs))  # a way from one answer to another, in whichever direction
    linked = preferences.circles(known, COUNT)[best, worst]
    return (
        f"Of {many}, the rewards agree with {agreed}. Highest {equals(now, best)} with "
        f"{signed_text(now[best])}, lowest {equals(now, worst)} with {signed_text(now[worst])}: so far apart, "
        "one should beat the other "
        f"{share(float(beats[best, worst]))} of the time."
        + (
            ""
            if linked
            else f" But no verdict compares “{small.NAMES[best]}” with “{small.NAMES[worst]}”, not even by way of "
            "others."
        )
    )


def equals(now: Any, place: int) -> str:
    """An answer with all those of the same reward, as the end of "highest is" or "lowest are"."""
    places = [i for i in range(COUNT) if abs(now[i] - now[place]) < 1e-9]
    names = [f"{{{{answer:{i}|“{small.NAMES[i]}”}}}}" for i in places]
    return f"is {names[0]}" if len(names) == 1 else f"are {', '.join(names[:-1])} and {names[-1]}"


def contradictions(pairs: preferences.Pairs) -> str:
    ring = np.flatnonzero(np.diagonal(preferences.circles(pairs, len(small.NAMES))))
    if len(ring):
        return (
            f"Your verdicts on {listed([small.NAMES[i] for i in ring])} run in a circle: no rewards can satisfy them "
            "all, so these are a compromise."
        )
    if not pairs:
        return ""
    return "There is no circle in your verdicts, so without a pull the rewards would grow for ever, ever more slowly."


def smoothed(values: list[float]) -> Any:
    """A running mean, for a curve that can be read."""
    padded = np.pad(values, 4, mode="edge")
    return np.convolve(padded, np.ones(9) / 9, mode="valid")
