"""Logits and sampling. The labs of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from dash import register_page

from engine import decoding
from engine.draws import chi_square_tail, compare, convergence
from engine.model import END_IDS, Model
from engine.pipeline import Ranked, Stage, masses, nuclei, nucleus_sizes, pipeline, ranked
from engine.sampling import (
    Sample,
    beam_round,
    entropy,
    log_softmax,
    min_p,
    most_likely,
    repetition_penalty,
    sample_many,
    softmax,
    surprisal,
    token_at,
    top_k,
    top_p,
)
from engine.tokenization import decode, encode
from engine.weights import SOURCES
from pages._chips import grouped, many
from pages._continuations import (
    CANDIDATES,
    PENALTIES,
    bar_label,
    beam_tree,
    beam_verdict,
    chain_formula,
    choices_table,
    joined,
    log_text,
    loop_verdict,
    odds,
    on_the_line,
    penalty_chips,
    stage_names,
    stage_table,
    text_so_far,
    tinted,
    total_log_p,
    until_end,
)
from pages._reading import ENCODING, Reading, piece, read, spoken, written
from ui.chapter import Chapter
from ui.controls import Choice, Pick, Slider, Toggle, Trail, within
from ui.figures import Picture, bars, curve, matrix, readouts, row, stack, stretches, table, tokens
from ui.lab import Preset
from ui.mathml import number

chapter = Chapter(__name__, Path(__file__).parent)

WORDS = ("hot", "cold", "salty", "spicy", "thin", "good", "purple")
LOGITS = (1.9, 1.5, 1.2, 0.8, 0.3, -0.2, -1.5)
VOCABULARY = SOURCES["smollm2"].config.vocabulary


# --- hand-sized ----------------------------------------------------------------------------------------------------


@chapter.lab(
    "filters",
    title="From seven logits to one word",
    controls=[
        *(Slider(word, f"Logit of “{word}”", z, -5.0, 5.0, 0.1) for word, z in zip(WORDS, LOGITS, strict=True)),
        Slider("temperature", "Temperature T", 1.0, 0.0, 3.0, 0.05),
        Slider("k", "Top-k (7 = off)", 5, 1, 7),
        Slider("p", "Top-p (1 = off)", 0.9, 0.0, 1.0, 0.01),
        Slider("minimum", "Min-p (0 = off)", 0.4, 0.0, 1.0, 0.05),
        Toggle("greedy", "Greedy", False),
        Slider("power", "Draws: 10 to the power", 2.0, 0.0, 4.0, 0.1),
        Slider("seed", "Seed of the draws", 1, 0, 99),
    ],
    runs=[pipeline, softmax, top_k, top_p, min_p, entropy, sample_many, compare, chi_square_tail],
    snippet="""
        import numpy as np
        from engine.draws import compare
        from engine.pipeline import pipeline
        from engine.sampling import sample_many

        logits = np.array([{hot}, {cold}, {salty}, {spicy}, {thin}, {good}, {purple}])
        stages = pipeline(logits, {temperature}, {k}, {p}, {minimum}, {greedy})
        probabilities = np.array([stage.probabilities for stage in stages])
        drawn = sample_many(stages[-1].logits, np.random.default_rng({seed}), round(10**{power}))
        counts = compare(drawn, stages[-1].probabilities).counts
        print(probabilities.round(3), counts)
    """,
    provenance="Hand-set logits for “The soup is too …”; everything after them is computed live",
    presets=[
        Preset(
            "No filter",
            {"temperature": 1.0, "k": 7, "p": 1.0, "minimum": 0.0, "greedy": False},
            "The plain softmax: even purple soup gets its 1%.",
        ),
        Preset(
            "Hot",
            {"temperature": 2.5, "k": 7, "p": 1.0, "minimum": 0.0, "greedy": False},
            "A high temperature evens out the shares; it never changes their order.",
        ),
        Preset(
            "Hot, with min-p",
            {"temperature": 2.5, "k": 7, "p": 1.0, "minimum": 0.4, "greedy": False},
            "Heat comes first: the bar sinks with the best word’s share, and only purple is still below it.",
        ),
        Preset(
            "Temperature 0",
            {"temperature": 0.0, "k": 7, "p": 1.0, "minimum": 0.0, "greedy": False},
            "Nothing is divided by zero: the largest logit wins, and every draw is the same.",
        ),
        Preset(
            "Ten thousand draws",
            {"power": 4.0, "temperature": 1.0, "k": 7, "p": 1.0, "minimum": 0.0, "greedy": False},
            "The counts come close to what was expected, and never quite there.",
        ),
        Preset(
            "All alike",
            {**dict.fromkeys(WORDS, 0.0), "temperature": 1.0, "k": 4, "p": 0.9, "minimum": 0.0, "greedy": False},
            "With equal logits, top-k has to cut between equals. It keeps those that come first in the list.",
        ),
    ],
    height=1000,
)
def filters(
    temperature: float, k: int, p: float, minimum: float, greedy: bool, power: float, seed: int, **logits: float
) -> tuple[Any, ...]:
    z = np.array([logits[word] for word in WORDS])
    stages = pipeline(z, temperature, k, p, minimum, greedy)
    last, count = stages[-1], round(10**power)
    drawn = sample_many(last.logits, np.random.default_rng(seed), count)
    seen = compare(drawn, last.probabilities)
    names = ["logits", *stage_names(stages, temperature, k, p, minimum)[1:]]
    picture = stack(
        matrix(
            [stage.logits for stage in stages],
            "Logits, one step a line",
            "logits",
            "z",
            rows=names,
            columns=WORDS,
            limit=5,
            digits=2,
            key_columns="word",
        ),
        matrix(
            [stage.probabilities for stage in stages],
            "Probabilities: softmax of each line, so that what is left sums to 1 again",
            "logits",
            "probabilities",
            rows=["softmax", *names[1:]],
            columns=WORDS,
            scale="share",
            digits=3,
            key_columns="word",
        ),
        stage_table(stages, names),
        row(
            bars(
                WORDS,
                seen.expected,
                title=f"Expected in {many(count, 'draw')}",
                tensor="logits",
                limit=float(count),
                keys=[f"word:{i}" for i in range(7)],
                texts=[f"{n:,.1f} ± {e:.1f}" for n, e in zip(seen.expected, seen.standard_error, strict=True)],
            ),
            bars(
                WORDS,
                seen.counts,
                title=f"Drawn with seed {seed}",
                tensor="tokens",
                limit=float(count),
                keys=[f"word:{i}" for i in range(7)],
                notes=[_off(seen.counts[i] - seen.expected[i], seen.standard_error[i]) for i in range(7)],
            ),
        ),
        readouts(
            [
                ("chi-square", f"{seen.chi_square:.2f}"),
                ("degrees of freedom", str(seen.degrees)),
                ("chance alone gives this or more in", f"{seen.chance:.1%} of runs"),
            ]
        ),
    )
    best = int(np.argmax(last.probabilities))
    sentence = (
        f"{many(last.kept, 'word')} of 7 can still be drawn; “{WORDS[best]}” has "
        f"{{{{word:{best}|{last.probabilities[best]:.1%}}}}}, and the entropy has gone from {stages[0].entropy:.2f} to "
        f"{last.entropy:.2f} nats. {_verdict(seen.chance, seen.degrees, seen.expected)}"
    )
    formula = _renormalised(stages, best, temperature)
    data = {
        "logits": z,
        "probabilities": np.array([stage.probabilities for stage in stages]),
        "counts": seen.counts,
        "expected": seen.expected,
    }
    return picture, sentence, formula, data


def _off(difference: float, error: float) -> str:
    return f"{difference / error:+.1f} standard errors".replace("-", "−") if error > 1e-9 else ""


def _verdict(chance: float, degrees: int, expected: np.ndarray) -> str:
    """Is what was drawn more than chance?"""
    if degrees == 0:
        return "There is nothing left to chance: every draw is the same word."
    if np.min(expected[expected > 0]) < 1:
        return "With an expected count below 1 the chi-square says little: draw more often."
    if chance > 0.05:
        return f"Counts this far off, or farther, come from chance alone in {chance:.0%} of runs: nothing to explain."
    return f"Counts this far off come from chance in {chance:.1%} of runs. Of a hundred seeds, a few look so."


def _renormalised(stages: Sequence[Stage], best: int, temperature: float) -> str:
    """The best word's share before the filters, divided by all that they kept."""
    cooled, last = stages[1], stages[-1]
    kept = float(np.sum(cooled.probabilities[last.probabilities > 0]))
    if temperature == 0:
        return r"T = 0: \quad p(\text{largest } \logits{z}) = 1"
    share = cooled.probabilities[best]
    exponent = rf"e^{{\logits{{{number(stages[0].logits[best])}}}/{number(temperature)}}}"
    total = float(np.sum(np.exp(stages[0].logits / temperature)))
    return (
        rf"p = \frac{{{exponent}}}{{\sum_j e^{{\logits{{z_j}}/T}}}} = "
        rf"\frac{{{number(math.exp(stages[0].logits[best] / temperature))}}}{{{number(total)}}} = {number(share)}"
        rf", \quad \frac{{p}}{{\text{{kept}}}} = \frac{{{number(share)}}}{{{number(kept)}}} = "
        rf"{number(last.probabilities[best])}"
    )


