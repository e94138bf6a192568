"""What the sampling page shows and says about filters and continuations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from engine import decoding
from engine.model import END_IDS
from engine.pipeline import Ranked, Stage
from engine.sampling import Beam, Sample, log_softmax, surprisal
from engine.tokenization import token_bytes
from pages._chips import grouped, label, many
from pages._reading import ENCODING, Reading, piece, written
from ui.figures import Picture, network, table, tokens
from ui.mathml import number, superscript

CANDIDATES = 12
"""How many of the next tokens are named; the others are shown together."""
PENALTIES = (1.0, 1.2, 1.5)


def bar_label(token: int) -> str:
    """A token beside its bar: spaces and line breaks can be seen."""
    return label(token_bytes(int(token), ENCODING))


def log_text(value: float) -> str:
    """A log-probability as sentences and titles write it."""
    return f"{value:.2f}".replace("-", "−")


def times(log_ratio: float) -> str:
    """How many times as much, from the logarithm of the ratio: 94.5, 12,345, 5 × 10⁷."""
    if log_ratio < math.log(1e6):
        return f"{math.exp(log_ratio):,.1f}" if log_ratio < math.log(1000) else f"{math.exp(log_ratio):,.0f}"
    power = math.floor(log_ratio / math.log(10))
    return f"{math.exp(log_ratio - power * math.log(10)):.0f} × 10{superscript(power)}"


def odds(share: float) -> str:
    """A probability that may be tiny: 13.9%, 0.14%, 1 in 44,355."""
    return (
        f"{share:.1%}" if share >= 0.1 else f"{share:.2%}" if share >= 0.001 else f"1 in {1 / max(share, 1e-300):,.0f}"
    )


def small_share(share: float) -> str:
    """A share small enough to stand on a chip."""
    return f"{share:.0%}" if share >= 0.01 else f"{share:.1%}" if share >= 0.001 else "<0.1%"


def stage_names(stages: Sequence[Stage], temperature: float, k: int, p: float, minimum: float) -> list[str]:
    settings = {
        "softmax": "softmax",
        "temperature": f"÷ T = {temperature:g}" if temperature else "T = 0",
        "top-k": f"top-k {k}" if k else "top-k off",
        "top-p": f"top-p {p:g}" if p < 1 else "top-p off",
        "min-p": f"min-p {minimum:g}" if minimum else "min-p off",
        "greedy": "greedy",
    }
    return [settings[stage.name] for stage in stages]


def stage_table(stages: Sequence[Stage], names: Sequence[str]) -> Picture:
    lines = [
        [name, grouped(stage.kept), f"{stage.mass:.2%}", f"{stage.entropy:.3f}", f"{math.exp(stage.entropy):,.2f}"]
        for name, stage in zip(names, stages, strict=True)
    ]
    return table(
        ["after", "tokens left", "kept of the probability before", "entropy, nats", "as many as … equal choices"],
        lines,
        title="What each step leaves",
    )


def until_end(ids: list[int]) -> list[int]:
    """Choices up to the first token that ends the text."""
    ends = [place for place, token in enumerate(ids) if token in END_IDS]
    return ids[: ends[0] + 1] if ends else ids


def joined(ids: Sequence[int], *more: int) -> str:
    return ".".join(map(str, (*ids, *more)))


def text_so_far(reading: Reading, trail: Sequence[int]) -> Picture:
    """The text so far; a click goes back to where that token was chosen."""
    pieces = [{"text": name} for name in reading.pieces] + [{"text": piece(i)} for i in trail]
    back = [""] * len(reading.ids) + [joined(trail[:i]) for i in range(len(trail))]
    return tokens(
        pieces,
        title="Your text and what follows; click a token of the continuation to choose it anew"
        if trail
        else "Your text",
        pick="chosen",
        picks=back,
        show=["no-ids"],
        marked=range(len(reading.ids), len(pieces)),
    )


def on_the_line(line: Ranked, left: Stage, drawn: Sample) -> tuple[list[str], list[float], int, list[int | None]]:
    """Names, shares and ids of what is drawn on the line, and the place of the drawn one; the rest is lumped."""
    p, count = left.probabilities.astype(np.float64), min(CANDIDATES, left.kept)
    names: list[str] = [bar_label(int(i)) for i in line.ids[:count]]
    shares: list[float] = p[:count].tolist()
    ids: list[int | None] = [int(i) for i in line.ids[:count]]

    def lump(start: int, end: int) -> None:
        if end > start:
            names.append(f"{end - start:,} others")
            shares.append(float(np.sum(p[start:end])))
            ids.append(None)

    place = drawn.token
    if place < count:
        lump(count, left.kept)
        return names, shares, place, ids
    lump(count, place)
    where = len(names)
    names.append(bar_label(int(line.ids[place])))
    shares.append(float(p[place]))
    ids.append(int(line.ids[place]))
    lump(place + 1, left.kept)
    return names, shares, where, ids


def choices_table(rows: np.ndarray, trail: Sequence[int]) -> Picture:
    """How each choice stood when it was made."""
    log_p, total, lines = log_softmax(rows), 0.0, []
    for n, token in enumerate(trail):
        total += float(log_p[n, token])
        rank = int(np.sum(rows[n] > rows[n, token])) + 1
        lines.append([n + 1, bar_label(token), odds(math.exp(log_p[n, token])), f"{rank:,}", log_text(total)])
    return table(["step", "token", "its probability", "its rank", "log p so far"], lines, title="What was chosen")


def total_log_p(rows: np.ndarray, trail: Sequence[int]) -> float:
    return -float(np.sum(surprisal(rows[: len(trail)], np.array(trail, int))))


def chain_formula(rows: np.ndarray, trail: Sequence[int]) -> str:
    return rf"\ln p = \sum_{{i=1}}^{{{len(trail)}}} \ln p_i = {number(total_log_p(rows, trail))}"


def tinted(ids: Sequence[int], log_p: Sequence[float], title: str) -> Picture:
    """A continuation, each token as dark as the model found it likely."""
    shares = [math.exp(value) for value in log_p]
    pieces = [{"text": piece(i), "note": small_share(share)} for i, share in zip(ids, shares, strict=True)]
    return tokens(pieces, title=title, show=["no-ids"], shares=shares)


def beam_tree(rounds: Sequence[Sequence[Beam]], start: int) -> Picture:
    """Each round a column: who survived, from whom it came. What led to the best one is outlined."""
    best, nodes, edges = rounds[-1][0].ids, [], []
    for column, beams in enumerate(rounds):
        for place, beam in enumerate(beams):
            name = bar_label(beam.ids[-1]) if column else "start"
            on_way = beam.ids == best[: start + column] or beam.ids == best
            nodes.append(
                {
                    "id": f"{column}.{place}",
                    "label": name if len(name) < 11 else name[:9] + "…",
                    "value": beam.log_probability,
                    "column": column,
                    "row": place,
                    "tensor": "logits",
                    "note": f"log p = {log_text(beam.log_probability)}: {written(beam.ids[start:])}",
                    **({"state": "wanted"} if on_way else {}),
                }
            )
            parent = next((k for k, old in enumerate(rounds[column - 1]) if column and _grew(old, beam)), None)
            if parent is not None:
                way = {"value": 1.0} if on_way else {}
                edges.append({"from": f"{column - 1}.{parent}", "to": f"{column}.{place}", "note": "", **way})
    columns = [f"round {i}" if i else "" for i in range(len(rounds))]
    title = (
        "The rounds of beam search: survivors with their log p, the likeliest on top; outlined is what led to the best"
    )
    return network(nodes, edges, title=title, columns=columns, gap=(92, 74))


def _grew(old: Beam, new: Beam) -> bool:
    return new.ids[:-1] == old.ids or (old.finished and new.ids == old.ids)


def beam_verdict(found: decoding.Ways, start: int) -> str:
    best, greedy = found.beams.beams[0], found.greedy
    by_beams, apart = best.ids[start:], best.log_probability - greedy.total
    if by_beams == greedy.ids:
        return "Here beam search ends with the very text that greedy decoding found."
    if len(by_beams) != len(greedy.ids):
        return (
            f"The best beam has {many(len(by_beams), 'token')}, greedy {many(len(greedy.ids), 'token')}: fewer tokens "
            f"are fewer factors, so {log_text(best.log_probability)} and {log_text(greedy.total)} cannot be compared "
            "as they stand."
        )
    if apart < 0:
        return f"Beam search lost the better text on the way: greedy's is {times(-apart)} times as probable."
    common, drawn = decoding.shared_start(by_beams, greedy.ids), best.log_probability - found.drawn.total
    return (
        f"Beam search found a text {times(apart)} times as probable as greedy's. They part after "
        f"{many(common, 'token')}, where greedy took what looked best at once."
        + (f" The best beam is {times(drawn)} times as probable as the drawn text." if drawn > 0 else "")
    )


def penalty_chips(n: int, line: decoding.Line, start: Sequence[int], picked: int | None) -> Picture:
    """A continuation; dark is what the text had already."""
    before = decoding.seen_before(start, line.ids)
    size = decoding.period((*start, *line.ids))
    loop = f"; it ends in a loop of {many(size, 'token')}" if size else ""
    return tokens(
        [{"text": piece(i), "key": f"written:{n}:{i}"} for i in line.ids],
        title=(
            f"Penalty {PENALTIES[n]:g}: {sum(before)} of {len(before)} tokens were in the text before{loop}; "
            f"log p = {log_text(line.total)}"
        ),
        pick="place",
        picks=[64 * n + i for i in range(len(line.ids))],
        picked=picked,
        shares=[0.75 * was for was in before],
        show=["no-ids"],
    )


def loop_verdict(lines: Sequence[decoding.Line], start: Sequence[int]) -> str:
    loops = [decoding.period((*start, *line.ids)) for line in lines]
    shares = [sum(decoding.seen_before(start, line.ids)) / len(line.ids) for line in lines]
    same = [PENALTIES[i] for i in range(1, len(lines)) if lines[i].ids == lines[0].ids]
    text = f"Without a penalty {shares[0]:.0%} of the new tokens had been in the text before"
    text += (
        f", and it ends in a loop of {many(loops[0], 'token')}. " if loops[0] else ", and it does not end in a loop. "
    )
    if same:
        return text + f"A penalty of {same[-1]:g} changes nothing here."
    apart = lines[0].total - lines[-1].total
    return (
        f"{text}With {PENALTIES[1]:g} it is {shares[1]:.0%}, with {PENALTIES[-1]:g} {shares[-1]:.0%}. The model finds "
        f"the last text {times(abs(apart))} times {'less' if apart > 0 else 'more'} probable than the first."
    )
