"""RoPE: position by rotation. The labs of the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from dash import register_page

from engine import positions as schemes
from engine import rope as engine
from engine import rope_study as study
from engine.attention import attention, causal_mask
from engine.ledger import CONFIGS
from pages._reading import piece, read, spoken
from pages._turns import (
    CONTEXT,
    ROUNDING,
    arrow,
    base_of,
    cleaned,
    fixed,
    next_tokens,
    order_sentence,
    products,
    scaled_formula,
    scaling_of,
    spoilt_sentence,
    steps,
    two_places,
)
from ui.chapter import Chapter
from ui.controls import Choice, Pick, Slider, Toggle, within
from ui.figures import bars, curve, matrix, plane, readouts, row, stack, table, tokens
from ui.lab import Preset
from ui.mathml import number, signed

chapter = Chapter(__name__, Path(__file__).parent)
chapter.code["rotate"] = engine.rotate

SMOLLM2 = CONFIGS["SmolLM2-135M"]
BASE = SMOLLM2.rope_base or 0.0
DOG = ("dog", "bites", "man")
OTHERS = ("man bites dog", "bites dog man")

# --- order ---------------------------------------------------------------------------------------------------------


@chapter.lab(
    "order",
    title="Who bites whom?",
    controls=[
        Choice("other", "Compare “dog bites man” with", OTHERS[0], {text: f"“{text}”" for text in OTHERS}),
        Choice("scheme", "Positions", "none", dict(schemes.SCHEMES)),
        Toggle("causal", "Causal mask", False),
        Slider("layers", "Layers of attention", 1, 1, 3),
        Slider("seed", "Seed", 0, 0, 20),
    ],
    runs=[schemes.two_orders, schemes.attend_at, attention],
    snippet="""
        from engine.positions import two_orders

        here, there = "dog bites man".split(), {other!r}.split()
        result = two_orders(here, there, {scheme!r}, causal={causal}, layers={layers}, seed={seed})
        first, second, differences = result.first, result.second, result.differences
        print(differences)
    """,
    provenance="Random word vectors and projections; everything after them is computed live",
    presets=[
        Preset(
            "A bag of words",
            {"scheme": "none", "causal": False, "layers": 1, "other": "man bites dog"},
            "No positions, no mask: both sentences are one to the machine.",
        ),
        Preset(
            "The mask alone",
            {"scheme": "none", "causal": True, "layers": 1, "other": "bites dog man"},
            "The last word sees the same two words either way, and cannot tell.",
        ),
        Preset(
            "The mask, two layers",
            {"scheme": "none", "causal": True, "layers": 2, "other": "bites dog man"},
            "What it sees has by now seen different things: order leaks in.",
        ),
        Preset(
            "RoPE",
            {"scheme": "rope", "causal": False, "layers": 1, "other": "man bites dog"},
            "Who stands where changes every score.",
        ),
        Preset(
            "A mirror",
            {"scheme": "alibi", "causal": False, "layers": 1, "other": "man bites dog"},
            "ALiBi knows how far, not on which side; it is meant for masked models.",
        ),
    ],
    height=520,
)
def order(other: str, scheme: str, causal: bool, layers: int, seed: int) -> tuple[Any, ...]:
    there = other.split()
    found = schemes.two_orders(DOG, there, scheme, causal=causal, layers=layers, seed=seed)
    every = schemes.order_table(DOG, there, layers=layers, seed=seed)
    words = list(found.words)
    picture = stack(
        row(
            matrix(
                found.first,
                "What comes out of “dog bites man”",
                "v",
                "first",
                rows=words,
                limit=3,
                digits=2,
                key_rows="word",
            ),
            matrix(
                found.second,
                f"… and of “{other}”, its rows put in the same order",
                "v",
                "second",
                rows=words,
                limit=3,
                digits=2,
                key_rows="word",
            ),
        ),
        row(
            bars(
                words,
                cleaned(found.differences),
                title="How far apart the two rows of a word are",
                tensor="v",
                limit=4,
                keys=[f"word:{i}" for i in range(3)],
            ),
            matrix(
                cleaned(every),
                "The largest of the three, for every scheme",
                "v",
                "every",
                rows=list(schemes.SCHEMES.values()),
                columns=["no mask", "causal mask"],
                limit=4,
                digits=2,
            ),
        ),
    )
    sentence = order_sentence(found, other, scheme, causal)
    formula = rf"\v{{\lVert y_\text{{dog}} - y'_\text{{dog}} \rVert}} = {number(float(cleaned(found.differences)[0]))}"
    return picture, sentence, formula, {"first": found.first, "second": found.second, "differences": found.differences}


# --- one pair ------------------------------------------------------------------------------------------------------


@chapter.lab(
    "pair",
    title="One pair of numbers, turned by its position",
    controls=[
        Slider("position_q", "Position of the query", 7, 0, 40),
        Slider("position_k", "Position of the key", 3, 0, 40),
        Slider("theta", "Turn for each position, θ (radians)", 0.3, 0.0, 3.1, 0.05),
        Slider("angle", "Query ahead of the key before any turn (degrees)", 30, -180, 180, 5),
    ],
    runs=[study.turn_pair, engine.rotate],
    snippet="""
        from engine.rope_study import at_angle, turn_pair

        q, k = at_angle({angle})
        pair = turn_pair(q, k, {position_q}, {position_k}, {theta})
        before, after = pair.before, pair.after
        print(before, "->", after)
    """,
    provenance="A query and a key of length 1, turned live",
    presets=[
        Preset(
            "Both 17 further",
            {"position_q": 24, "position_k": 20, "theta": 0.3},
            "Both arrows have moved; the angle between them has not.",
        ),
        Preset(
            "Same place",
            {"position_q": 12, "position_k": 12},
            "No distance: the two turns are the same, and the score is as if there were none.",
        ),
        Preset(
            "The other way round",
            {"position_q": 3, "position_k": 7, "theta": 0.3},
            "The same distance backwards is another angle, and another score.",
        ),
        Preset(
            "A slow pair",
            {"position_q": 40, "position_k": 0, "theta": 0.05},
            "Forty positions apart, and hardly a third of a turn.",
        ),
        Preset(
            "Made for one distance",
            {"angle": -90, "theta": 0.3, "position_q": 5, "position_k": 0},
            "A query that lies behind by five turns finds the key five positions back best.",
        ),
    ],
    height=920,
)
def pair(position_q: int, position_k: int, theta: float, angle: int) -> tuple[Any, ...]:
    q, k = study.at_angle(angle)
    now = study.turn_pair(q, k, position_q, position_k, theta)
    distance, apart, places = position_q - position_k, np.arange(-40, 41), [str(i) for i in range(12)]
    grid = study.pair_grid(q, k, 12, theta)
    picture = stack(
        row(
            two_places(
                (now.q, now.k),
                (now.turned_q, now.turned_k),
                (f"q at {position_q}", f"k at {position_k}"),
                "Dashed: before the turn. Solid: where they stand now",
                limit=1.25,
                circle=1,
            ),
            curve(
                [("score at this distance", apart, cleaned(study.scores_at_distances(now.q, now.k, apart * theta)))],
                title="The score against the distance alone",
                x_label="position of the query − position of the key",
                y_label="score",
                tensors=["attn"],
                marker=(distance, now.after),
            ),
        ),
        matrix(
            grid,
            "The same two vectors at positions 0 to 11: query down, key across. Click a cell to go there",
            "attn",
            "grid",
            rows=places,
            columns=places,
            limit=1,
            digits=2,
            pick=["position_q", "position_k"],
            picked=position_q,
        ),
        readouts(
            [
                ("query turned by", f"{position_q * theta:.4g} rad"),
                ("key turned by", f"{position_k * theta:.4g} rad"),
                ("difference", f"{fixed(distance * theta)} rad"),
                ("score before", fixed(now.before, 4)),
                ("score after", fixed(now.after, 4)),
            ]
        ),
    )
    sentence = (
        f"The query stands at position {position_q} and the key at {position_k}, {steps(distance)} apart. They are "
        f"turned by {{{{q|{position_q * theta:.4g}}}}} and {{{{k|{position_k * theta:.4g}}}}} radians, and the "
        f"difference, {fixed(distance * theta)}, takes the score from {fixed(now.before, 3)} to {fixed(now.after, 3)}. "
        "Every cell on the same diagonal of the table has one score."
    )
    formula = (
        rf"\begin{{array}}{{l}} \q{{q}} \cdot \k{{k}} = {products(now.q, now.k)} = \attn{{{number(now.before)}}} \\ "
        rf"\q{{q_{{{position_q}}}}} \cdot \k{{k_{{{position_k}}}}} = {products(now.turned_q, now.turned_k)} = "
        rf"\attn{{{number(now.after)}}} = \cos({angle}^\circ {signed(distance)} \cdot {number(theta)}) \end{{array}}"
    )
    return picture, sentence, formula, {"before": now.before, "after": now.after, "grid": grid}


@chapter.lab(
    "frame",
    title="Any word as the place to count from",
    controls=[
        Pick("reference", "Word to count from", 0),
        Pick("asks", "Word that asks", 3),
        Slider("theta", "Turn for each position, θ (radians)", 0.4, 0.0, 3.1, 0.05),
    ],
    runs=[study.frame_of, engine.rotate],
    snippet="""
        from engine.rope_study import PAIR_SENTENCE, frame_of

        at = {reference} if 0 <= {reference} < len(PAIR_SENTENCE) else len(PAIR_SENTENCE) - 1
        frame = frame_of(at, {theta})
        positions, turned_k, scores = frame.positions, frame.turned_k, frame.scores
        print(scores.round(3))
    """,
    provenance="Hand-set vectors of two numbers a word; the turns are computed live",
    presets=[
        Preset("Count from “dog”", {"reference": 2}, "All arrows swing round together; no score changes."),
        Preset("Count from the end", {"reference": 5}, "Positions may be negative: only their differences are used."),
        Preset("“the” asks", {"asks": 4}, "“the” stands there twice: one vector, two arrows, two scores."),
        Preset("No rotation", {"theta": 0.0}, "Then the two “the” are one arrow, and cannot be told apart."),
    ],
    height=660,
)
def frame(reference: int, asks: int, theta: float) -> tuple[Any, ...]:
    words = list(study.PAIR_SENTENCE)
    at, asker, keys = within(reference, len(words)), within(asks, len(words)), [f"word:{i}" for i in range(len(words))]
    seen, first = study.frame_of(at, theta), study.frame_of(0, theta)
    change, before = float(np.max(np.abs(seen.scores - first.scores))), study.frame_of(at, 0.0).scores[asker]
    counted = [f"{position:+d}".replace("-", "−") if position else "0" for position in seen.positions]
    labels = [f"{word} {position}" for word, position in zip(words, counted, strict=True)]
    arrows = [arrow(k, label, "k", key=key) for k, label, key in zip(seen.turned_k, labels, keys, strict=True)]
    picture = stack(
        tokens(
            [{"text": word, "note": note, "key": key} for word, note, key in zip(words, counted, keys, strict=True)],
            title="Click a word to count positions from it",
            pick="reference",
            picked=at,
            show=["no-ids", "plain"],
        ),
        row(
            plane(
                [],
                arrows=[*arrows, arrow(seen.turned_q[asker], f"q of {words[asker]}", "q")],
                title=f"All keys and the query of “{words[asker]}”, turned by their distance from “{words[at]}”",
                limit=1.3,
                circle=1,
            ),
            stack(
                bars(
                    words,
                    before,
                    title=f"Scores of “{words[asker]}” before any turn",
                    tensor="attn",
                    limit=1.2,
                    keys=keys,
                ),
                bars(
                    words,
                    seen.scores[asker],
                    title="… and after. Click a word to let it ask",
                    tensor="attn",
                    limit=1.2,
                    keys=keys,
                    pick="asks",
                    picked=asker,
                ),
            ),
        ),
    )
    best = int(np.argmax(seen.scores[asker]))
    sentence = (
        f"Counted from “{words[at]}”, which is not turned at all, “{words[asker]}” finds "
        f"{{{{word:{best}|“{words[best]}”}}}} best, with {fixed(seen.scores[asker, best], 3)}. "
    )
    sentence += (
        f"Against counting from the first word, no score has changed by more than {max(change, 1e-16):.0e}, the "
        "rounding of float64."
        if theta
        else "With θ = 0 nothing is turned, and both “the” get the same score."
    )
    formula = (
        rf"\q{{q_\text{{{words[asker]}}}}} \cdot \k{{k_\text{{{words[best]}}}}} = "
        rf"{products(seen.turned_q[asker], seen.turned_k[best])} = \attn{{{number(float(seen.scores[asker, best]))}}} "
        rf"\quad (\text{{before: }} {number(float(before[best]))})"
    )
    data = {"positions": seen.positions, "turned_q": seen.turned_q, "turned_k": seen.turned_k, "scores": seen.scores}
    return picture, sentence, formula, data


# --- all the pairs -------------------------------------------------------------------------------------------------

POWER = Slider("power", "Base = 10 to the power", 5.0, 2.0, 7.0, 0.001)
WIDTH = Choice("width", "Head width d", "64", {"64": "64 numbers, 32 pairs", "128": "128 numbers, 64 pairs"})
LLAMA_2 = {"power": 4.0, "width": "128"}
LLAMA_3 = {"power": 5.699, "width": "128"}
OURS = {"power": 5.0, "width": "64"}


@chapter.lab(
    "frequencies",
    title="Fast hands and slow hands",
    controls=[
        POWER,
        WIDTH,
        Slider("context_power", "Context = 2 to the power", 13, 8, 17),
        Slider("position", "Position that the hands show", 100, 0, 8191),
    ],
    runs=[engine.frequencies, engine.wavelengths, study.unfinished],
    snippet="""
        import numpy as np
        from engine.rope import wavelengths
        from engine.rope_study import unfinished

        base = float(f"{{10**{power}:.3g}}")
        lengths = wavelengths({width}, base)
        never = int(np.count_nonzero(unfinished({width}, base, 2**{context_power})))
        print(never, "of", len(lengths), "never complete a turn")
    """,
    provenance="θᵢ = base^(−2i/d), computed live",
    presets=[
        Preset(
            "10,000: Llama 2",
            {**LLAMA_2, "context_power": 12},
            "The base of the RoPE paper, and of Llama 2 with its 4,096 positions.",
        ),
        Preset("100,000: SmolLM2", {**OURS, "context_power": 13}, "The model of this site: 32 pairs, 8,192 positions."),
        Preset(
            "500,000: Llama 3",
            {**LLAMA_3, "context_power": 13},
            "A larger base for 8,192 positions: slower hands, long before they are needed.",
        ),
        Preset(
            "Too small a base",
            {"power": 2.0, "width": "64", "context_power": 13},
            "Every hand has gone round many times: far and near look alike.",
        ),
    ],
    height=955,
)
def frequencies(power: float, width: str, context_power: int, position: int) -> tuple[Any, ...]:
    d, base, context = int(width), base_of(power), 2**context_power
    theta, lengths = engine.frequencies(d, base), engine.wavelengths(d, base)
    never, pairs, step = int(np.count_nonzero(study.unfinished(d, base, context))), np.arange(d // 2), d // 32
    places = np.unique(np.round(np.geomspace(1, context, 46)).astype(int)) - 1
    hands = engine.tables(places, d, base)[0].T[::step]
    clock = np.concatenate(engine.tables(np.array([position]), d, base)).T[:: 2 * step]
    picture = stack(
        row(
            curve(
                [
                    ("positions for a full turn", pairs, lengths),
                    ("the context", pairs, np.full(d // 2, float(context))),
                ],
                title="Wavelength of each pair",
                x_label="pair i",
                y_label="positions",
                tensors=["q", "resid"],
                log_y=True,
            ),
            plane(
                [],
                arrows=[
                    arrow((1 - 0.12 * i) * tip, str(name), "q", key=f"pair:{name}")
                    for i, (name, tip) in enumerate(zip(pairs[:: 2 * step], clock, strict=True))
                ],
                title=f"Eight pairs as hands, by number, at position {position:,}. The longest is the fastest",
                limit=1.15,
                circle=1,
            ),
        ),
        matrix(
            np.round(hands, 3),
            "Cosine of the angle of 16 of the pairs, from position 0 to the end of the context, in widening steps",
            "q",
            "hands",
            rows=[f"pair {i}" for i in pairs[::step]],
            columns=[f"{place:,}" if i % 3 == 0 else "" for i, place in enumerate(places)],
            limit=1,
        ),
        readouts(
            [
                ("base", f"{base:,.0f}"),
                ("fastest pair", f"{lengths[0]:.2f} positions a turn"),
                ("slowest pair", f"{lengths[-1]:,.0f} positions a turn"),
                (f"never round in {context:,}", f"{never} of {d // 2} pairs"),
            ]
        ),
    )
    sentence = (
        f"With base {base:,.0f}, the fastest of {d // 2} pairs goes round every {lengths[0]:.2f} positions and the "
        f"slowest every {lengths[-1]:,.0f}. "
        + (
            f"In a context of {context:,} positions, {never} pairs never complete a turn: their rows pass through blue "
            "once at most, and their hands creep."
            if never
            else f"In a context of {context:,} positions every pair completes a turn; alone none tells far from near."
        )
    )
    last = d // 2 - 1
    formula = (
        rf"\theta_{{{last}}} = {base:.0f}^{{-2 \cdot {last} / {d}}} = {number(float(theta[-1]))}, \quad "
        rf"\frac{{2\pi}}{{\theta_{{{last}}}}} = {number(float(lengths[-1]))}"
    )
    return picture, sentence, formula, {"theta": theta, "lengths": lengths, "never": never}


@chapter.lab(
    "decay",
    title="Does the score fall with distance?",
    controls=[
        POWER,
        WIDTH,
        Slider("reach", "Furthest distance = 2 to the power", 13, 4, 15),
        Slider("seed", "Seed", 0, 0, 50),
    ],
    runs=[study.decay, study.scores_at_distances],
    snippet="""
        import numpy as np
        from engine.rope_study import decay

        distances = np.unique(np.round(np.geomspace(1, 2**{reach}, 120)))
        found = decay({width}, float(f"{{10**{power}:.3g}}"), distances, seed={seed})
        equal, drawn, spread = found.equal, found.drawn[0], found.spread
        print(equal[:5])
    """,
    provenance="Vectors of ones and random vectors, turned live",
    presets=[
        Preset(
            "SmolLM2",
            {**OURS, "reach": 13},
            "Equal vectors lose nearly half of their score over the first hundred positions.",
        ),
        Preset("10,000", {"power": 4.0, "width": "64", "reach": 13}, "A smaller base forgets sooner."),
        Preset(
            "Nearly nothing but fast pairs",
            {"power": 2.0, "width": "64", "reach": 10},
            "Then the score comes back again and again.",
        ),
    ],
    height=470,
)
def decay(power: float, width: str, reach: int, seed: int) -> tuple[Any, ...]:
    d, base = int(width), base_of(power)
    distances = np.unique(np.round(np.geomspace(1, 2**reach, 120)))
    found = study.decay(d, base, distances, seed=seed)
    drawn, spread = found.drawn[0], float(np.mean(found.spread))
    picture = curve(
        [
            ("the same in every pair", distances, found.equal),
            ("two unrelated vectors", distances, drawn),
            ("spread of 24 such", distances, found.spread),
            ("and below", distances, -found.spread),
        ],
        title="Score ÷ lengths of the two vectors, against the distance between their tokens",
        x_label="distance in positions",
        y_label="cosine",
        tensors=["q", "k", "resid", "resid"],
        log_x=True,
    )
    below = study.below_half(d, base, 2**reach)
    fall = f"first fall below a half at distance {below:,}" if below else "never fall below a half here"
    sentence = (
        f"Equal vectors start at 1 and {fall}; at {distances[-1]:,.0f} they are at {fixed(found.equal[-1])}. Unrelated "
        f"vectors do not decay: their scores keep a spread of about {spread:.2f}, near and far, as vectors of {d} "
        "random numbers do."
    )
    terms = rf"\frac{{2}}{{{d}}} \sum_i \cos({number(float(distances[-1]))} \cdot {base:.0f}^{{-2i/{d}}})"
    formula = (
        rf"{terms} = \attn{{{number(float(found.equal[-1]))}}}, \quad \frac{{1}}{{\sqrt{{{d}}}}} = {number(d**-0.5)}"
    )
    data = {"distances": distances, "equal": found.equal, "drawn": drawn, "spread": found.spread}
    return picture, sentence, formula, data


METHODS = {"none": "nothing", "linear": "position interpolation", "ntk": "NTK-aware base", "yarn": "YaRN"}


@chapter.lab(
    "scaling",
    title="Reading further than training went",
    controls=[
        Choice("method", "What is changed", "none", dict(METHODS)),
        Slider("factor", "Times the trained context", 4, 1, 16),
        Slider("pair", "Pair to write out", 22, 0, 31),
        POWER,
    ],
    runs=[study.extend, engine.frequencies, engine.ntk_frequencies, engine.yarn_frequencies],
    snippet="""
        from engine.rope_study import extend

        found = extend(64, float(f"{{10**{power}:.3g}}"), 8192, {factor}, {method!r})
        speed, reach, unseen = found.speed, found.reach, found.unseen
        print(speed.round(3), unseen.sum())
    """,
    provenance="32 pairs trained on 8,192 positions, as in SmolLM2; computed live",
    presets=[
        Preset(
            "Just read on",
            {"method": "none", "factor": 4},
            "The slow pairs come to angles that no training text has shown.",
        ),
        Preset(
            "Squeeze",
            {"method": "linear", "factor": 4},
            "No new angles, but neighbours now differ by a quarter of what they did.",
        ),
        Preset(
            "A larger base",
            {"method": "ntk", "factor": 4},
            "The fast pairs keep their speed; a few slow ones overshoot a little.",
        ),
        Preset(
            "Both", {"method": "yarn", "factor": 4}, "Fast pairs as they were, slow pairs squeezed, a ramp between."
        ),
    ],
    height=600,
)
def scaling(method: str, factor: int, pair: int, power: float) -> tuple[Any, ...]:
    base, pairs = base_of(power), np.arange(32)
    each = {name: study.extend(64, base, CONTEXT, factor, name) for name in METHODS}
    now = each[method]
    new = {name: int(np.count_nonzero(found.unseen)) for name, found in each.items()}
    picture = stack(
        row(
            curve(
                [(METHODS[name], pairs, found.speed) for name, found in each.items()],
                title="How fast each pair still turns",
                x_label="pair i",
                y_label="share of its trained speed",
                tensors=["resid", "k", "q", "v"],
                marker=(pair, float(now.speed[pair])),
            ),
            curve(
                [
                    (f"at {factor * CONTEXT:,}: {METHODS[method]}", pairs, now.reach),
                    (f"at {CONTEXT:,}: as trained", pairs, now.trained),
                    ("one full turn", pairs, np.full(32, 2 * np.pi)),
                ],
                title="The angle that each pair reaches",
                x_label="pair i",
                y_label="radians",
                tensors=["grad", "q", "resid"],
                log_y=True,
            ),
        ),
        table(
            ["changed", "speed of the fastest pair", "of the slowest", "pairs at new angles", "q and k times"],
            [
                [
                    METHODS[name],
                    *(f"{speed:.3g}" for speed in found.speed[[0, -1]]),
                    new[name],
                    f"{engine.magnitude(scaling_of(name, factor)):.3f}",
                ]
                for name, found in each.items()
            ],
            title="Speeds as shares of the trained ones",
            marked=[list(METHODS).index(method)],
        ),
    )
    kept, changed = float(now.speed[0]), "nothing changed" if method == "none" else METHODS[method]
    sentence = (
        f"Reading {factor * CONTEXT:,} positions with {changed} takes {new[method] or 'none'} of 32 pairs to angles "
        "that training never showed. Between two neighbouring tokens the fastest pair turns "
        + ("1 radian, as in training." if kept == 1 else f"{kept:.3g} radians; in training it was 1.")
    )
    data = {"speed": now.speed, "reach": now.reach, "trained": now.trained, "unseen": now.unseen}
    return picture, sentence, scaled_formula(method, factor, pair, base, now), data


# --- the alternatives ----------------------------------------------------------------------------------------------

TEXTS = {"dog": "the small dog chased the ball", "same": "dog dog dog dog dog dog"}
ENTERS = {
    "none": "nowhere",
    "sinusoids": "added to the vectors, once",
    "learned": "added to the vectors, once",
    "alibi": "added to the scores, in every layer",
    "rope": "turns q and k, in every layer",
}


@chapter.lab(
    "alternatives",
    title="Five ways to tell where a token stands",
    controls=[
        Choice("text", "Text", "same", {"same": "one word six times", "dog": "The small dog chased the ball"}),
        Slider("start", "The text begins at position", 6, 0, schemes.ROWS - 6),
        Slider("steps", "Training steps of the learned table", 40, 0, 80, 10),
        Choice("seed", "Seed", "0", {str(i): str(i) for i in range(6)}),
    ],
    runs=[schemes.moved_scores, schemes.attend_at, schemes.learned_table, schemes.previous_token_loss],
    snippet="""
        from engine.positions import SCHEMES, moved_scores

        words = {{"dog": "the small dog chased the ball", "same": "dog dog dog dog dog dog"}}[{text!r}].split()
        found = {{name: moved_scores(words, name, {start}, seed={seed}, steps={steps}) for name in SCHEMES}}
        rope, learned = found["rope"][0], found["learned"][0]
        changes = [change for _, change in found.values()]
        print(changes)
    """,
    provenance="Random word vectors and projections; the learned table is trained live, on one small task",
    presets=[
        Preset(
            "Only position",
            {"text": "same", "start": 6},
            "All words alike: what is left in a matrix is what the scheme adds.",
        ),
        Preset("A sentence", {"text": "dog", "start": 6}, "Content and position together, as in a model."),
        Preset("Before training", {"text": "same", "steps": 0, "start": 0}, "A learned table starts as noise."),
        Preset(
            "Off the trained rows",
            {"text": "same", "steps": 80, "start": 14},
            "Rows that no training text reached are noise still.",
        ),
    ],
    height=1060,
)
def alternatives(text: str, start: int, steps: int, seed: str) -> tuple[Any, ...]:
    words, drawn = TEXTS[text].split(), int(seed)
    found = {name: schemes.moved_scores(words, name, start, seed=drawn, steps=steps) for name in schemes.SCHEMES}
    changes = {name: 0.0 if change < ROUNDING else change for name, (_, change) in found.items()}
    learned = schemes.learned_table(steps, drawn)
    inside, outside = (schemes.previous_token_weight(learned, at, drawn) for at in (0, schemes.TRAINED))
    places = [str(start + i) for i in range(len(words))]
    picture = stack(
        row(
            *(
                matrix(
                    np.where(causal_mask(len(words), len(words)), scores, -np.inf),
                    schemes.SCHEMES[name],
                    "attn",
                    name,
                    rows=[f"{word} {place}" for word, place in zip(words, places, strict=True)],
                    columns=places,
                    limit=4,
                    digits=0 if name == "learned" and steps else 1,
                )
                for name, (scores, _) in found.items()
            )
        ),
        table(
            ["scheme", "change", "only the offset counts", "where position enters"],
            [
                [label, fixed(changes[name]), _verdict(name, changes[name], start), ENTERS[name]]
                for name, label in schemes.SCHEMES.items()
            ],
            title=f"Largest change of any score when the text begins at {start} instead of 0",
        ),
        readouts(
            [
                ("attention to the token before, on its trained rows 0–11", f"{inside:.0%}"),
                ("the same on rows 12–23, never trained", f"{outside:.0%}"),
            ],
            title=f"The learned table after {steps} steps, on a text that it was not trained on",
        ),
    )
    sentence = (
        f"Moved from position 0 to {start}, the scores of the sinusoids change by up to {changes['sinusoids']:.2g} and "
        f"those of the learned table by up to {changes['learned']:.2g}; those of ALiBi and RoPE do not change. "
        if start
        else "Move the text away from position 0 to see which scores notice. "
    )
    sentence += (
        f"The table gives the token before {inside:.0%} of the attention where it was trained, {outside:.0%} beyond."
    )
    formula = (
        rf"\max \lvert \attn{{S_{{{start}}}}} - \attn{{S_0}} \rvert: \quad \text{{RoPE }} {number(changes['rope'])}, "
        rf"\quad \text{{sinusoids }} {number(changes['sinusoids'])}, "
        rf"\quad \text{{learned }} {number(changes['learned'])}"
    )
    data = {name: scores for name, (scores, _) in found.items()}
    return picture, sentence, formula, {**data, "changes": [change for _, change in found.values()], "table": learned}


def _verdict(name: str, change: float, start: int) -> str:
    if not start:
        return "move it to see"
    return "no" if change else "not even that" if name == "none" else "yes"


# --- in the real model -----------------------------------------------------------------------------------------------

PRECISION = {"float64": "float64, as in this engine", "float32": "float32, as in most code", "float16": "float16"}


@chapter.lab(
    "shift",
    title="Your sentence, thousands of positions further on",
    controls=[
        Slider("layer", "Layer", 13, 0, 29),
        Slider("head", "Head", 8, 0, 8),
        Slider("offset", "Move every token by", 1000, 0, 8144),
        Choice("precision", "Angles computed in", "float64", dict(PRECISION)),
        Pick("query", "Token that asks", 8),
        Pick("key", "Token that is asked", 1),
        Pick("rank", "Pair", 2),
    ],
    runs=[study.changes, study.scores_at, study.parts_of_score, engine.rotate],
    snippet="""
        from engine.model import load
        from engine.rope_study import changes, scores_at
        from engine.tokenization import encode

        model = load()
        trace = model.trace(encode({sentence!r}, "smollm2")[:48])
        change = changes(trace, model.config, {offset}, {precision!r})
        q, k = trace["blk.{layer}.attn.q_raw"], trace["blk.{layer}.attn.k_raw"]
        scores = scores_at(q, k, trace["positions"] + {offset}, 100000.0, {precision!r})[{head}]
        print(change.max())
    """,
    provenance="SmolLM2's real queries and keys, of the sentence at the top of the page",
    real=True,
    presets=[
        Preset("One step", {"offset": 1}, "Every angle changes, no difference does."),
        Preset("To the end", {"offset": 8144, "precision": "float64"}, "As far as this model can read."),
        Preset(
            "float32 angles",
            {"offset": 8144, "precision": "float32"},
            "Most published code does this: far out, the angles lose their last digits and scores begin to move.",
        ),
        Preset(
            "float16 angles",
            {"offset": 8144, "precision": "float16"},
            "Eight thousand radians with three digits: nonsense.",
        ),
    ],
    height=(900, 1305),
)
def shift(
    sentence: str, layer: int, head: int, offset: int, precision: str, query: int, key: int, rank: int
) -> tuple[Any, ...]:
    reading = read(sentence)
    trace, count = reading.trace, len(reading.ids)
    names, at = [*reading.pieces], f"blk.{layer}.attn."
    asks = within(query, count)
    asked = min(key if key >= 0 else asks, asks)
    real = trace[at + "scores"][head]
    moved = study.scores_at(trace[at + "q_raw"], trace[at + "k_raw"], trace["positions"] + offset, BASE, precision)[
        head
    ]
    change = study.changes(trace, SMOLLM2, offset, precision)
    q, k = (vectors[i] for vectors, i in zip(study.head_vectors(trace, layer, head), (asks, asked), strict=True))
    parts = study.parts_of_score(q, k, asks, asked, BASE)
    strongest = np.argsort(-np.abs(parts), kind="stable")[:8]
    chosen = int(strongest[within(rank, 8)])
    picture = stack(
        matrix(
            np.where(causal_mask(count, count), moved, -np.inf),
            f"Scores of layer {layer}, head {head}, {offset:,} positions further on; click one",
            "attn",
            "scores",
            rows=names,
            columns=names,
            limit=12,
            digits=2,
            pick=["query", "key"],
            picked=[asks, asked] if count > 16 else asks,
        ),
        row(
            two_places(
                study.pair_at(q, k, asks, asked, chosen, BASE),
                study.pair_at(q, k, asks + offset, asked + offset, chosen, BASE, precision),
                (f"q at {asks + offset:,}", f"k at {asked + offset:,}"),
                f"Pair {chosen} of this query and key. Dashed: in place. Solid: moved",
                limit=1.25 * float(max(np.linalg.norm(x[2 * chosen : 2 * chosen + 2]) for x in (q, k))),
            ),
            bars(
                [f"pair {i}" for i in strongest],
                parts[strongest],
                title="The eight pairs that matter most for this score; click one",
                tensor="attn",
                notes=[f"a turn in {length:,.0f}" for length in engine.wavelengths(64, BASE)[strongest]],
                pick="rank",
                picked=within(rank, 8),
            ),
        ),
        readouts(
            [
                ("this score, where it is", f"{real[asks, asked]:.5f}"),
                (f"{offset:,} further on", f"{moved[asks, asked]:.5f}"),
                ("largest change, this head", f"{change[layer, head]:.1e}"),
                ("largest change, all 270 heads", f"{change.max():.1e}"),
            ]
        ),
    )
    worst, this = float(change.max()), (float(real[asks, asked]), float(moved[asks, asked]))
    verdict = (
        "that is the rounding of float32, and nothing else"
        if worst <= 1e-4
        else "the angles have lost digits, and that is not what RoPE promises"
    )
    text = (
        f"{reading.note}“{spoken(names[asks])}” asks “{spoken(names[asked])}” with {fixed(this[0], 4)}; with both "
        f"{steps(offset)} further on it is {fixed(this[1], 4)}. Over all scores of all 270 heads the largest change is "
        f"{worst:.1e}: {verdict}."
    )
    formula = ", \\quad ".join(
        rf"\frac{{\q{{q_{{{asks + by}}}}} \cdot \k{{k_{{{asked + by}}}}}}}{{\sqrt{{64}}}} = \attn{{{number(score, 6)}}}"
        for by, score in zip((0, offset), this, strict=True)
    )
    return picture, text, formula, {"change": change, "scores": moved, "real": real, "parts": parts}


@chapter.lab(
    "apart",
    title="The same query and key, at every distance",
    controls=[
        Slider("layer", "Layer", 16, 0, 29),
        Slider("head", "Head", 0, 0, 8),
        Pick("query", "Token that asks", 6),
        Pick("key", "Token that is asked", 5),
    ],
    runs=[study.scores_at_distances, study.head_vectors, engine.rotate],
    snippet="""
        import numpy as np
        from engine.model import load
        from engine.rope_study import head_vectors, scores_at_distances
        from engine.tokenization import encode

        trace = load().trace(encode({sentence!r}, "smollm2")[:48])
        queries, keys = head_vectors(trace, {layer}, {head})
        asks = {query} if 0 <= {query} < len(queries) else len(queries) - 1
        asked = min({key} if {key} >= 0 else asks, asks)
        distances = np.unique(np.round(np.geomspace(1, 8191, 240)))
        scores = scores_at_distances(queries[asks], keys[asked], distances, 100000.0) / 8
        print(scores.round(2))
    """,
    provenance="SmolLM2's real queries and keys, of the sentence at the top of the page",
    real=True,
    presets=[
        Preset(
            "The word before",
            {"layer": 16, "head": 0, "query": 6, "key": 5},
            "A head that looks one back: any other distance spoils it.",
        ),
        Preset(
            "The first token", {"layer": 18, "head": 8, "query": 8, "key": 0}, "A sink: the score hardly cares how far."
        ),
        Preset(
            "“it” and its noun",
            {"layer": 13, "head": 8, "query": 8, "key": 1},
            "In the usual sentence: a match over some tens of positions, then less and less.",
        ),
    ],
    height=(615, 636),
)
def apart(sentence: str, layer: int, head: int, query: int, key: int) -> tuple[Any, ...]:
    reading = read(sentence)
    names, count = [*reading.pieces], len(reading.ids)
    asks = within(query, count)
    asked = min(key if key >= 0 else asks, asks)
    q, k = (
        vectors[i] for vectors, i in zip(study.head_vectors(reading.trace, layer, head), (asks, asked), strict=True)
    )
    distances = np.unique(np.round(np.geomspace(1, 8191, 240)))
    scores = study.scores_at_distances(q, k, distances, BASE) / 8
    flat, here = float(q @ k) / 8, float(reading.trace[f"blk.{layer}.attn.scores"][head, asks, asked])
    distance = asks - asked
    picture = stack(
        tokens(
            [{"text": name} for name in names],
            title="Click the token that asks",
            pick="query",
            picked=asks,
            show=["no-ids"],
        ),
        tokens(
            [{"text": name} for name in names[: asks + 1]],
            title="… and the token that is asked",
            pick="key",
            picked=asked,
            show=["no-ids"],
        ),
        curve(
            [
                ("score with RoPE", distances, scores),
                ("score without any turn", distances, np.full(len(distances), flat)),
            ],
            title=f"Layer {layer}, head {head}: “{spoken(names[asks])}” asks “{spoken(names[asked])}” from afar",
            x_label="distance in positions",
            y_label="score",
            tensors=["attn", "resid"],
            log_x=True,
            marker=(distance, here) if distance else None,
        ),
    )
    best = int(np.argmax(scores))
    text = (
        f"{reading.note}In your sentence the two stand {steps(distance)} apart and score {fixed(here)}; unturned they "
        f"would score {fixed(flat)}. At the {len(distances)} distances drawn, from 1 to 8,191, the score lies between "
        f"{fixed(scores.min())} and {fixed(scores.max())}, and is highest at {distances[best]:,.0f}."
    )
    formula = (
        rf"\frac{{\q{{q}} \cdot R_{{-{distance}}} \k{{k}}}}{{\sqrt{{64}}}} = \attn{{{number(here)}}}, \quad "
        rf"\frac{{\q{{q}} \cdot \k{{k}}}}{{\sqrt{{64}}}} = {number(flat)}"
    )
    return picture, text, formula, {"distances": distances, "scores": scores}


@chapter.lab(
    "spoilt",
    title="Break it: other positions, other pairs, none",
    controls=[
        Choice("how", "RoPE in all 30 layers", "half", dict(study.SPOILT)),
        Choice("seed", "Seed of the shuffle", "0", {str(i): str(i) for i in range(5)}),
    ],
    runs=[study.reading_with, study.spoilt, engine.rotate],
    snippet="""
        import numpy as np
        from engine.model import load
        from engine.rope_study import reading_with
        from engine.tokenization import encode

        ids = encode({sentence!r}, "smollm2")[:48]
        surprisal, probabilities = reading_with(load(), ids, {how!r}, seed={seed} if {how!r} == "shuffled" else 0)
        perplexity = float(np.exp(np.mean(surprisal)))
        print(perplexity)
    """,
    provenance="SmolLM2's real weights, run twice on the sentence at the top of the page",
    real=True,
    presets=[
        Preset(
            "Wrong pairs",
            {"how": "half"},
            "The commonest mistake when weights change hands: still fluent, quietly worse.",
        ),
        Preset("Off", {"how": "off"}, "Not chaos: the causal mask still tells a little."),
        Preset("Shuffled", {"how": "shuffled", "seed": "0"}, "Wrong positions are worse than none."),
        Preset("Stretched × 2", {"how": "stretched-2"}, "As if every second token had been cut out."),
        Preset("Stretched × 8", {"how": "stretched-8"}, "No two tokens are neighbours any more."),
        Preset("1000 further", {"how": "moved"}, "Only differences count, so nothing happens."),
        Preset("YaRN", {"how": "yarn"}, "Made ready for four times the context, without training: nearly free here."),
    ],
    height=(735, 1547),
)
def spoilt(sentence: str, how: str, seed: str) -> tuple[Any, ...]:
    reading = read(sentence, least=2)
    trained, usual = study.reading_with(reading.model, reading.ids, "trained")
    now, changed = study.reading_with(reading.model, reading.ids, how, int(seed) if how == "shuffled" else 0)
    names, rise = [*reading.pieces], [0.0, *(now - trained)]
    notes = ["", *(fixed(more, 2, "+") for more in rise[1:])]  # nothing guesses the first token
    before, after = float(np.exp(np.mean(trained))), float(np.exp(np.mean(now)))
    keys, limit = [f"token:{i}" for i in range(len(names))], float(max(trained.max(), now.max()))
    picture = stack(
        tokens(
            [{"text": name, "note": note, "key": key} for name, note, key in zip(names, notes, keys, strict=True)],
            title="How much more each token surprises the model than it did, in nats",
            shares=rise,
            scale="signed",
            show=["no-ids"],
        ),
        readouts(
            [
                ("loss, as trained", f"{np.mean(trained):.3f} nats"),
                ("loss now", f"{np.mean(now):.3f} nats"),
                ("perplexity, as trained", f"{before:.4g}"),
                ("perplexity now", f"{after:.4g}"),
                ("factor", f"{after / before:.2f}"),
            ]
        ),
        row(next_tokens(usual, "as trained"), next_tokens(changed, study.SPOILT[how])),
        row(
            *(
                bars(names[1:], values, title=title, tensor="logits", limit=limit, keys=keys[1:])
                for values, title in ((trained, "Surprisal, as trained, in nats"), (now, f"… and {study.SPOILT[how]}"))
            )
        ),
    )
    formula = (
        rf"e^{{\text{{mean surprisal}}}} = e^{{{number(float(np.mean(now)))}}} = \logits{{{number(after)}}}, \quad "
        rf"\text{{as trained }} {number(before)}"
    )
    text = spoilt_sentence(reading, how, (trained, now), (usual, changed))
    return picture, text, formula, {"surprisal": now, "trained": trained, "perplexity": after}


@chapter.lab(
    "noticed",
    title="Does it notice the order?",
    controls=[Choice("seed", "Shuffle", "0", {str(i): f"number {i}" for i in range(6)})],
    runs=[study.next_tokens_with, study.shuffled_but_last, study.distance_between],
    snippet="""
        from engine.model import load
        from engine.rope_study import distance_between, next_tokens_with, shuffled_but_last
        from engine.tokenization import encode

        ids = encode({sentence!r}, "smollm2")[:48]
        texts = [ids, shuffled_but_last(ids, {seed})]
        moved = [distance_between(*next_tokens_with(load(), texts, how)) for how in ("trained", "off")]
        print(moved)
    """,
    provenance="SmolLM2's real weights, on the sentence at the top of the page and on a shuffle of it",
    real=True,
    height=(655, 1223),
)
def noticed(sentence: str, seed: str) -> tuple[Any, ...]:
    reading = read(sentence, least=3)
    mixed = study.shuffled_but_last(reading.ids, int(seed))
    each = [study.next_tokens_with(reading.model, [reading.ids, mixed], how) for how in ("trained", "off")]
    moved = [study.distance_between(*both) for both in each]
    texts = ("your text", "shuffled")
    picture = stack(
        tokens([{"text": name} for name in reading.pieces], title="Your text", show=["no-ids"]),
        tokens([{"text": piece(i)} for i in mixed], title="All but the last token shuffled", show=["no-ids"]),
        *(
            row(*(next_tokens(p, f"{rope}, {name}") for p, name in zip(both, texts, strict=True)))
            for both, rope in zip(each, ("with RoPE", "RoPE off"), strict=True)
        ),
        bars(
            ["with RoPE", "RoPE off"],
            moved,
            title="Share of the probability that the shuffle moves to other tokens",
            tensor="logits",
            share=True,
            limit=1,
        ),
    )
    text = (
        f"{reading.note}The shuffle moves {moved[0]:.0%} of the next token's probability with RoPE, and {moved[1]:.0%} "
        "with RoPE off"
    )
    if list(reading.ids) == mixed:
        text = f"{reading.note}This shuffle happens to leave your tokens where they are; take another."
    elif moved[1] < moved[0]:
        text += ": the causal mask alone still lets some order through, but less."
    else:
        text += ". Here the model without positions reacts even more; it is a broken model, too."
    formula = (
        rf"\frac{{1}}{{2}} \sum_t \lvert \logits{{p_t}} - \logits{{p'_t}} \rvert = {number(moved[0])}, \quad "
        rf"\text{{RoPE off: }} {number(moved[1])}"
    )
    return picture, text, formula, {"moved": moved, "mixed": mixed}


# --- numbers of the prose ------------------------------------------------------------------------------------------


@chapter.number
def never_round() -> int:
    return int(np.count_nonzero(study.unfinished(SMOLLM2.head_dim, BASE, SMOLLM2.context)))


@chapter.number
def slowest() -> int:
    return round(float(engine.wavelengths(SMOLLM2.head_dim, BASE)[-1]))


@chapter.number
def half_at() -> int:
    """The distance at which equal vectors of SmolLM2's head width first score less than half."""
    return study.below_half(64, BASE, CONTEXT) or 0