ORDERS = {
    "listed": ("as listed, the likeliest first", [0, 1, 2, 3, 4, 5, 6]),
    "reversed": ("the other way round", [6, 5, 4, 3, 2, 1, 0]),
    "alphabet": ("by the alphabet", [1, 5, 0, 6, 2, 3, 4]),
}


@chapter.lab(
    "draw",
    title="The draw itself",
    controls=[
        Choice("source", "The random number", "mine", {"mine": "I set it", "seed": "A seeded generator makes it"}),
        Slider("draw", "My number", 0.965, 0.0, 0.999, 0.001),
        Slider("seed", "Seed of the generator", 1, 0, 99),
        Slider("temperature", "Temperature", 1.0, 0.0, 3.0, 0.05),
        Choice("order", "Order on the line", "listed", {name: label for name, (label, _) in ORDERS.items()}),
    ],
    runs=[token_at, Sample, softmax],
    snippet="""
        import numpy as np
        from engine.sampling import token_at

        words = np.array("hot cold salty spicy thin good purple".split())
        logits = np.array([1.9, 1.5, 1.2, 0.8, 0.3, -0.2, -1.5])
        listed = [0, 1, 2, 3, 4, 5, 6]
        order = dict(listed=listed, reversed=listed[::-1], alphabet=np.argsort(words))[{order!r}]
        draw = {draw} if {source!r} == "mine" else np.random.default_rng({seed}).random()
        result = token_at(logits[order], float(draw), {temperature})
        cumulative = result.cumulative
        print(words[order][result.token], result.low, result.high)
    """,
    provenance="The same seven words with the logits they start with; computed live",
    presets=[
        Preset(
            "4% beats 35%",
            {"source": "mine", "draw": 0.965, "temperature": 1.0, "order": "listed"},
            "The number fell on a short stretch. Somebody has to win.",
        ),
        Preset(
            "Same number, other order",
            {"source": "mine", "draw": 0.965, "temperature": 1.0, "order": "alphabet"},
            "Another word wins, yet every stretch is as long as before: the chances are the same.",
        ),
        Preset(
            "Same number, colder",
            {"source": "mine", "draw": 0.965, "temperature": 0.4, "order": "listed"},
            "The stretches of the likely words grow and push the others to the right.",
        ),
        Preset(
            "A seed decides",
            {"source": "seed", "seed": 7, "temperature": 1.0, "order": "listed"},
            "The same seed gives the same number to everyone.",
        ),
    ],
    height=430,
)
def draw(source: str, draw: float, seed: int, temperature: float, order: str) -> tuple[Any, ...]:
    place = ORDERS[order][1]
    words = [WORDS[i] for i in place]
    thrown = draw if source == "mine" else decoding.nth_draw(seed, 0)
    result = token_at(np.array(LOGITS)[place], thrown, temperature)
    p, keys = result.probabilities, [f"word:{i}" for i in place]
    best = int(np.argmax(p))
    picture = stack(
        stretches(
            words,
            p,
            title="Every word owns a stretch as long as its probability",
            tensor="logits",
            draw=thrown,
            chosen=result.token,
            keys=keys,
        ),
        row(
            bars(
                words,
                p,
                title="Probabilities",
                tensor="logits",
                share=True,
                limit=1,
                keys=keys,
                marked=[result.token],
            ),
            bars(
                words,
                result.cumulative,
                title="Cumulative: the sum up to here, where the word's stretch ends",
                tensor="logits",
                limit=1,
                keys=keys,
                marked=[result.token],
            ),
        ),
    )
    word, share = words[result.token], p[result.token]
    sentence = (
        f"{thrown:.4g} lies between {result.low:.4g} and {result.high:.4g}, and that stretch belongs to "
        f"{{{{{keys[result.token]}|“{word}”, with {share:.1%}}}}}. "
    )
    if result.token == best:
        sentence += "The likeliest word has won this time, because its stretch is the longest, not because it must."
    else:
        sentence += (
            f"“{words[best]}” has {p[best]:.1%}, but the number did not fall on it. About one draw in "
            f"{grouped(round(1 / share))} goes to “{word}”."
        )
    formula = rf"{number(result.low)} \le \tokens{{{number(thrown)}}} < {number(result.low)} + {number(share)} = "
    formula += number(result.high)
    return picture, sentence, formula, {"probabilities": p, "cumulative": result.cumulative}


