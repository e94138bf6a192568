"""Embeddings: from token ids to rows of a table, and what the blocks make of them. The labs of the page."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from dash import register_page

from engine import cooccurrence as counting
from engine import embedding_study as study
from engine import embeddings as engine
from engine.ledger import CONFIGS
from engine.tokenization import encode, token_bytes
from pages._chips import label
from pages._reading import ENCODING, TOKEN_LIMIT, piece, read, spoken, the_model
from ui.chapter import Chapter
from ui.controls import Pick, Slider, Text, Toggle, within
from ui.figures import bars, curve, histogram, matrix, plane, readouts, row, stack, table, tokens
from ui.lab import Preset, ReaderError
from ui.mathml import number, signed

chapter = Chapter(__name__, Path(__file__).parent)

SMOLLM2 = CONFIGS["SmolLM2-135M"]
REAL = "SmolLM2's real weights"
STORY = counting.STORY.strip()
WUG = "The wug crossed the river. The wug sailed the sea. The wug sank in the river."

RIVER = "She sat on the bank of the river and watched the water."
LOAN = "She went to the bank to ask for a loan."
STREAM = "He fished from the bank of the stream."
YOUNG = "puppy → dog, kitten → cat, calf → cow, lamb → sheep, cub → bear, chick → chicken"
RARE = "tractor → car, violin → music, falcon → bird, cottage → house, ankle → leg, ferry → boat"
CAPITALS = (
    "France → Paris, Germany → Berlin, Italy → Rome, Spain → Madrid, Japan → Tokyo, Russia → Moscow, Greece → Athens, "
    "Egypt → Cairo, Poland → Warsaw"
)
COMPARED = (
    "big → bigger, small → smaller, fast → faster, slow → slower, strong → stronger, long → longer, warm → warmer"
)
PAST = "go → went, see → saw, come → came, run → ran, eat → ate, give → gave, take → took, write → wrote"
OPPOSITES = "hot → cold, good → bad, big → small, rich → poor, happy → sad, light → dark, old → new"
KINDS = "red, blue, green, yellow, dog, cat, horse, cow, Monday, Tuesday, Friday, Sunday, three, four, seven, nine"


def named(token: int) -> str:
    """A token as a label, its spaces visible: ·dog."""
    return label(token_bytes(token, ENCODING))


def said(token: int) -> str:
    """A token in a sentence, without its space: dog."""
    return spoken(piece(token))


def lit(key: str, text: str) -> str:
    """A quantity that lights up where it stands in the pictures; signs that would end it early leave it plain text."""
    return text if set(text) & set("{}|") else f"{{{{{key}|{text}}}}}"


# --- hand-sized ----------------------------------------------------------------------------------------------------


@chapter.lab(
    "lookup",
    title="A row of a table, two ways",
    controls=[Pick("word", "Word", 5)],
    runs=[engine.lookup, engine.one_hot],
    snippet="""
        from engine.cooccurrence import STORY, count_embeddings
        from engine.embeddings import lookup, one_hot

        table = count_embeddings(STORY).table
        token = min({word} if {word} >= 0 else 99, len(table) - 1)
        picked = lookup(table, [token])[0]
        product = one_hot(token, len(table)) @ table
        print(picked.round(2), abs(picked - product).max())
    """,
    provenance="A table of 36 words, 24 numbers each, computed from the small story in the next lab",
    presets=[
        Preset("dog", {"word": 5}, "Row 5. The number 5 means nothing in itself: it is a place in the list."),
        Preset("king", {"word": 14}, "Compare it with queen, one row further down."),
        Preset("queen", {"word": 15}, "Nearly the same numbers as king: the story uses both words alike."),
        Preset(
            "the",
            {"word": 0},
            "The most frequent word. It stands beside everything, which says little: its row is a short one.",
        ),
    ],
    height=810,
)
def lookup(word: int) -> tuple[Any, ...]:
    counted = counting.count_embeddings(counting.STORY)
    rows, width = counted.table.shape
    at = within(word, rows)
    picked = engine.lookup(counted.table, [at])[0]
    hot = engine.one_hot(at, rows)
    product = hot @ counted.table
    names = [f"{i} {name}" for i, name in enumerate(counted.words)]
    limit = float(np.max(np.abs(counted.table)))
    picture = stack(
        tokens(
            [{"text": name, "id": i, "key": f"row:{i}"} for i, name in enumerate(counted.words)],
            title="Pick a word: its id is its row",
            pick="word",
            picked=at,
        ),
        row(
            matrix(
                counted.table,
                f"The table W ({rows} × {width}); click a row",
                "resid",
                "table",
                rows=names,
                limit=limit,
                pick="word",
                picked=at,
                cell=15,
            ),
            stack(
                matrix(
                    np.reshape(picked, (4, 6)),
                    f"Reading row {at}: the {width} numbers of “{counted.words[at]}”",
                    "resid",
                    "picked",
                    rows=["1 to 6", "7 to 12", "13 to 18", "19 to 24"],
                    limit=limit,
                    digits=2,
                ),
                readouts([("multiplications", "0"), ("in SmolLM2's table", "0")]),
                matrix(
                    np.reshape(hot, (6, 6)),
                    f"Or one-hot, x: {rows} numbers, a 1 in place {at} …",
                    "tokens",
                    "hot",
                    rows=[f"{start} to {start + 5}" for start in range(0, 36, 6)],
                    scale="share",
                    digits=0,
                ),
                matrix(
                    product[None],
                    "… times the table: the same numbers",
                    "resid",
                    "row",
                    limit=limit,
                    cell=13,
                ),
                readouts(
                    [
                        ("multiplications", f"{rows * width:,}"),
                        ("in SmolLM2's table", f"{SMOLLM2.vocabulary * SMOLLM2.width:,}"),
                        ("largest difference", f"{float(np.max(np.abs(picked - product))):.2g}"),
                    ]
                ),
            ),
        ),
    )
    sentence = (
        f"“{counted.words[at]}” has the id {at}, so its vector is row {at}. The product with the one-hot vector takes "
        f"{rows} × {width} = {rows * width:,} multiplications, {(rows - 1) * width:,} of them by zero, and gives the "
        "same numbers."
    )
    shown = ",\\; ".join(f"{value:.2f}" for value in picked[:3])
    formula = (
        rf"\tokens{{x}} \, \resid{{W}} = \sum_{{i=0}}^{{{rows - 1}}} \tokens{{x_i}} \, \resid{{W_i}} = "
        rf"{rows - 1} \cdot 0 + 1 \cdot \resid{{W_{{{at}}}}} = \resid{{({shown},\; \ldots)}}"
    )
    return picture, sentence, formula, {"picked": picked, "product": product, "table": counted.table}


@chapter.lab(
    "company",
    title="Where such rows can come from: the company that words keep",
    controls=[
        Text("text", "Story", STORY, limit=2000, rows=7),
        Text("word", "Whose neighbours?", "wug", limit=40, rows=1),
        Text("more", "Your own sentences, added to the story", WUG, limit=400, rows=2),
    ],
    runs=[counting.count_embeddings, counting.cooccurrences, counting.positive_information, engine.nearest],
    snippet="""
        from engine.cooccurrence import count_embeddings
        from engine.embeddings import nearest

        counted = count_embeddings({text!r} + "\\n" + {more!r})
        place = counted.place({word!r}.strip())
        counts = counted.counts[place]
        found = nearest(counted.table, counted.table[place], 8, exclude=(place,))
        similarities = found.similarities
        print([counted.words[i] for i in found.ids], similarities.round(2))
    """,
    provenance="Counted in the text above, computed live",
    presets=[
        Preset(
            "A wug sails",
            {"text": STORY, "word": "wug", "more": WUG},
            "Nobody knows what a wug is. Three sentences, and the table takes it for a boat.",
        ),
        Preset(
            "A wug rules",
            {"text": STORY, "word": "wug", "more": "The wug ruled the land. The wug wore a golden crown."},
            "Other company, another meaning.",
        ),
        Preset(
            "Target: a wug that is a kitten",
            {"text": STORY, "word": "wug", "more": "The wug drank milk."},
            "Write sentences until “kitten” comes first, with a cosine above 0.75.",
        ),
        Preset(
            "Break it: opposites",
            {
                "text": "The tea is hot. The soup is hot. The tea is cold. The soup is cold. The room is cold. "
                "The room is hot. The dog ate the soup. The cat drank the tea.",
                "word": "hot",
                "more": "",
            },
            "Hot and cold keep the same company, so counting calls them alike. Real models have the same trouble.",
        ),
    ],
    height=320,
)
def company(text: str, word: str, more: str) -> tuple[Any, ...]:
    counted = counting.count_embeddings(text + "\n" + more)
    at = counted.place(word.strip())
    found = engine.nearest(counted.table, counted.table[at], 8, exclude=(at,))
    met = [int(i) for i in engine.largest(counted.information[at], 8) if counted.counts[at, i]]
    picture = row(
        bars(
            [counted.words[i] for i in found.ids],
            found.similarities,
            title=f"Words whose rows are most like “{counted.words[at]}”: cosine",
            tensor="resid",
            limit=1,
            keys=[f"word:{i}" for i in found.ids],
        ),
        table(
            ["word beside it", "times", "beyond chance"],
            [[counted.words[i], int(counted.counts[at, i]), float(counted.information[at, i])] for i in met],
            title=f"What stands within two words of “{counted.words[at]}”",
        ),
    )
    best, value = int(found.ids[0]), float(found.similarities[0])
    company_kept = counted.counts[at] > 0
    together = int(counted.counts[at, best])
    sentence = (
        f"“{counted.words[at]}” stands beside {np.count_nonzero(company_kept)} different words, and its row is most "
        f"like that of {lit(f'word:{best}', f'“{counted.words[best]}” ({value:.2f})')}. The two meet "
        f"{together} time{'' if together == 1 else 's'} themselves: what counts is that they keep the same company."
    )
    formula = chance_formula(counted, at, met[0]) if met else ""
    if met:
        sentence += f" Worked out below: how much oftener than by chance it stands beside “{counted.words[met[0]]}”."
    return (
        picture,
        sentence,
        formula,
        {"counts": counted.counts[at], "similarities": found.similarities, "table": counted.table},
    )


def chance_formula(counted: counting.Counted, one: int, other: int) -> str:
    """What a meeting of two words says beyond chance, with its counts."""
    total, shares = int(counted.counts.sum()), counted.counts.sum(axis=1)
    met = int(counted.counts[one, other])
    return (
        r"\log \frac{\text{met} \cdot \text{all}}{\text{one} \cdot \text{other}} = "
        rf"\log \frac{{{met} \cdot {total}}}{{{int(shares[one])} \cdot {int(shares[other])}}} = "
        rf"{number(float(np.log(met * total / (int(shares[one]) * int(shares[other])))))}"
    )


# --- in the real model: the table ------------------------------------------------------------------------------------


@chapter.lab(
    "row",
    title="A row of SmolLM2's table",
    controls=[Pick("token", "Token", 1)],
    runs=[engine.lookup, engine.row_lengths, engine.cosine_similarity, study.by_id],
    snippet="""
        from engine.embeddings import lookup
        from engine.model import load
        from engine.tokenization import encode

        ids = encode({sentence!r}, "smollm2")[:48]
        token = ids[{token} if 0 <= {token} < len(ids) else -1]
        vector = lookup(load().weights.embedding, [token])[0]
        print(vector[:8], (vector**2).sum() ** 0.5)
    """,
    provenance=REAL + ", on the sentence at the top of the page",
    real=True,
    height=(830, 1003),
)
def one_row(sentence: str, token: int) -> tuple[Any, ...]:
    reading = read(sentence)
    at = within(token, len(reading.ids))
    weights, chosen = reading.model.weights.embedding, reading.ids[at]
    vector, mean = engine.lookup(weights, [chosen])[0], study.table_mean(reading.model)
    lengths = study.table_lengths(reading.model)
    length, common = float(lengths[chosen]), float(engine.cosine_similarity(vector, mean))
    longer = study.place_of(lengths, chosen)
    typical = float(np.mean(lengths))
    places, means = study.by_id(lengths)
    name = spoken(reading.pieces[at])
    picture = stack(
        tokens(
            [{"text": text, "id": i, "key": f"id:{i}"} for text, i in zip(reading.pieces, reading.ids, strict=True)],
            title="Your sentence: click a token",
            pick="token",
            picked=at,
        ),
        matrix(
            np.reshape(vector, (12, 48)),
            f"Row {chosen:,} of {len(weights):,}: the 576 numbers of “{name}”, 48 a line",
            "resid",
            "vector",
            rows=[f"{start} to {start + 47}" for start in range(0, 576, 48)],
            limit=0.4,
        ),
        readouts(
            [
                ("id", f"{chosen:,}"),
                ("length of the row", f"{length:.3f}"),
                ("its place among all, longest first", f"{longer:,} of {len(weights):,}"),
                ("cosine with the mean row", f"{common:.3f}"),
                (
                    "largest number",
                    f"{float(vector[np.argmax(np.abs(vector))]):.3f}, place {np.argmax(np.abs(vector))}".replace(
                        "-", "−"
                    ),
                ),
            ]
        ),
        curve(
            [("mean length of 1,024 neighbouring rows", places, means)],
            title="Length of the rows by id: frequent tokens left, rare ones right; the mark is yours",
            x_label="token id",
            y_label="length",
            tensors=["resid"],
            marker=(chosen, length),
        ),
    )
    text = (
        f"{reading.note}“{name}” is token {{{{id:{chosen}|{chosen:,}}}}}, so its vector is row {chosen:,}: 576 numbers "
        f"of length {length:.2f}, where the mean over all rows is {typical:.2f}. It is the same row wherever the token "
        "stands, in any sentence."
    )
    squares = " + ".join(f"({value:.3f})^2" if value < 0 else f"{value:.3f}^2" for value in vector[:3])
    formula = rf"\lVert \resid{{w}} \rVert = \sqrt{{{squares} + \cdots}} = {number(length)}"
    return picture, text, formula, {"vector": vector, "lengths_by_id": means}


SHOWN = 12


@chapter.lab(
    "neighbours",
    title="The nearest of 49,152 rows",
    controls=[
        Text("word", "Any word (empty: your sentence)", "dog", limit=60, rows=1),
        Toggle("space", "With the space before it", True),
        Toggle("centred", "Subtract the mean row from all", False),
        Pick("part", "Token", 0),
    ],
    runs=[engine.similarities, engine.largest, engine.cosine_similarity, engine.nearest],
    snippet="""
        from engine.embeddings import nearest
        from engine.model import load
        from engine.tokenization import decode, encode

        word = {word!r}.strip()
        ids = encode((" " + word if {space} else word) if word else {sentence!r}, "smollm2")[:48]
        token = ids[{part} if 0 <= {part} < len(ids) else -1]
        table = load().weights.embedding
        found = nearest(table, table[token], 12, exclude=(token,), centre=table.mean(axis=0) if {centred} else None)
        similarities, neighbour_ids = found.similarities, found.ids
        print([decode([int(i)], "smollm2") for i in neighbour_ids], similarities.round(2))
    """,
    provenance=REAL,
    real=True,
    presets=[
        Preset("dog", {"word": "dog", "space": True, "part": 0}, "First its other spellings, then pets."),
        Preset("Monday", {"word": "Monday", "space": True, "part": 0}, "All the other days of the week."),
        Preset(
            "seven",
            {"word": "seven", "space": True, "part": 0},
            "Other numbers, and roughly in order: eight and six come before four and twelve.",
        ),
        Preset("Paris", {"word": "Paris", "space": True, "part": 0}, "A mixture: its country, and other large cities."),
        Preset("bank", {"word": "bank", "space": True, "part": 0}, "One row for all meanings: where is the river?"),
        Preset(
            "A word of two tokens",
            {"word": "waitress", "space": True, "part": 0},
            "The table has no row for the word, only for its parts.",
        ),
        Preset("A comma", {"word": ",", "space": False, "part": 0}, "Signs and the commonest words lie together."),
    ],
    height=(600, 924),
)
def neighbours(sentence: str, word: str, space: bool, centred: bool, part: int) -> tuple[Any, ...]:
    model, typed = the_model(), word.strip()
    text = (" " + typed if space else typed) if typed else sentence
    ids = encode(text, ENCODING)[:TOKEN_LIMIT]
    if not ids:
        raise ReaderError("Type a word, or a sentence into the bar at the top of the page.")
    at = within(part, len(ids))
    token, weights = ids[at], model.weights.embedding
    found, cosines = study.neighbours(model, token, SHOWN, centred), study.table_cosines(model, token, centred)
    edges, counts = study.cosine_histogram(cosines)
    alike = study.spelled_alike(found.ids, token)
    usual = float(np.mean(cosines))
    picture = stack(
        tokens(
            [{"text": piece(i), "id": i, "key": f"part:{n}"} for n, i in enumerate(ids)],
            title="Its tokens; · is a space; click one" if len(ids) > 1 else "One token; · is its space",
            pick="part",
            picked=at,
        ),
        row(
            bars(
                [named(int(i)) for i in found.ids],
                found.similarities,
                title=f"Most similar rows{', the mean row subtracted' if centred else ''}; outlined: the same letters",
                tensor="resid",
                limit=1,
                marked=alike,
                keys=[f"token:{i}" for i in found.ids],
            ),
            histogram(
                edges,
                counts,
                title=f"Cosine of “{said(token)}” with every token; the line is the nearest",
                tensor="resid",
                x_label="cosine",
                y_label="tokens",
                marker=float(found.similarities[0]),
            ),
        ),
        readouts(
            [
                ("nearest", f"{found.similarities[0]:.3f}"),
                ("mean over all tokens", f"{usual:.3f}"),
                ("rows compared", f"{len(weights):,}"),
            ]
        ),
    )
    first = int(found.ids[0])
    several = f"This is {len(ids)} tokens, and each has a row of its own; shown is “{said(token)}”. " if typed else ""
    spellings = ""
    if alike:
        spellings = (
            f" {len(alike)} of the {SHOWN} {'is' if len(alike) == 1 else 'are'} the same letters written otherwise."
        )
    text = (
        f"{several if len(ids) > 1 else ''}The row nearest to “{named(token)}” is "
        f"{lit(f'token:{first}', f'“{named(first)}” ({found.similarities[0]:.2f})')}.{spellings} The yardstick: "
        f"over all tokens the mean cosine is {usual:.2f}{yardstick(usual, centred)}."
    ).replace("-", "−")
    shift = study.table_mean(model) if centred else np.float32(0)
    a, b = weights[token] - shift, weights[first] - shift
    lengths = [float(np.sqrt(np.sum(x * x))) for x in (a, b)]
    formula = (
        r"\cos(\resid{a}, \resid{b}) = "
        r"\frac{\resid{a} \cdot \resid{b}}{\lVert \resid{a} \rVert \lVert \resid{b} \rVert}"
        rf" = \frac{{{number(float(np.sum(a * b)))}}}{{{number(lengths[0])} \times {number(lengths[1])}}}"
        rf" = {number(float(found.similarities[0]))}"
    )
    return picture, text, formula, {"similarities": found.similarities, "neighbour_ids": found.ids, "cosines": cosines}


def yardstick(usual: float, centred: bool) -> str:
    """What the mean cosine with all tokens says."""
    if centred:
        return ", now that what all rows share has been subtracted"
    if abs(usual) < 0.05:
        return ""
    return (
        ", not 0, since most rows share a part" if usual > 0 else ": it points away from the part that most rows share"
    )


# --- in the real model: directions -----------------------------------------------------------------------------------


def trio(a: str, b: str, c: str, expected: str) -> dict[str, str]:
    return {"a": a, "b": b, "c": c, "expected": expected}


@chapter.lab(
    "analogy",
    title="Arithmetic with words: a − b + c",
    controls=[
        Text("a", "a", "king", limit=40, rows=1),
        Text("b", "− b", "man", limit=40, rows=1),
        Text("c", "+ c", "woman", limit=40, rows=1),
        Text("expected", "What you expect", "queen", limit=40, rows=1),
    ],
    runs=[engine.analogy, engine.nearest, engine.similarities, engine.largest],
    snippet="""
        from engine.embedding_study import as_token
        from engine.embeddings import analogy
        from engine.model import load
        from engine.tokenization import decode

        a, b, c = (as_token(word)[0] for word in ({a!r}, {b!r}, {c!r}))
        table = load().weights.embedding
        for exclude in (True, False):
            found = analogy(table, a, b, c, 8, exclude_inputs=exclude)
            print([decode([int(i)], "smollm2") for i in found.ids], found.similarities.round(2))
        included = found.similarities
    """,
    provenance=REAL,
    real=True,
    presets=[
        Preset("king − man + woman", trio("king", "man", "woman", "queen"), "Works, even with the inputs left in."),
        Preset(
            "bigger − big + small",
            trio("bigger", "big", "small", "smaller"),
            "Works, even with the inputs left in: grammar often does.",
        ),
        Preset(
            "Tokyo − Japan + China", trio("Tokyo", "Japan", "China", "Beijing"), "Only because Tokyo is not allowed."
        ),
        Preset("kitten − cat + dog", trio("kitten", "cat", "dog", "puppy"), "Only because kitten is not allowed."),
        Preset(
            "Rome − Italy + France",
            trio("Rome", "Italy", "France", "Paris"),
            "Fails: other spellings of the inputs come first, and nobody left those out.",
        ),
        Preset("hers − she + he", trio("hers", "she", "he", "his"), "Fails: “his” has two jobs, and “hers” has one."),
        Preset("hot − cold + wet", trio("hot", "cold", "wet", "dry"), "Fails: opposites lie in no common direction."),
        Preset(
            "doctor − man + woman",
            trio("doctor", "man", "woman", "nurse"),
            "Often told as a proof of bias. Look at what comes out when doctor itself is allowed.",
        ),
    ],
    height=(600, 958),
)
def analogy(sentence: str, a: str, b: str, c: str, expected: str) -> tuple[Any, ...]:
    model = the_model()
    ids = [single(word) for word in (a, b, c)]
    wanted = single(expected) if expected.strip() else None
    solved = study.solve_analogy(model, *ids)
    names = [said(i) for i in ids]
    lists = {
        f"{names[0]} − {names[1]} + {names[2]}, these three left out": solved.excluded,
        "The same, with all tokens allowed": solved.included,
        f"No arithmetic: nearest to “{names[0]}”": solved.alone,
    }
    picture = row(
        *(
            bars(
                [named(int(i)) for i in found.ids[:8]],
                found.similarities[:8],
                title=title,
                tensor="resid",
                limit=1,
                marked=[n for n, i in enumerate(found.ids[:8]) if i == wanted],
                keys=[f"token:{i}" for i in found.ids[:8]],
            )
            for title, found in lists.items()
        )
    )
    out, inside = int(solved.excluded.ids[0]), int(solved.included.ids[0])
    text = (
        f"With the inputs left out, the nearest row is {lit(f'token:{out}', f'“{named(out)}”')}; with all tokens "
        f"allowed it is {lit(f'token:{inside}', f'“{named(inside)}”')}"
    )
    text += f", one of the inputs: {moved(inside, ids)}" if inside in ids else ". The arithmetic needs no help here."
    if wanted is not None:
        places = [ordinal(study.place_in(found, wanted)) for found in lists.values()]
        text += (
            f" “{named(wanted)}” is {places[0]} without the inputs, {places[1]} with them, and {places[2]} among the "
            f"neighbours of “{names[0]}” alone."
        )
    target = solved.included.target
    formula = (
        r"\resid{a} - \resid{b} + \resid{c}: \quad "
        + r",\quad ".join(
            rf"{number(float(x), 3)} {signed(-float(y), 3)} {signed(float(z), 3)} = {number(float(t), 3)}"
            for x, y, z, t in zip(*(model.weights.embedding[i][:2] for i in ids), target[:2], strict=True)
        )
        + r",\quad \ldots"
    )
    return (
        picture,
        text,
        formula,
        {
            "excluded": solved.excluded.similarities[:8],
            "included": solved.included.similarities[:8],
            "alone": solved.alone.similarities[:8],
        },
    )


def moved(answer: int, ids: list[int]) -> str:
    """What it means that an input is the answer."""
    if answer == ids[0]:
        return "adding and subtracting moved the vector too little to leave a."
    return "the sum stays nearer to what was added than to anything else."


def ordinal(place: int | None) -> str:
    """1 -> 1st; None -> beyond the list."""
    if place is None:
        return f"beyond the first {study.DEPTH:,}"
    ending = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place:,}{ending}"


def single(word: str) -> int:
    """The id of a word that is one token with its space. Raises ReaderError for any other."""
    ids = study.as_token(word)
    if not ids:
        raise ReaderError("Type one word for each of a, b and c.")
    if len(ids) > 1:
        parts = " · ".join(said(i) for i in ids[:6])
        raise ReaderError(
            f"“{word.strip()}” is {len(ids)} tokens here ({parts}{' …' if len(ids) > 6 else ''}), so the table has no "
            "single row for it. Choose a word that is one token."
        )
    return ids[0]


@chapter.lab(
    "map",
    title="Words on a map, pairs as arrows",
    controls=[
        Text("words", "Words; pairs with → or ->", YOUNG, limit=900, rows=3),
        Toggle("common", "Take out the direction of rarity", False),
        Toggle("mine", "Add the words of your sentence", False),
    ],
    runs=[engine.pca, study.word_map, study.take_out, engine.cosine_matrix],
    snippet="""
        from engine.embedding_study import main_direction, sentence_words, take_out, word_list, word_map
        from engine.embeddings import lookup
        from engine.model import load

        model = load()
        listed = word_list({words!r} + (", " + sentence_words({sentence!r}) if {mine} else ""))
        rows = lookup(model.weights.embedding, listed.ids)
        if {common}:
            rows = take_out(rows, main_direction(model))
        found = word_map(rows, listed.ids, listed.arrows)
        projected = found.pca.projected
        print(found.pca.explained_variance_ratio, found.agreement)
    """,
    provenance=REAL + "; the two directions in which these rows differ most",
    real=True,
    presets=[
        Preset("Young and grown", {"words": YOUNG, "common": False}, "Parallel arrows. But what do they point along?"),
        Preset(
            "Rare to common",
            {"words": RARE, "common": False},
            "Six pairs with nothing in common but this: a rare word points to a frequent one. Parallel all the same.",
        ),
        Preset("… rarity taken out", {"words": RARE, "common": True}, "The agreement in all 576 numbers is gone."),
        Preset("Capitals", {"words": CAPITALS, "common": True}, "A relation that stays without rarity."),
        Preset("Comparatives", {"words": COMPARED, "common": True}, "Grammar gives the most parallel arrows."),
        Preset("Past tense", {"words": PAST, "common": True}, "Irregular verbs: nothing in the spelling helps."),
        Preset("Opposites", {"words": OPPOSITES, "common": False}, "No direction for “opposite”."),
        Preset("Four kinds", {"words": KINDS, "common": False}, "No arrows: do kinds of words keep together?"),
    ],
    height=630,
)
def word_map(sentence: str, words: str, common: bool, mine: bool) -> tuple[Any, ...]:
    model = the_model()
    listed = study.word_list(words + (", " + study.sentence_words(sentence) if mine else ""))
    rows = engine.lookup(model.weights.embedding, np.array(listed.ids, dtype=np.int64))
    if common:
        rows = study.take_out(rows, study.main_direction(model))
    found = study.word_map(rows, listed.ids, listed.arrows)
    at, ratio = found.pca.projected, found.pca.explained_variance_ratio
    picture = stack(
        plane(
            [
                {"x": float(x), "y": float(y), "label": name, "tensor": "resid", "key": f"word:{name}",
                 "note": f"{name}: token {token:,}, at ({x:.2f}, {y:.2f})"}
                for name, token, (x, y) in zip(listed.words, listed.ids, at, strict=True)
            ],
            title=f"{len(listed.words)} rows of 576 numbers, in two dimensions",
            arrows=[
                {"x0": float(at[a, 0]), "y0": float(at[a, 1]), "x1": float(at[b, 0]), "y1": float(at[b, 1]),
                 "tensor": "resid"}
                for a, b in listed.arrows
            ],
            x_label=f"first direction: {ratio[0]:.0%} of the variance",
            y_label=f"second direction: {ratio[1]:.0%}",
        ),
        readouts(
            [
                ("variance in the picture", f"{float(np.sum(ratio)):.1%}"),
                ("agreement of the arrows here", amount(found.flat_agreement)),
                ("agreement in all 576 numbers", amount(found.agreement)),
                ("x-axis against token id: correlation", f"{abs(found.rarity):.2f}"),
            ]
        ),
    )  # fmt: skip
    text = (
        f"{missed(listed.left_out)}The picture keeps {float(np.sum(ratio)):.0%} of the variance; "
        f"{1 - float(np.sum(ratio)):.0%} is not to be seen."
    )
    if not math.isnan(found.agreement):
        text += (
            f" Two arrows have a mean cosine of {found.flat_agreement:.2f} on paper, and of {found.agreement:.2f} in "
            "all 576 numbers; arrows between tokens drawn at random come out near 0."
        ).replace("-", "−")
    formula = (
        r"\frac{\text{variance shown}}{\text{all variance}} = "
        rf"{number(float(ratio[0]), 3)} + {number(float(ratio[1]), 3)} = {number(float(np.sum(ratio)), 3)}"
    )
    if listed.arrows:
        a, b = listed.arrows[0]
        step = at[b] - at[a]
        formula += rf",\qquad \text{{first arrow}} = ({number(float(step[0]), 3)},\; {number(float(step[1]), 3)})"
    return picture, text, formula, {"projected": at, "explained_variance_ratio": ratio}


def amount(value: float) -> str:
    return "needs two arrows" if math.isnan(value) else f"{value:.2f}".replace("-", "−")


def missed(left_out: tuple[tuple[str, int], ...]) -> str:
    """What to say of words that are several tokens."""
    if not left_out:
        return ""
    shown = ", ".join(f"“{word}” ({count} tokens)" for word, count in left_out[:4])
    more = f" and {len(left_out) - 4} more" if len(left_out) > 4 else ""
    return f"Left out, having no single row: {shown}{more}. "


# --- in the real model: context --------------------------------------------------------------------------------------


def pair(one: str, two: str, word: str, **more: Any) -> dict[str, Any]:
    return {"one": one, "two": two, "word": word, "mine": False, "centred": False, **more}


@chapter.lab(
    "drift",
    title="One word, two sentences, 30 layers",
    controls=[
        Text("one", "First sentence", RIVER, limit=300, rows=2),
        Text("two", "Second sentence", LOAN, limit=300, rows=2),
        Text("word", "Word (empty: one that both share)", "bank", limit=40, rows=1),
        Slider("layer", "Layer", 20, 0, 30),
        Toggle("centred", "Subtract what all vectors share", False),
        Toggle("mine", "Your sentence as the first", False),
    ],
    runs=[study.drift, study.streams, engine.cosine_similarity, engine.cosine_matrix, study.common_part],
    snippet="""
        from engine.embedding_study import common_part, drift, find_word, shared_words, streams
        from engine.model import load
        from engine.tokenization import encode

        one, two = ({sentence!r} if {mine} else {one!r}), {two!r}
        word = {word!r}.strip() or shared_words(one, two)[0]
        at = tuple(find_word(text, word, 48).at for text in (one, two))
        ids = tuple(encode(text, "smollm2")[:48] for text in (one, two))
        model = load()
        centre = common_part(model) if {centred} else None
        found = drift(streams(model, ids[0]), streams(model, ids[1]), at, ids, centre)
        similarity, baseline = found.similarity, found.baseline
        print(similarity.round(3))
    """,
    provenance=REAL + ", run on both sentences",
    real=True,
    presets=[
        Preset("Two meanings", pair(RIVER, LOAN, "bank"), "A river bank and a money bank."),
        Preset("One meaning", pair(RIVER, STREAM, "bank"), "Twice a river bank: does it stay higher?"),
        Preset(
            "… common part subtracted",
            pair(RIVER, LOAN, "bank", centred=True),
            "The yardstick falls to nearly 0, and the drift shows.",
        ),
        Preset(
            "What comes after does not count",
            pair("The bank of the river was muddy.", "The bank of England raised its rates.", "bank"),
            "River or England: it is said too late. A causal model never looks ahead.",
        ),
        Preset(
            "A bat and a bat",
            pair("He hit the ball with a wooden bat.", "In the dark cave slept a bat.", "bat"),
            "A club and an animal.",
        ),
        Preset(
            "Same meaning, large drift",
            pair("The animal did not cross the street.", "They live on a quiet street.", "street", centred=True),
            "Position, grammar and what comes next change a vector too: a low cosine is no proof of another meaning.",
        ),
        Preset(
            "Your sentence",
            {"mine": True, "two": "They live on a quiet street with an animal.", "word": "", "centred": False},
            "The sentence at the top of the page against another one; they must share a word.",
        ),
    ],
    height=1300,
)
def drift(sentence: str, one: str, two: str, word: str, layer: int, centred: bool, mine: bool) -> tuple[Any, ...]:
    model, texts = the_model(), (sentence if mine else one, two)
    sought = chosen_word(texts, word)
    places = [found_in(text, sought, n) for n, text in enumerate(texts)]
    ids = (encode(texts[0], ENCODING)[:TOKEN_LIMIT], encode(texts[1], ENCODING)[:TOKEN_LIMIT])
    at = (places[0].at, places[1].at)
    centre = study.common_part(model) if centred else None
    found = study.drift(study.streams(model, ids[0]), study.streams(model, ids[1]), at, ids, centre)
    layers, now, usual = range(31), float(found.similarity[layer]), float(found.baseline[layer])
    pieces = [[piece(i) for i in part] for part in ids]
    picture = stack(
        *(
            tokens(
                [{"text": text, "key": f"{n}:{i}"} for i, text in enumerate(part)],
                title=f"{('First', 'Second')[n]} sentence",
                show=["no-ids"],
                marked=[at[n]],
            )
            for n, part in enumerate(pieces)
        ),
        curve(
            [
                (f"“{sought}” in one and “{sought}” in the other", layers, found.similarity),
                ("two different tokens, on average", layers, found.baseline),
            ],
            title="Cosine" + (", the common part subtracted" if centred else ""),
            x_label="layer (0: the table's row)",
            y_label="cosine",
            tensors=["resid", "tokens"],
            marker=(layer, now),
        ),
        row(
            matrix(
                found.cosines[layer],
                f"Layer {layer}: every token of the first with every token of the second",
                "resid",
                "cosines",
                rows=pieces[0],
                columns=pieces[1],
                limit=1,
                digits=2,
                picked=at[0] if max(map(len, pieces)) <= 16 else list(at),
            ),
            curve(
                [
                    (f"“{sought}”", layers, found.lengths[:, 0]),
                    ("the first token", layers, found.first_lengths[:, 0]),
                ],
                title="Length of the vectors in the first sentence",
                x_label="layer",
                y_label="length",
                tensors=["resid", "tokens"],
                log_y=True,
            ),
        ),
    )
    start = "one and the same row" if ids[0][at[0]] == ids[1][at[1]] else "two different tokens"
    when = f"After layer {layer}" if layer else "There"
    text = (
        f"“{sought}” starts as {start} (layer 0: cosine {found.similarity[0]:.6g}). {when} its two vectors have a "
        f"cosine of {now:.3f}{' with the common part subtracted' if centred else ''}, against {usual:.3f} on average "
        f"between two different tokens of these sentences. {remarks(ids, at, places)}"
    ).strip()
    sizes = found.lengths[layer]
    formula = (
        (
            rf"\cos(\resid{{x}}, \resid{{y}}) = "
            rf"\frac{{\resid{{x}} \cdot \resid{{y}}}}{{\lVert \resid{{x}} \rVert \lVert \resid{{y}} \rVert}} = "
            rf"\frac{{{number(now * float(sizes[0]) * float(sizes[1]))}}}{{{number(float(sizes[0]))} \times "
            rf"{number(float(sizes[1]))}}} = {number(now)}"
        )
        if not centred
        else (
            rf"\cos(\resid{{x}} - \resid{{m}},\; \resid{{y}} - \resid{{m}}) = {number(now)}"
            rf"\qquad \resid{{m}}:\; \text{{the mean vector of layer }} {layer}"
        )
    )
    data = {"similarity": found.similarity, "baseline": found.baseline, "cosines": found.cosines[layer],
            "lengths": found.lengths, "first_lengths": found.first_lengths}  # fmt: skip
    return picture, text, formula, data


def chosen_word(texts: tuple[str, str], word: str) -> str:
    """What the reader typed, or the longest word that both sentences have. Raises ReaderError where there is none."""
    if word.strip():
        return word.strip()
    shared = study.shared_words(*texts)
    if not shared:
        raise ReaderError("The two sentences share no word. Change one of them, or type a word that both have.")
    return shared[0]


def found_in(text: str, word: str, which: int) -> study.Found:
    """Where the word stands. Raises ReaderError where it does not."""
    found = study.find_word(text, word, TOKEN_LIMIT)
    if found is None:
        raise ReaderError(
            f"The word “{word}” does not stand in the {('first', 'second')[which]} sentence (of long ones the first "
            f"{TOKEN_LIMIT} tokens are read). Type a word that both have."
        )
    return found


def remarks(ids: tuple[list[int], ...], at: tuple[int, int], places: list[study.Found]) -> str:
    """What a reader must know about this word in these sentences."""
    said = []
    if ids[0][: at[0] + 1] == ids[1][: at[1] + 1]:
        said.append("Everything up to the word is the same, and a model cannot look ahead: its vectors stay the same.")
    elif 0 in at:
        said.append("A first token is a case of its own: its vector grows many times longer than all others.")
    if max(place.tokens for place in places) > 1:
        said.append("The word is several tokens; the last one is compared, which has seen the others.")
    if max(place.times for place in places) > 1:
        said.append("Where the word stands several times, the last one is taken.")
    return " ".join(said)


# --- numbers of the prose --------------------------------------------------------------------------------------------


@chapter.number
def table_numbers() -> int:
    return SMOLLM2.vocabulary * SMOLLM2.width


@chapter.number
def table_share() -> str:
    return f"{SMOLLM2.vocabulary * SMOLLM2.width / SMOLLM2.parameters:.0%}"


@chapter.number
def words() -> int:
    return len(counting.count_embeddings(counting.STORY).words)


@chapter.number
def width() -> int:
    return counting.WIDTH


@chapter.number
def twins() -> str:
    """How alike the rows of king and queen come out by counting."""
    counted = counting.count_embeddings(counting.STORY)
    king, queen = (counted.table[counted.place(word)] for word in ("king", "queen"))
    return f"{float(engine.cosine_similarity(king, queen)):.2f}"


# --- check yourself --------------------------------------------------------------------------------------------------


@chapter.answer
def like_the_wug() -> str:
    counted = counting.count_embeddings(counting.STORY + "The wug drank milk. The wug caught a mouse.")
    at = counted.place("wug")
    return counted.words[int(engine.nearest(counted.table, counted.table[at], 1, exclude=(at,)).ids[0])]


@chapter.answer
def tokyo_allowed() -> str:
    solved = study.solve_analogy(the_model(), *(single(word) for word in ("Tokyo", "Japan", "China")))
    return said(int(solved.included.ids[0]))


@chapter.answer
def too_late() -> float:
    texts = "The bank of the river was muddy.", "The bank of England raised its rates."
    ids = (encode(texts[0], ENCODING), encode(texts[1], ENCODING))
    one, two = (study.streams(the_model(), part) for part in ids)
    return round(float(study.drift(one, two, (1, 1), ids).similarity[-1]), 4)


chapter.code["lookup"] = engine.lookup
chapter.code["cosine_similarity"] = engine.cosine_similarity

register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