@chapter.number
def new_angles_ntk() -> int:
    return int(np.count_nonzero(study.extend(64, BASE, 8192, 4, "ntk").unseen))


@chapter.number
def learned_inside() -> str:
    return f"{schemes.previous_token_weight(schemes.learned_table(80), 0):.0%}"


@chapter.number
def learned_outside() -> str:
    return f"{schemes.previous_token_weight(schemes.learned_table(80), schemes.TRAINED):.0%}"


# --- check yourself ------------------------------------------------------------------------------------------------


@chapter.answer
def five_further(position_q: int, position_k: int, theta: float, angle: int) -> str:
    """What becomes of the score in the first lab on rotation, as the reader has set it, with both five further on."""
    q, k = study.at_angle(angle)
    here, there = (study.turn_pair(q, k, position_q + by, position_k + by, theta).after for by in (0, 5))
    return "stays" if abs(here - there) < ROUNDING else "rises" if there > here else "falls"


@chapter.answer
def last_word_can_tell() -> str:
    """How many causal layers without positions it takes until “man” differs between the two orders before it."""
    apart = [
        schemes.two_orders(DOG, ("bites", "dog", "man"), "none", causal=True, layers=n).differences[2] for n in (1, 2)
    ]
    return "one" if apart[0] > ROUNDING else "two" if apart[1] > ROUNDING else "never"


@chapter.answer
def unfinished_pairs() -> int:
    return never_round()


register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