@chapter.lab(
    "chance",
    title="How far off is chance?",
    controls=[
        Slider("power", "Draws: 10 to the power", 4.0, 1.0, 4.0, 0.1),
        Slider("seed", "Seed of the draws", 1, 0, 99),
        Slider("temperature", "Temperature", 1.0, 0.05, 3.0, 0.05),
    ],
    runs=[convergence, sample_many, compare],
    snippet="""
        import numpy as np
        from engine.draws import convergence
        from engine.sampling import sample_many, softmax

        logits = np.array([1.9, 1.5, 1.2, 0.8, 0.3, -0.2, -1.5])
        count = round(10**{power})
        at = np.unique(np.geomspace(1, count, 60).round().astype(int))
        drawn = sample_many(logits, np.random.default_rng({seed}), count, {temperature})
        distances = convergence(drawn, softmax(logits, {temperature}), at)
        print(distances.round(4))
    """,
    provenance="The same seven words with the logits they start with; computed live",
    presets=[
        Preset("A hundred draws", {"power": 2.0}, "Still several points off."),
        Preset("Ten thousand draws", {"power": 4.0}, "A hundred times as many draws, a tenth of the distance."),
    ],
    height=450,
)
def chance(power: float, seed: int, temperature: float) -> tuple[Any, ...]:
    count, z = round(10**power), np.array(LOGITS)
    p = softmax(z, temperature)
    at = np.unique(np.geomspace(1, count, 60).round().astype(int))
    drawn = sample_many(z, np.random.default_rng(seed), count, temperature)
    distances = convergence(drawn, p, at)
    error = float(np.max(np.sqrt(p * (1 - p))))
    picture = curve(
        [
            ("largest distance of a share from its probability", at, distances),
            ("one standard error of the word that varies most", at, error / np.sqrt(at)),
        ],
        title="The shares after each number of draws",
        x_label="draws n",
        y_label="distance",
        tensors=["logits", "resid"],
        log_x=True,
        log_y=True,
    )
    now = error / math.sqrt(count)
    sentence = (
        f"After {many(count, 'draw')} the share farthest off is {100 * distances[-1]:.2f} percentage points from its "
        f"probability; one standard error is {100 * now:.2f}. A hundred times as many draws would make that "
        f"{10 * now:.2f}."
    )
    formula = rf"\sqrt{{\frac{{p (1 - p)}}{{n}}}} = \frac{{{number(error)}}}{{\sqrt{{{count}}}}} = {number(now)}"
    return picture, sentence, formula, {"draws": at, "distances": distances}


# --- in the real model -----------------------------------------------------------------------------------------------

TOP = 20


def _sorted(reading: Reading, position: int) -> Ranked:
    """The row of logits after a position of the text, sorted: kept, since every slider asks it again."""
    return _kept_row(reading.model, reading.ids, reading.trace["logits"][position], position)


def _kept_row(model: Model, text: Sequence[int], logits: np.ndarray, position: int) -> Ranked:
    found: Ranked = model.memo.get(("ranked", tuple(text), position), lambda: ranked(logits))
    return found


def _chips(reading: Reading, at: int, control: str, title: str, notes: Sequence[str] = (), **more: Any) -> Picture:
    """The reader's tokens, one of which can be chosen."""
    pieces = [
        {"text": name, **({"note": note} if note else {})}
        for name, note in zip(reading.pieces, notes or [""] * len(reading.ids), strict=True)
    ]
    return tokens(pieces, title=title, pick=control, picked=at, show=["no-ids"], **more)


@chapter.lab(
    "vocabulary",
    title="All 49,152 tokens after your text",
    controls=[
        Slider("temperature", "Temperature", 1.0, 0.0, 3.0, 0.05),
        Pick("place", "After which token", -1),
    ],
    runs=[softmax, ranked, entropy],
    snippet="""
        import numpy as np
        from engine.model import load
        from engine.sampling import softmax
        from engine.tokenization import encode

        rows = load().trace(encode({sentence!r}, "smollm2")[:48])["logits"]
        logits = rows[{place} if {place} < len(rows) else -1]
        top = -np.sort(-softmax(logits, {temperature}))[:20]
        print(top.round(4))
    """,
    provenance="SmolLM2's real weights, on the sentence at the top of the page",
    real=True,
    presets=[
        Preset("As the model has it", {"temperature": 1.0, "place": -1}, "Temperature 1 changes nothing."),
        Preset("Cold", {"temperature": 0.3}, "Nearly all goes to the first few."),
        Preset("Feverish", {"temperature": 2.0}, "Fifty thousand tiny shares add up: the tail now outweighs the top."),
        Preset(
            "After the first word",
            {"place": 0, "temperature": 1.0},
            "With so little to go by, the favourite may be an odd one. How many equal choices is it worth?",
        ),
    ],
    height=(820, 1314),
)
def vocabulary(sentence: str, temperature: float, place: int) -> tuple[Any, ...]:
    reading = read(sentence)
    at = within(place, len(reading.ids))
    line = _sorted(reading, at)
    plain, p = softmax(line.logits), softmax(line.logits, temperature)
    rest, spread = float(1 - np.sum(p[:TOP], dtype=np.float64)), float(entropy(p))
    names = [bar_label(int(i)) for i in line.ids[:TOP]]
    ranks = np.unique(np.geomspace(1, len(p), 70).round().astype(int))
    shown = [ranks[series[ranks - 1] > 1e-10] for series in (plain, p)]
    picture = stack(
        _chips(reading, at, "place", "Click a token to see what the model expects after it"),
        row(
            bars(
                [*names, f"the other {VOCABULARY - TOP:,}"],
                [*p[:TOP], max(rest, 0.0)],
                title=f"The {TOP} likeliest, and all the others together",
                tensor="logits",
                share=True,
                limit=1,
                keys=[f"rank:{i}" for i in range(TOP + 1)],
            ),
            curve(
                [
                    (f"at temperature {temperature:g}", shown[1], p[shown[1] - 1]),
                    *([("as the model has it", shown[0], plain[shown[0] - 1])] if temperature != 1 else []),
                ],
                title="Tokens by rank, down to one in ten billion; both axes logarithmic",
                x_label="rank",
                y_label="probability",
                tensors=["logits", "resid"],
                log_x=True,
                log_y=True,
            ),
        ),
        readouts(
            [
                ("entropy", f"{spread:.2f} nats"),
                ("as many as … equal choices", f"{math.exp(spread):,.1f}"),
                ("tokens that hold 90%", grouped(int(np.sum(np.cumsum(p, dtype=np.float64) < 0.9)) + 1)),
                ("least likely token", odds(float(p[-1])) if p[-1] > 1e-12 else "below 1 in a trillion"),
            ]
        ),
    )
    best = spoken(piece(int(line.ids[0])))
    text = (
        f"{reading.note}After “{spoken(reading.pieces[at])}” the likeliest token is “{best}” with "
        f"{{{{rank:0|{p[0]:.1%}}}}}. The {TOP} shown have {1 - rest:.1%} together, the other {VOCABULARY - TOP:,} "
        f"{{{{rank:{TOP}|{max(rest, 0):.1%}}}}}; it is as open as a choice among {math.exp(spread):,.1f} equal ones."
    )
    return picture, text, _share_formula(line.logits, temperature, float(p[0])), {"top": p[:TOP], "ids": line.ids[:TOP]}


def _share_formula(logits: np.ndarray, temperature: float, share: float) -> str:
    if temperature == 0:
        return r"T = 0: \quad p(\text{largest } \logits{z}) = 1"
    powers = np.exp(logits.astype(np.float64) / temperature)
    return (
        rf"p_1 = \frac{{e^{{\logits{{{number(logits[0])}}}/{number(temperature)}}}}}{{\sum_{{j=1}}^{{49152}} "
        rf"e^{{\logits{{z_j}}/{number(temperature)}}}}} = "
        rf"\frac{{{number(powers[0])}}}{{{number(powers.sum())}}} = {number(share)}"
    )


@chapter.lab(
    "surprise",
    title="How surprised is the model by your text?",
    controls=[
        Choice("order", "Read the tokens", "typed", {"typed": "as you typed them", "backwards": "backwards"}),
        Pick("place", "Token to look at", 4),
    ],
    runs=[surprisal, log_softmax],
    snippet="""
        import numpy as np
        from engine.model import load
        from engine.sampling import surprisal
        from engine.tokenization import encode

        ids = encode({sentence!r}, "smollm2")[:48]
        ids = ids[::-1] if {order!r} == "backwards" else ids
        surprisals = surprisal(load().trace(ids)["logits"][:-1], np.array(ids[1:]))
        print(surprisals.round(2), np.exp(np.mean(surprisals)))
    """,
    provenance="SmolLM2's real weights, on the sentence at the top of the page",
    real=True,
    presets=[
        Preset("As typed", {"order": "typed"}, "The usual order."),
        Preset("Backwards", {"order": "backwards"}, "The same tokens, last one first: see what becomes of perplexity."),
    ],
    height=(520, 794),
)
def surprise(sentence: str, order: str, place: int) -> tuple[Any, ...]:
    reading = read(sentence, least=2)
    if order == "backwards":
        reading = Reading(reading.model, reading.ids[::-1], reading.pieces[::-1], reading.note)
    logits, ids = reading.trace["logits"], reading.ids
    found = surprisal(logits[:-1], np.array(ids[1:]))
    mean, at = float(np.mean(found)), max(1, within(place, len(ids)))
    row_before, actual = logits[at - 1], ids[at]
    expected = [int(i) for i in most_likely(row_before, 8)]
    shown = expected if actual in expected else [*expected, actual]
    p, rank = softmax(row_before), int(np.sum(row_before > row_before[actual])) + 1
    worst = int(np.argmax(found)) + 1
    picture = stack(
        _chips(
            reading,
            at,
            "place",
            "The darker, the more surprising, in nats; click a token",
            notes=["–", *(f"{value:.2f}" for value in found)],
            shares=[0.0, *found],
        ),
        bars(
            [bar_label(i) for i in shown],
            p[shown],
            title=f"What the model expected after “{spoken(reading.pieces[at - 1])}”, and what came",
            tensor="logits",
            share=True,
            marked=[shown.index(actual)],
            notes=["" if i != actual else f"came; rank {rank:,}" for i in shown],
        ),
        readouts(
            [
                ("log-probability of the text", log_text(-float(np.sum(found)))),
                ("mean surprisal", f"{mean:.3f} nats"),
                ("perplexity", f"{math.exp(mean):,.1f}"),
                ("most surprising", f"“{spoken(reading.pieces[worst])}”, {found[worst - 1]:.2f}"),
            ]
        ),
    )
    guesses = f"{math.exp(mean):,.1f}"
    text = (
        f"{reading.note}“{spoken(reading.pieces[at])}” had a probability of {odds(float(p[actual]))}, rank {rank:,}: "
        f"{found[at - 1]:.2f} nats of surprisal. Over the text the mean is {mean:.2f}, as if it had to guess among "
        f"{guesses} equal choices each time. The first token has none: there is nothing to guess it from."
    )
    formula = (
        rf"-\ln {number(p[actual])} = {number(found[at - 1])}, \quad \text{{perplexity}} = "
        rf"e^{{{number(float(np.sum(found)))} / {len(found)}}} = {number(math.exp(mean))}"
    )
    return picture, text, formula, {"surprisals": found, "ids": np.array(ids)}


@chapter.lab(
    "real-filters",
    title="The same filters on all 49,152",
    controls=[
        Slider("temperature", "Temperature", 1.0, 0.0, 3.0, 0.05),
        Slider("k", "Top-k (0 = off)", 50, 0, 200),
        Slider("p", "Top-p (1 = off)", 0.9, 0.0, 1.0, 0.01),
        Slider("minimum", "Min-p (0 = off)", 0.05, 0.0, 0.5, 0.01),
        Pick("place", "After which token", -1),
    ],
    runs=[pipeline, ranked, top_k, top_p, min_p],
    snippet="""
        import numpy as np
        from engine.model import load
        from engine.pipeline import pipeline
        from engine.tokenization import encode

        rows = load().trace(encode({sentence!r}, "smollm2")[:48])["logits"]
        logits = rows[{place} if {place} < len(rows) else -1]
        stages = pipeline(logits, {temperature}, {k} or None, {p}, {minimum})
        kept = np.array([stage.kept for stage in stages])
        print(kept, [round(stage.mass, 4) for stage in stages])
    """,
    provenance="SmolLM2's real weights, on the sentence at the top of the page",
    real=True,
    presets=[
        Preset(
            "Top-p 0.9 alone",
            {"temperature": 1.0, "k": 0, "p": 0.9, "minimum": 0.0},
            "A tenth of the probability is given up, and nearly all of the tokens.",
        ),
        Preset(
            "Hot, top-p alone",
            {"temperature": 2.0, "k": 0, "p": 0.9, "minimum": 0.0},
            "Heat comes first: the tail has grown before top-p looks, and thousands of tokens stay.",
        ),
        Preset(
            "Hot, min-p alone",
            {"temperature": 2.0, "k": 0, "p": 1.0, "minimum": 0.1},
            "A limit relative to the best token holds the tail back even when it is hot.",
        ),
        Preset("Everything off", {"temperature": 1.0, "k": 0, "p": 1.0, "minimum": 0.0}, "Any of 49,152 can be drawn."),
    ],
    height=(730, 1379),
)
def real_filters(sentence: str, temperature: float, k: int, p: float, minimum: float, place: int) -> tuple[Any, ...]:
    reading = read(sentence)
    at = within(place, len(reading.ids))
    line = _sorted(reading, at)
    stages = pipeline(line.logits, temperature, k or None, p, minimum)
    first, last = stages[0].probabilities, stages[-1].probabilities
    names = [bar_label(int(i)) for i in line.ids[:12]]
    overall = float(np.sum(first[last > 0], dtype=np.float64))
    picture = stack(
        _chips(reading, at, "place", "Click a token to filter what comes after it"),
        stage_table(stages, stage_names(stages, temperature, k, p, minimum)),
        row(
            bars(names, first[:12], title="Before: softmax at T = 1", tensor="resid", share=True, limit=1, keys=_ranks),
            bars(names, last[:12], title="After all steps", tensor="logits", share=True, limit=1, keys=_ranks),
        ),
    )
    text = (
        f"{reading.note}Of {VOCABULARY:,} tokens {grouped(stages[-1].kept)} can still be drawn. In the model's own "
        f"distribution these had {overall:.1%} of the probability; “{spoken(piece(int(line.ids[0])))}” went from "
        f"{{{{rank:0|{first[0]:.1%}}}}} to {last[0]:.1%}."
    )
    formula = (
        rf"\text{{entropy: }} {number(stages[0].entropy)} \to {number(stages[-1].entropy)}, \quad "
        rf"e^{{{number(stages[-1].entropy)}}} = {number(math.exp(stages[-1].entropy))}"
    )
    data = {"kept": np.array([stage.kept for stage in stages]), "masses": np.array([stage.mass for stage in stages])}
    return picture, text, formula, data


_ranks = [f"rank:{i}" for i in range(12)]


@chapter.lab(
    "nucleus",
    title="Top-p breathes, top-k does not",
    controls=[
        Slider("p", "Top-p", 0.9, 0.05, 0.99, 0.01),
        Slider("k", "Top-k", 50, 1, 500),
    ],
    runs=[nuclei, nucleus_sizes, masses],
    snippet="""
        from engine.model import load
        from engine.pipeline import masses, nuclei, nucleus_sizes
        from engine.tokenization import encode

        found = nuclei(load().trace(encode({sentence!r}, "smollm2")[:24])["logits"])
        sizes, kept = nucleus_sizes(found, {p}), masses(found, {k})
        print(sizes, kept.round(3))
    """,
    provenance="SmolLM2's real weights, on the sentence at the top of the page",
    real=True,
    presets=[
        Preset("Half of it", {"p": 0.5, "k": 50}, "Half of the probability often lies with one to three tokens."),
        Preset("Nearly all", {"p": 0.99, "k": 500}, "The last per cent is what costs: thousands of tokens share it."),
    ],
    height=(420, 832),
)
def nucleus(sentence: str, p: float, k: int) -> tuple[Any, ...]:
    reading = read(sentence, limit=24)
    found = reading.model.memo.get(("nuclei", reading.ids), lambda: nuclei(reading.trace["logits"]))
    sizes, kept = nucleus_sizes(found, p), masses(found, k)
    keys, names = [f"token:{i}" for i in range(len(sizes))], [bar_label(i) for i in reading.ids]
    low, high = int(np.argmin(sizes)), int(np.argmax(sizes))
    picture = row(
        bars(
            names,
            np.log10(sizes),
            title=f"Tokens that top-p {p:g} keeps after each of your tokens (logarithmic)",
            tensor="logits",
            limit=math.log10(VOCABULARY),
            texts=[many(int(size), "token") for size in sizes],
            keys=keys,
        ),
        bars(
            names,
            kept,
            title=f"Probability that the {k} likeliest have",
            tensor="logits",
            share=True,
            limit=1,
            keys=keys,
        ),
    )
    text = (
        f"{reading.note}To reach {p:.0%}, {many(int(sizes[low]), 'token')} will do after "
        f"{{{{token:{low}|“{spoken(reading.pieces[low])}”}}}}, and {many(int(sizes[high]), 'token')} are needed after "
        f"{{{{token:{high}|“{spoken(reading.pieces[high])}”}}}}. The {k} likeliest have between {np.min(kept):.1%} and "
        f"{np.max(kept):.1%}."
    )
    formula = (
        r"\frac{\text{most tokens needed}}{\text{fewest}} = "
        rf"\frac{{{int(sizes[high])}}}{{{int(sizes[low])}}} = {number(sizes[high] / sizes[low])}"
    )
    return picture, text, formula, {"sizes": sizes, "kept": kept}


LONGEST = 16


@chapter.lab(
    "step",
    title="Write one token at a time, and change your mind",
    controls=[
        Slider("temperature", "Temperature", 1.0, 0.0, 2.0, 0.05),
        Slider("p", "Top-p (1 = off)", 1.0, 0.05, 1.0, 0.05),
        Slider("seed", "Seed of the draws", 1, 0, 99),
        Trail("chosen", "Chosen so far", "", high=VOCABULARY - 1, limit=LONGEST),
    ],
    runs=[decoding.next_logits, pipeline, ranked, token_at, decoding.nth_draw],
    snippet="""
        import numpy as np
        from engine.decoding import next_logits, nth_draw
        from engine.model import load
        from engine.pipeline import pipeline, ranked
        from engine.sampling import token_at
        from engine.tokenization import decode, encode

        chosen = [int(i) for i in {chosen!r}.split(".") if i]
        row = ranked(next_logits(load(), encode({sentence!r}, "smollm2")[:48], chosen)[-1])
        left = pipeline(row.logits, {temperature}, None, {p})[-1]
        probabilities = left.probabilities[:12]
        result = token_at(left.logits, nth_draw({seed}, len(chosen)))
        token = int(row.ids[result.token])
        print(decode([token], "smollm2"), result.draw, result.low, result.high)
    """,
    provenance="SmolLM2's real weights, on the sentence at the top; all of it is read anew each time",
    real=True,
    presets=[
        Preset("Start again", {"chosen": ""}, "Nothing chosen yet."),
        Preset("Cold", {"temperature": 0.5, "p": 1.0}, "The likeliest token owns most of the line."),
        Preset("Cut the tail", {"temperature": 1.0, "p": 0.8}, "The line holds only what top-p has left."),
    ],
    height=(765, 956),
)
def step(sentence: str, temperature: float, p: float, seed: int, chosen: str) -> tuple[Any, ...]:
    reading = read(sentence)
    trail = until_end(Trail.items(chosen))
    rows = decoding.next_logits(reading.model, reading.ids, trail)
    line = _kept_row(reading.model, (*reading.ids, *trail), rows[-1], -1)
    left = pipeline(line.logits, temperature, None, p)[-1]
    drawn = token_at(left.logits, decoding.nth_draw(seed, len(trail)))
    token = int(line.ids[drawn.token])
    ended, full = bool(trail) and trail[-1] in END_IDS, len(trail) == LONGEST
    text_chips = text_so_far(reading, trail)
    if ended or full:
        why = "The model has ended the text." if ended else f"That is as far as this lab goes: {LONGEST} tokens."
        return (
            stack(text_chips, choices_table(rows, trail)),
            f"{reading.note}{why} Click a token to step back.",
            chain_formula(rows, trail),
            {"token": np.array(token), "probabilities": left.probabilities[:CANDIDATES]},
        )
    names, shares, place, ids = on_the_line(line, left, drawn)
    picture = stack(
        text_chips,
        tokens(
            [{"text": f"take the drawn one: “{spoken(piece(token))}”"}, {"text": "take the likeliest"}]
            + ([{"text": "one step back"}, {"text": "start again"}] if trail else []),
            title="Go on",
            pick="chosen",
            picks=[joined(trail, token), joined(trail, int(line.ids[0])), joined(trail[:-1]), ""][: 4 if trail else 2],
            show=["no-ids", "plain"],
        ),
        stretches(
            names,
            shares,
            title=f"Draw number {len(trail) + 1} of seed {seed} on the cumulative distribution",
            tensor="logits",
            draw=drawn.draw,
            chosen=place,
            keys=[f"candidate:{i}" for i in range(len(names))],
        ),
        bars(
            names,
            shares,
            title="Candidates for the next token: click one to choose it",
            tensor="logits",
            share=True,
            marked=[place],
            pick="chosen",
            picks=[None if i is None else joined(trail, i) for i in ids],
            notes=["drawn" if i == place else "" for i in range(len(names))],
            keys=[f"candidate:{i}" for i in range(len(names))],
        ),
        *([choices_table(rows, trail)] if trail else []),
    )
    best = int(line.ids[0])
    text = (
        f"{reading.note}The draw {drawn.draw:.4f} falls between {drawn.low:.4f} and {drawn.high:.4f}: "
        f"{{{{candidate:{place}|“{spoken(piece(token))}” with {odds(float(left.probabilities[drawn.token]))}}}}}"
        + (
            ", the likeliest. "
            if token == best
            else f", although “{spoken(piece(best))}” has {left.probabilities[0]:.1%}. "
        )
        + (
            f"{many(len(trail), 'token')} chosen so far, with log-probability {log_text(total_log_p(rows, trail))}."
            if trail
            else "Nothing is chosen yet: take it, or click another."
        )
    )
    formula = rf"{number(drawn.low)} \le \tokens{{{number(drawn.draw)}}} < {number(drawn.high)}"
    data = {"token": np.array(token), "probabilities": left.probabilities[:CANDIDATES], "ids": line.ids[:CANDIDATES]}
    return picture, text, formula, data


@chapter.lab(
    "ways",
    title="Four ways to go on, side by side",
    controls=[
        Choice("width", "Beams", "3", {"2": "2", "3": "3", "8": "8"}),
        Choice(
            "temperature", "Temperature of the draws", "1.0", {"0.5": "0.5", "0.8": "0.8", "1.0": "1", "1.5": "1.5"}
        ),
        Choice("seed", "Seed of the draws", "1", {str(i): str(i) for i in range(1, 7)}),
        Choice("length", "Tokens to write", "10", {"5": "5", "10": "10", "20": "20 (takes twice as long)"}),
    ],
    runs=[decoding.four_ways, decoding.side_by_side, beam_round, sample_many],
    snippet="""
        import numpy as np
        from engine.decoding import four_ways
        from engine.model import load
        from engine.tokenization import decode, encode

        ids = encode({sentence!r}, "smollm2")[:48]
        settings = dict(width={width}, temperature={temperature}, seed={seed}, length={length})
        ways = four_ways(load(), ids, **settings)
        log_p = np.array([ways.greedy.total, ways.drawn.total, ways.frozen.total, ways.beams.beams[0].log_probability])
        print(log_p.round(2), decode(ways.beams.beams[0].ids, "smollm2"))
    """,
    provenance="SmolLM2's real weights; one run of the model for each new token, for all texts at once",
    real=True,
    presets=[
        Preset("Three beams", {"width": "3", "length": "10"}, "Narrow, and often enough."),
        Preset("Eight beams", {"width": "8", "length": "10"}, "More beams: is what they find any better?"),
        Preset("Wild draws", {"temperature": "1.5"}, "The drawn text wanders off; greedy and beams do not notice."),
    ],
    height=(1060, 1437),
)
def ways(sentence: str, width: str, temperature: str, seed: str, length: str) -> tuple[Any, ...]:
    reading = read(sentence)
    settings: dict[str, Any] = {"width": int(width), "seed": int(seed), "length": int(length)}
    settings["temperature"] = float(temperature)
    found = decoding.four_ways(reading.model, reading.ids, **settings)
    start, best = len(reading.ids), found.beams.beams[0]
    lines = [
        ("Greedy: always the likeliest token", found.greedy),
        (f"Drawn at temperature {temperature}, seed {seed}", found.drawn),
        ("Not generation: as many draws from the first distribution, never asking the model again", found.frozen),
    ]
    totals = [*(line.total for _, line in lines), best.log_probability]
    picture = stack(
        *(tinted(line.ids, line.log_p, f"{name}. log p = {log_text(line.total)}") for name, line in lines),
        tinted(
            best.ids[start:],
            decoding.step_log_p(found.beams, best),
            f"The best of {width} beams. log p = {log_text(best.log_probability)}",
        ),
        bars(
            ["greedy", "drawn", "not generation", "best beam"],
            totals,
            title="Log-probability of each continuation, as the model reads it: the farther left, the less likely",
            tensor="logits",
        ),
        beam_tree(found.beams.rounds, start),
        table(
            ["beam", "log p", "text"],
            [
                [i + 1, log_text(beam.log_probability), written(beam.ids[start:])]
                for i, beam in enumerate(found.beams.beams)
            ],
            title="The beams at the end",
        ),
    )
    formula = (
        rf"\frac{{p(\text{{best beam}})}}{{p(\text{{greedy}})}} = "
        rf"e^{{{number(totals[3])} - ({number(totals[0])})}} = {number(math.exp(totals[3] - totals[0]))}"
    )
    return picture, reading.note + beam_verdict(found, start), formula, {"log_p": np.array(totals)}


@chapter.lab(
    "repeat",
    title="Going round in circles, and the repetition penalty",
    controls=[
        Toggle("twice", "Say your sentence once before", True),
        Choice("length", "Tokens to write", "12", {"12": "12", "24": "24 (takes twice as long)"}),
        Pick("place", "Token to look at", 64),
    ],
    runs=[decoding.penalty_study, repetition_penalty, decoding.period],
    snippet="""
        import numpy as np
        from engine.decoding import doubled, penalty_study
        from engine.model import load
        from engine.tokenization import decode, encode

        ids = encode({sentence!r}, "smollm2")[:24]
        start = encode(doubled(decode(ids, "smollm2")), "smollm2") if {twice} else ids
        lines = penalty_study(load(), start, [1.0, 1.2, 1.5], {length})
        totals = np.array([line.total for line in lines])
        for line in lines:
            print(decode(line.ids, "smollm2"))
    """,
    provenance="SmolLM2's real weights, greedy, under three penalties at once",
    real=True,
    presets=[
        Preset("Said twice", {"twice": True, "place": 64}, "What was said twice is said a third time."),
        Preset("Said once", {"twice": False, "place": 64}, "Here the penalty changes a text that needed no help."),
    ],
    height=(555, 1202),
)
def repeat(sentence: str, twice: bool, length: str, place: int) -> tuple[Any, ...]:
    reading = read(sentence, limit=24)
    start = reading.ids
    if twice:
        start = tuple(encode(decoding.doubled(decode(reading.ids, ENCODING)), ENCODING))
    known = max(1, decoding.shared_start(start, reading.ids))
    lines = reading.model.memo.get(
        ("penalties", start, length),
        lambda: decoding.penalty_study(reading.model, start, PENALTIES, int(length), known),
    )
    which, at = divmod(place, 64)
    which = min(which, len(lines) - 1)
    line, penalty = lines[which], PENALTIES[which]
    at = min(at, len(line.ids) - 1)
    raw = line.rows[at]
    after = repetition_penalty(raw, (*start, *line.ids[:at]), penalty)
    shown = [int(i) for i in most_likely(raw, 8)]
    shown = shown if line.ids[at] in shown else [*shown[:-1], line.ids[at]]
    names = [bar_label(i) for i in shown]
    picture = stack(
        *(penalty_chips(n, other, start, at if n == which else None) for n, other in enumerate(lines)),
        row(
            bars(
                names,
                raw[shown],
                title=f"Logits of token {at + 1} under penalty {penalty:g}, as the model gave them",
                tensor="resid",
                limit=float(np.max(np.abs(raw[shown]))),
                marked=[int(np.argmax(raw[shown]))],
                keys=_ranks[: len(shown)],
            ),
            bars(
                names,
                after[shown],
                title="After the penalty: what was in the text has lost",
                tensor="logits",
                limit=float(np.max(np.abs(raw[shown]))),
                marked=[shown.index(line.ids[at])],
                notes=["was there" if after[i] != raw[i] else "" for i in shown],
                keys=_ranks[: len(shown)],
            ),
        ),
    )
    loser = int(np.argmax(raw))
    formula = rf"\logits{{z}} = {number(raw[loser])} \to " + (
        rf"\frac{{{number(raw[loser])}}}{{{penalty:g}}} = {number(after[loser])}"
        if raw[loser] > 0
        else rf"{number(raw[loser])} \cdot {penalty:g} = {number(after[loser])}"
    )
    if after[loser] == raw[loser]:
        formula = rf"\logits{{z}} = {number(raw[loser])}, \quad \text{{not penalised}}"
    data = {"totals": np.array([other.total for other in lines]), "logits": raw[shown], "penalised": after[shown]}
    return picture, reading.note + loop_verdict(lines, start), formula, data


# --- numbers of the prose ------------------------------------------------------------


@chapter.number
def vocabulary_size() -> str:
    return f"{VOCABULARY:,}"


@chapter.number
def doubling_logit() -> float:
    """How much larger a logit must be to get twice the share."""
    return round(math.log(2), 2)


@chapter.number
def hot_share() -> str:
    return f"{softmax(np.array(LOGITS))[0]:.0%}"


def _left(temperature: float, p: float, minimum: float) -> int:
    """How many of the seven words a filter leaves."""
    return int(np.sum(np.isfinite(pipeline(np.array(LOGITS), temperature, 7, p, minimum)[-1].logits)))


@chapter.number
def hot_top_p() -> int:
    return _left(2.5, 0.9, 0.0)


@chapter.number
def cool_top_p() -> int:
    return _left(1.0, 0.9, 0.0)


@chapter.number
def hot_min_p() -> int:
    return _left(2.5, 1.0, 0.4)


@chapter.number
def cool_min_p() -> int:
    return _left(1.0, 1.0, 0.4)


@chapter.number
def good_share() -> str:
    return f"{softmax(np.array(LOGITS))[5]:.0%}"


@chapter.number
def good_every() -> int:
    return round(1 / float(softmax(np.array(LOGITS))[5]))


@chapter.number
def good_stretch() -> str:
    found = token_at(np.array(LOGITS), 0.965)
    return f"{found.low:.3f} to {found.high:.3f}"


# --- check yourself ------------------------------------------------------------


@chapter.answer
def order_under_heat() -> bool:
    """Can a temperature make “purple” likelier than “hot”, both as they stand?"""
    z = np.array(LOGITS)
    return bool(any(np.argmax(softmax(z, t)) != 0 for t in np.geomspace(0.01, 100, 200)))


@chapter.answer
def words_left(
    temperature: float, k: int, p: float, minimum: float, greedy: bool, power: float, seed: int, **logits: float
) -> int:
    """With the reader's own settings; drawing changes nothing about it."""
    return pipeline(np.array([logits[word] for word in WORDS]), temperature, k, p, minimum, greedy)[-1].kept


@chapter.answer
def greedy_is_best() -> bool:
    """Is greedy's text the most probable one? Two steps: the likelier first word leads to a flat choice."""
    first, second = np.array([0.6, 0.4]), np.array([[0.5, 0.5], [0.05, 0.95]])
    whole = first[:, None] * second
    greedy = int(np.argmax(first))
    return bool(np.max(whole[greedy]) == np.max(whole))


chapter.code["sample"] = token_at
chapter.code["beam_round"] = beam_round

register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
