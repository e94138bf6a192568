"""Multi-head attention. The labs of the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from dash import register_page

from engine import attention_study, kv_cache
from engine import head_study as study
from engine import multi_head as engine
from engine import word_heads as words
from engine.attention import attention
from engine.edits import switch_off_head
from engine.ledger import CONFIGS
from engine.sampling import softmax, surprisal
from pages._reading import piece, read, spoken
from ui.chapter import Chapter
from ui.controls import Choice, Pick, Slider, Toggle, within
from ui.figures import (
    arcs,
    bars,
    curve,
    heads_map,
    matrix,
    network,
    readouts,
    row,
    sign,
    stack,
    table,
    thumbnails,
    tokens,
)
from ui.lab import Preset
from ui.mathml import bracketed, number, signed

chapter = Chapter(__name__, Path(__file__).parent)

HEAD_NAMES = [f"{i + 1}: {name}" for i, name in enumerate(words.HEADS)]
SIDE_BY_SIDE = [f"{head + 1}·{trait}" for head, taken in enumerate(words.TAKEN) for trait in taken]


# --- hand-sized ----------------------------------------------------------------------------------------------------


@chapter.lab(
    "heads",
    title="Four heads, one sentence",
    controls=[
        Choice("example", "Sentence", "speeding", dict(words.SENTENCES)),
        Choice("projections", "Projections", "own", words.PROJECTIONS),
        Toggle("causal", "Causal mask", True),
        Toggle("matrices", "Show the head's three matrices", True),
        Pick("head", "Head", 2),
        Pick("word", "Word that asks", -1),
    ],
    runs=[words.attend, engine.split_heads, engine.grouped_query_attention, attention, softmax],
    snippet="""
        from engine.word_heads import SENTENCES, attend

        result = attend(SENTENCES[{example!r}], projections={projections!r}, causal={causal})
        weights, found = result.attention.weights, result.found
        print(weights.shape, weights.round(2))
    """,
    provenance="Hand-set traits and projections; everything after them is computed live",
    presets=[
        Preset(
            "Who is speeding?",
            {"example": "speeding", "head": 2, "word": -1, "projections": "own", "causal": True},
            "Head 3.",
        ),
        Preset(
            "What is the wall like?",
            {"example": "speeding", "head": 1, "word": 7, "projections": "own", "causal": True},
            "Head 2 takes the nearest quality.",
        ),
        Preset(
            "Swap two heads",
            {"projections": "swapped", "example": "speeding", "head": 2, "word": -1, "causal": True},
            "Head 1 now does what head 3 did: the job sits in the matrices.",
        ),
        Preset(
            "Look alike, take different",
            {"projections": "same-qk", "example": "speeding", "head": 2, "word": -1, "causal": True},
            "One pattern, four different values.",
        ),
        Preset(
            "All heads become one",
            {"projections": "same", "example": "speeding", "head": 2, "word": -1, "causal": True},
            "Four times the work for a single answer.",
        ),
        Preset(
            "Fooled",
            {"example": "short", "head": 1, "word": -1, "projections": "own", "causal": True},
            "No quality stands at the wall, so head 2 hands it the car's.",
        ),
    ],
    height=1614,
)
def heads(example: str, projections: str, causal: bool, matrices: bool, head: int, word: int) -> tuple[Any, ...]:
    result = words.attend(words.SENTENCES[example], projections=projections, causal=causal)
    names, count = [*result.words], len(result.words)
    at, h = within(word, count), within(head, 4)
    asker, weights, scores = names[at], result.attention.weights, result.attention.masked
    axes = [str(i + 1) for i in range(3)]
    taken = words.TAKEN[h] if projections == "own" else axes
    shown = [
        ("W_Q", result.w_q[h], "q", matrix(
            result.q[h, at], "q = x W_Q: (1 × 12)(12 × 3) → (1 × 3)", "q", columns=axes, digits=2,
            product=("x", "W_Q") if matrices else None,
        )),
        ("W_K", result.w_k[h], "k", matrix(
            result.k[h], f"K = X W_K: ({count} × 12)(12 × 3) → ({count} × 3)", "k", rows=names, columns=axes, digits=2,
            key_rows="token",
        )),
        ("W_V", result.w_v[h], "v", matrix(
            result.v[h], f"V = X W_V: ({count} × 12)(12 × 3) → ({count} × 3)", "v", rows=names, columns=taken, digits=2,
            key_rows="token",
        )),
    ]  # fmt: skip
    projected = [
        stack(
            *(
                [
                    matrix(
                        w, f"{label} of head {h + 1} (12 × 3)", tensor, label, rows=words.TRAITS, columns=axes, digits=1
                    )
                ]
                if matrices
                else []
            ),
            made,
        )
        for label, w, tensor, made in shown
    ]
    path = [
        matrix(
            result.x[at],
            f"x, the row of “{asker}” in X: 1 × 12 of {count} × 12",
            "resid",
            "x",
            columns=words.TRAITS,
            digits=2,
        ),
        row(*projected),
        matrix(
            scores[h, at],
            f"Scores: q Kᵀ / √3, (1 × 3)(3 × {count}) → (1 × {count})",
            "attn",
            "scores",
            columns=names,
            limit=12,
            product=("q", "k.T"),
            divide=3**0.5,
            digits=2,
            key_columns="token",
        ),
        matrix(
            weights[h, at],
            f"Weights: softmax of the scores, (1 × {count}) → (1 × {count}), sum 1",
            "attn",
            "weights",
            columns=names,
            scale="share",
            digits=3,
            key_columns="token",
        ),
        matrix(
            result.found[h, at],
            f"What head {h + 1} found for “{asker}”: weights · V, (1 × {count})({count} × 3) → (1 × 3)",
            "v",
            "found",
            columns=taken,
            digits=3,
            product=("weights", "v"),
        ),
    ]
    picture = stack(
        arcs(names, weights[h, at], title=f"Head {h + 1}: click a word to ask", selected=at, pick="word"),
        matrix(
            weights[:, at],
            f"Where “{asker}” looks, in all four heads; click a head to open it",
            "attn",
            "all",
            rows=HEAD_NAMES if projections == "own" else [f"head {i + 1}" for i in range(4)],
            columns=names,
            scale="share",
            pick="head",
            picked=h,
            digits=2,
            key_columns="token",
        ),
        *path,
    )
    tops = [int(np.argmax(weights[i, at])) for i in range(4)]
    sentence = f"For “{asker}”, the largest weight of each head: " + ", ".join(
        f"head {i + 1} on {{{{token:{top}|“{names[top]}” {weights[i, at, top]:.0%}}}}}" for i, top in enumerate(tops)
    )
    sentence += {
        "own": ". Same words, same formula: only the matrices differ.",
        "swapped": ". Heads 1 and 3 have exchanged their matrices, and with them their jobs.",
        "same-qk": ". All look at the same words, but each still takes other traits from them.",
        "same": ". Four times the same matrices are one head, computed four times.",
    }[projections]
    best = tops[h]
    products = " + ".join(
        rf"\q{{{bracketed(a, 3)}}} \cdot \k{{{bracketed(b, 3)}}}"
        for a, b in zip(result.q[h, at], result.k[h, best], strict=True)
    )
    score = number(scores[h, at, best])
    formula = rf"\frac{{\q{{q}} \cdot \k{{k}}}}{{\sqrt{{3}}}} = \frac{{{products}}}{{\sqrt{{3}}}} = \attn{{{score}}}"
    return picture, sentence, formula, {"weights": weights, "found": result.found, "q": result.q, "k": result.k}


@chapter.lab(
    "typed-in",
    title="An arrow that nobody computed",
    controls=[
        Slider("bonus", "Typed in for “blue” → “car”", 0.0, 0.0, 3.0, 0.05),
        Toggle("causal", "Causal mask", False),
    ],
    runs=[words.typed_in, attention, softmax],
    snippet="""
        from engine.word_heads import typed_in

        result = typed_in({bonus}, causal={causal})
        weights, scores = result.weights, result.scores
        print(weights[1].round(3))
    """,
    provenance="Hand-set queries and keys of one head; everything after them is computed live",
    presets=[
        Preset("Q · K alone", {"bonus": 0.0, "causal": False}, "What the query and the key really say."),
        Preset("Make it 56 %", {"bonus": 1.6, "causal": False}, "More is typed in than was computed."),
        Preset("As a decoder sees it", {"bonus": 1.6, "causal": True}, "No bonus gets past minus infinity."),
    ],
    height=600,
)
def typed_in(bonus: float, causal: bool) -> tuple[Any, ...]:
    result, honest = words.typed_in(bonus, causal=causal), words.typed_in(0.0, causal=causal)
    names, blue, car = [*words.SIX_WORDS], 1, 2
    picture = stack(
        arcs(names, result.weights[blue], title="Where “blue” looks", selected=blue),
        row(
            matrix(words.SIX_QUERIES[[blue]], "Query of “blue”", "q", digits=2),
            matrix(words.SIX_KEYS, "Keys", "k", rows=names, digits=3, key_rows="token"),
        ),
        matrix(
            np.stack([result.scores[blue], result.masked[blue], result.weights[blue]]),
            "From q · k / √3 to what the softmax gets, to weights",
            "attn",
            "steps",
            rows=["q · k / √3", "with what was typed in" + (", and the mask" if causal else ""), "weight"],
            columns=names,
            scale="none",
            digits=3,
            key_columns="token",
        ),
    )
    score, weight = float(result.scores[blue, car]), float(result.weights[blue, car])
    if causal:
        sentence = (
            "Under the causal mask “blue” cannot see “car”, which comes after it: "
            f"{{{{token:{car}|{weight:.1%}}}}}, whatever is typed in. It is “car” that can look back at “blue”."
        )
    else:
        sentence = (
            f"Its own query and key give “blue” a score of {score:.3f} for “car”, and a weight of "
            f"{honest.weights[blue, car]:.1%}. With {bonus:g} typed in it is {{{{token:{car}|{weight:.1%}}}}}."
        )
    products = " + ".join(
        rf"\q{{{a:g}}} \cdot \k{{{b:g}}}" for a, b in zip(words.SIX_QUERIES[blue], words.SIX_KEYS[car], strict=True)
    )
    formula = rf"\frac{{{products}}}{{\sqrt{{3}}}} + {bonus:g} = {score:.3f} + {bonus:g} = \attn{{{score + bonus:.3f}}}"
    return picture, sentence, formula, {"weights": result.weights, "scores": result.scores}


@chapter.lab(
    "join",
    title="Side by side, then through W_O",
    controls=[
        Choice("example", "Sentence", "speeding", dict(words.SENTENCES)),
        Choice("output", "W_O", "hand", {"hand": "Set by hand", "identity": "Identity", "random": "Random"}),
        *(Toggle(f"on{i + 1}", f"Head {i + 1} on", True) for i in range(4)),
        Pick("word", "Word", -1),
    ],
    runs=[words.attend, engine.merge_heads, engine.head_contributions],
    snippet="""
        from engine.word_heads import OUTPUTS, SENTENCES, attend

        switches = ({on1}, {on2}, {on3}, {on4})
        result = attend(SENTENCES[{example!r}], on=switches, w_o=OUTPUTS[{output!r}])
        parts, out = result.parts, result.out
        print(abs(parts.sum(axis=0) - out).max())
    """,
    provenance="Hand-set traits and projections; everything after them is computed live",
    presets=[
        Preset("All four", {"output": "hand", "on1": True, "on2": True, "on3": True, "on4": True}),
        Preset(
            "Without head 3",
            {"output": "hand", "on1": True, "on2": True, "on3": False, "on4": True, "word": -1},
            "The rest stays as it was, to the last digit.",
        ),
        Preset("W_O = identity", {"output": "identity"}, "Then each head writes into three numbers of its own."),
        Preset("Random W_O", {"output": "random"}, "The two ways agree for any matrix."),
    ],
    height=1108,
)
def join(example: str, output: str, word: int, **switches: bool) -> tuple[Any, ...]:
    on = (switches["on1"], switches["on2"], switches["on3"], switches["on4"])
    result = words.attend(words.SENTENCES[example], on=on, w_o=words.OUTPUTS[output])
    names = [*result.words]
    at = within(word, len(names))
    summed = result.parts[:, at].sum(axis=0)
    gap = float(np.max(np.abs(result.parts.sum(axis=0) - result.out)))
    picture = stack(
        tokens(
            [{"text": name} for name in names], title="Whose row? Click a word", pick="word", picked=at, show=["plain"]
        ),
        matrix(
            result.joined[at],
            f"Joined: what the four heads found for “{names[at]}”, 4 × 3 = 12 numbers",
            "v",
            "joined",
            columns=SIDE_BY_SIDE,
            digits=2,
            limit=1,
        ),
        sign("↓  · W_O:  (1 × 12)(12 × 12) → (1 × 12)"),
        matrix(
            result.w_o,
            "W_O (12 × 12): rows 1 to 3 belong to head 1, 4 to 6 to head 2, and so on",
            "attn",
            "w_o",
            rows=SIDE_BY_SIDE,
            columns=words.TRAITS,
            digits=1,
            limit=1,
        ),
        matrix(
            result.out[at],
            "One way: joined · W_O",
            "resid",
            "out",
            columns=words.TRAITS,
            digits=3,
            limit=1,
            product=("joined", "w_o"),
        ),
        matrix(
            np.concatenate([result.parts[:, at], summed[None]]),
            "The other way: each head's 3 numbers through its own 3 rows, then summed",
            "resid",
            "parts",
            rows=[*HEAD_NAMES, "sum"],
            columns=words.TRAITS,
            digits=3,
            limit=1,
        ),
        readouts([("largest difference of the two ways, all words", _tiny(gap))]),
        matrix(
            result.x[at] + result.out[at],
            f"The stream of “{names[at]}” afterwards: x + output",
            "resid",
            "after",
            columns=words.TRAITS,
            digits=2,
            limit=1,
        ),
    )
    writes = np.linalg.norm(result.parts[:, at], axis=-1)
    most, least = int(np.argmax(writes)), int(np.argmin(writes))
    sentence = (
        f"For “{names[at]}”, head {most + 1} writes the most (length {writes[most]:.3g}), head {least + 1} the least "
        f"({writes[least]:.2g}). Joined and multiplied, or multiplied and summed: "
        + ("the same numbers, to the last digit." if not gap else f"the same numbers, up to rounding of {_tiny(gap)}.")
    )
    column = int(np.argmax(np.abs(result.out[at])))
    first, *others = result.parts[:, at, column]
    terms = " ".join([number(first, 3), *(signed(part, 3) for part in others)])
    trait = words.TRAITS[column].split()[0]
    formula = rf"\resid{{\text{{{trait}}}}} = {terms} = \resid{{{number(result.out[at, column])}}}"
    return picture, sentence, formula, {"parts": result.parts, "out": result.out, "joined": result.joined}


def _tiny(gap: float) -> str:
    return f"{gap:.0e}" if gap else "0"


QUERY_HEADS = 9


@chapter.lab(
    "sharing",
    title="Who reads whose keys and values?",
    controls=[
        Choice(
            "kv_heads",
            "Key/value heads",
            "3",
            {
                "9": "9: multi-head (MHA)",
                "3": "3: grouped-query (GQA), as in SmolLM2",
                "1": "1: multi-query (MQA)",
            },
        ),
        Slider("seed", "Seed", 1, 0, 99),
        Pick("head", "Query head", 4),
    ],
    runs=[engine.grouped_query_attention, attention],
    snippet="""
        import numpy as np
        from engine.attention import attention
        from engine.multi_head import grouped_query_attention

        kv_heads = {kv_heads}
        rng = np.random.default_rng({seed})
        q, k, v = (rng.normal(size=(heads, 4, 4)) for heads in (9, kv_heads, kv_heads))
        grouped = grouped_query_attention(q, k, v).output
        reads = np.arange(9) // (9 // kv_heads)
        repeated = attention(q, k[reads], v[reads]).output
        print(abs(grouped - repeated).max())
    """,
    provenance="Random numbers, computed live",
    presets=[
        Preset("Multi-head", {"kv_heads": "9"}, "Every query head has keys and values of its own."),
        Preset("Grouped", {"kv_heads": "3"}, "Three query heads ask the same keys."),
        Preset("Multi-query", {"kv_heads": "1"}, "Nine questions, one set of answers."),
    ],
    height=956,
)
def sharing(kv_heads: str, seed: int, head: int) -> tuple[Any, ...]:
    count = int(kv_heads)
    group = QUERY_HEADS // count
    rng = np.random.default_rng(seed)
    q, k, v = (rng.normal(size=(heads, 4, 4)) for heads in (QUERY_HEADS, count, count))
    grouped = engine.grouped_query_attention(q, k, v).output
    reads = np.arange(QUERY_HEADS) // group
    repeated = attention(q, k[reads], v[reads]).output
    h = head if 0 <= head < QUERY_HEADS else group * within(head - QUERY_HEADS, count)
    gap = float(np.max(np.abs(grouped - repeated)))
    names = [f"token {i + 1}" for i in range(4)]
    others = _listed([i for i in range(QUERY_HEADS) if reads[i] == reads[h] and i != h]) if group > 1 else ""
    picture = stack(
        _readers(count, group, h),
        row(
            matrix(q[h], f"Q of head {h} (4 × 4)", "q", rows=names, limit=3, digits=3),
            matrix(k[reads[h]], f"K of key/value head {reads[h]}", "k", rows=names, limit=3, digits=3),
        ),
        row(
            matrix(grouped[h], "Output, keys and values shared", "v", "grouped", rows=names, limit=3),
            sign("="),
            matrix(repeated[h], "Output, keys and values copied for each head", "v", "repeated", rows=names, limit=3),
        ),
        readouts(
            [
                ("largest difference, all 9 heads", _tiny(gap)),
                ("numbers kept a token", f"{2 * count * 4} instead of {2 * QUERY_HEADS * 4}"),
            ]
        ),
    )
    sentence = (
        f"Query head {h} reads key/value head {reads[h]}"
        + (f", together with heads {others}. " if group > 1 else ", and no one else does. ")
        + f"Copying the shared keys and values for every head changes the result by {_tiny(gap)}."
    )
    formula = (
        r"\left\lfloor \frac{h}{H / K} \right\rfloor = "
        rf"\left\lfloor \frac{{{h}}}{{{QUERY_HEADS} / {count}}} \right\rfloor = \k{{{reads[h]}}}"
    )
    return picture, sentence, formula, {"grouped": grouped, "repeated": repeated, "reads": reads}


def _readers(count: int, group: int, chosen: int) -> Any:
    """Query heads on the left, the key/value heads that they read on the right."""
    asking = [
        {
            "id": f"q{i}",
            "label": f"query {i}",
            "column": 0,
            "row": i,
            "tensor": "q",
            "note": f"Query head {i} reads key/value head {i // group}.",
        }
        for i in range(QUERY_HEADS)
    ]
    read = [
        {
            "id": f"k{j}",
            "label": f"K and V {j}",
            "column": 1,
            "row": j * group + (group - 1) / 2,
            "tensor": "k",
            "note": f"Key/value head {j} is read by query heads {j * group} to {j * group + group - 1}.",
        }
        for j in range(count)
    ]
    edges = [
        {"from": f"q{i}", "to": f"k{i // group}", "value": 1.0 if i == chosen else 0.25, "text": ""}
        for i in range(QUERY_HEADS)
    ]
    title = "Click a query head"
    return network([*asking, *read], edges, title=title, pick="head", picked=chosen, gap=(150, 54))


WIDTHS = {"2": "16 bits", "1": "8 bits", "4": "32 bits"}


@chapter.lab(
    "cache",
    title="What sharing saves",
    controls=[
        Choice("model", "Model", "Llama 3.1 8B", {name: name for name in CONFIGS}),
        Slider("power", "Tokens in the context: 2 to the power", 13, 6, 17),
        Choice("precision", "Each number in", "2", WIDTHS),
    ],
    runs=[kv_cache.bytes_per_token, kv_cache.with_every_sharing],
    snippet="""
        from engine.kv_cache import bytes_per_token, with_every_sharing
        from engine.ledger import CONFIGS

        options = with_every_sharing(CONFIGS[{model!r}])
        sizes = [bytes_per_token(option, {precision}) * 2**{power} for option in options]
        print([(option.kv_heads, size) for option, size in zip(options, sizes)])
    """,
    provenance="Published sizes of real models, counted live",
    presets=[
        Preset("Llama 3.1 8B, full context", {"model": "Llama 3.1 8B", "power": 17}),
        Preset(
            "GPT-2 shares nothing", {"model": "GPT-2", "power": 10}, "Twelve query heads, twelve of keys and values."
        ),
        Preset("Gemma 2B shares everything", {"model": "Gemma 2B", "power": 13}, "Multi-query: one for all eight."),
        Preset("SmolLM2", {"model": "SmolLM2-135M", "power": 13, "precision": "4"}, "In 32 bits, as it runs here."),
    ],
    height=608,
)
def cache(model: str, power: int, precision: str) -> tuple[Any, ...]:
    config, count, width = CONFIGS[model], 2**power, int(precision)
    options = kv_cache.with_every_sharing(config)
    sizes = np.array([kv_cache.bytes_per_token(option, width) * count for option in options])
    own = kv_cache.bytes_per_token(config, width)
    published = next(i for i, option in enumerate(options) if option.kv_heads == config.kv_heads)
    kinds = [
        "multi-head" if o.kv_heads == o.heads else "multi-query" if o.kv_heads == 1 else "grouped" for o in options
    ]
    picture = stack(
        bars(
            [f"{o.kv_heads} K/V heads" if o.kv_heads > 1 else "1 K/V head" for o in options],
            sizes / 1e9,
            title=f"{model}: KV cache of one text of {count:,} tokens, in GB (its own marked)",
            tensor="k",
            unit="GB",
            notes=kinds,
            marked=[published],
        ),
        table(
            ["model", "query heads", "K/V heads", "read by", "bytes a token", f"{count:,} tokens"],
            [
                [
                    c.name,
                    c.heads,
                    c.kv_heads,
                    f"{c.heads // c.kv_heads} each",
                    f"{kv_cache.bytes_per_token(c, width):,}",
                    _bytes(kv_cache.bytes_per_token(c, width) * count),
                ]
                for c in CONFIGS.values()
            ],
            title=f"Real models, {WIDTHS[precision]} a number",
            marked=[list(CONFIGS).index(model)],
        ),
    )
    saved = sizes[0] / sizes[published]
    text = f"{model} keeps {own:,} bytes a token, {_bytes(own * count)} for {count:,} tokens. " + (
        f"With keys and values for each of its {config.heads} query heads it would be {saved:g} times as much."
        if saved > 1
        else "Every query head has keys and values of its own; nothing is shared."
    )
    beyond = (
        f" Its context ends at {config.context:,} tokens, so this is more than it can read."
        if count > config.context
        else ""
    )
    formula = (
        rf"2 \cdot {config.layers} \text{{ layers}} \cdot \k{{{config.kv_heads}}} \text{{ heads}} \cdot "
        rf"{config.head_dim} \cdot {width} \text{{ bytes}} = {own} \text{{ bytes a token}}"
    )
    return picture, text + beyond, formula, {"sizes": sizes}


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


# --- in the real model -----------------------------------------------------------------------------------------------


LAYERS, HEADS, GROUP = 30, 9, 3
SEEDS = {str(seed): f"Seed {seed}" for seed in range(5)}


@chapter.lab(
    "maps",
    title="All 270 heads on your sentence",
    controls=[
        Pick("layer", "Layer", 16),
        Pick("head", "Head", 0),
        Pick("query", "Token that asks", -1),
    ],
    runs=[attention, attention_study.first_token_share, attention_study.previous_token_share],
    snippet="""
        import numpy as np
        from engine.model import load
        from engine.tokenization import encode

        trace = load().trace(encode({sentence!r}, "smollm2")[:48])
        weights = np.stack([trace[f"blk.{{layer}}.attn.weights"] for layer in range(30)])
        print(weights.shape)
    """,
    provenance="SmolLM2's real weights, on the sentence at the top of the page",
    real=True,
    presets=[
        Preset("One step back", {"layer": 16, "head": 0}, "A stripe right below the diagonal."),
        Preset("The first token", {"layer": 18, "head": 8}, "A single strong column: it waits there."),
        Preset("Itself", {"layer": 11, "head": 6}, "The diagonal."),
        Preset("Wide", {"layer": 0, "head": 1}, "Hardly a pattern: it averages what came before."),
    ],
    height=(1049, 1896),
)
def maps(sentence: str, layer: int, head: int, query: int) -> tuple[Any, ...]:
    reading = read(sentence, least=2)
    layer, head, names = within(layer, LAYERS), within(head, HEADS), [*reading.pieces]
    every = np.stack([reading.trace[f"blk.{i}.attn.weights"] for i in range(LAYERS)])
    weights, asks = every[layer, head], within(query, len(names))
    first, previous = attention_study.first_token_share(every), attention_study.previous_token_share(every)
    own = attention_study.own_token_share(every)
    picture = stack(
        thumbnails(
            every,
            title="Every head of every layer: rows ask, columns are asked; click one to open it",
            pick=["layer", "head"],
            picked=[layer, head],
        ),
        matrix(
            weights,
            f"Layer {layer}, head {head}: click a row to ask",
            "attn",
            "weights",
            rows=names,
            columns=names,
            scale="share",
            pick="query",
            picked=asks,
            digits=2,
        ),
        arcs(names, weights[asks], title=f"Where “{spoken(names[asks])}” looks in it", selected=asks, pick="query"),
        readouts(
            [
                ("to the first token", f"{first[layer, head]:.1%}"),
                ("to the token before", f"{previous[layer, head]:.1%}"),
                ("to the token itself", f"{own[layer, head]:.1%}"),
                ("key/value head it reads", str(head // GROUP)),
            ]
        ),
    )
    text = (
        f"{reading.note}Layer {layer}, head {head} gives on average {first[layer, head]:.0%} of its attention to "
        f"the first token, {previous[layer, head]:.0%} to the token before, and {own[layer, head]:.0%} to the token "
        f"itself. Of the 270 heads, {int(np.sum(first > 0.5))} give more than half to the first token, "
        f"{int(np.sum(previous > 0.5))} to the token before."
    )
    formula = (
        rf"\attn{{W}} = \mathrm{{softmax}}\left("
        rf"\frac{{\q{{Q_{{{head}}}}} \k{{K_{{{head // GROUP}}}}}^\top}}{{\sqrt{{64}}}}\right), \quad "
        rf"({len(names)} \times 64)(64 \times {len(names)}) \to {len(names)} \times {len(names)}"
    )
    return picture, text, formula, {"weights": every, "first": first, "previous": previous}


TWICE = {**{seed: f"Random tokens, {label.lower()}" for seed, label in SEEDS.items()}, "own": "Your sentence"}
HALF = 24  # tokens of the reader's sentence that are read twice


@chapter.lab(
    "copying",
    title="The same twice",
    controls=[Choice("text", "What comes twice", "0", TWICE), Pick("token", "Token", 35)],
    runs=[study.read_twice, study.repeated_random_ids, study.copied, surprisal],
    snippet="""
        from engine.head_study import PERIOD, copied, read_twice, repeated_random_ids
        from engine.model import load
        from engine.tokenization import encode

        what = {text!r}
        once = encode({sentence!r}, "smollm2")[:24] if what == "own" else repeated_random_ids(int(what))[:PERIOD]
        surprisals = read_twice(load(), once).surprisal
        print(copied(surprisals))
    """,
    provenance="SmolLM2's real weights, on 20 random tokens or your sentence, twice in a row",
    real=True,
    presets=[
        Preset("Random tokens", {"text": "0", "token": 35}, "Only copying can help here."),
        Preset("Where it begins", {"text": "0", "token": 20}, "Nothing tells that the list starts again."),
        Preset(
            "Your sentence, twice", {"text": "own", "token": -1}, "Real text can be guessed a little the first time."
        ),
    ],
    height=(831, 1187),
)
def copying(sentence: str, text: str, token: int) -> tuple[Any, ...]:
    reading = read(sentence, limit=HALF, least=2)
    once = reading.ids if text == "own" else study.repeated_random_ids(int(text))[: study.PERIOD]
    result = study.read_twice(reading.model, once)
    period, surprisals = len(once), result.surprisal
    at = max(within(token, 2 * period), 1)
    pieces, places = [piece(int(i)) for i in result.ids], np.arange(2, period + 1)
    first, second = study.copied(surprisals)
    guessed = [piece(int(i)).replace(" ", "·") for i in result.guesses[at - 1]]
    picture = stack(
        tokens(
            [{"text": name} for name in pieces],
            title=f"The {2 * period} tokens, tinted by their surprisal; click one to see what the model had guessed",
            pick="token",
            picked=at,
            shares=[0.0, *surprisals],
        ),
        curve(
            [("first time", places, surprisals[: period - 1]), ("second time", places, surprisals[period:])],
            title="Surprisal of the same tokens, first and second time",
            x_label="place in the text",
            y_label="nats",
            tensors=["logits", "attn"],
            points=True,
        ),
        row(
            bars(
                guessed,
                result.chances[at - 1],
                title=f"The model's five best guesses for token {at + 1}, which is “{spoken(pieces[at])}”",
                tensor="logits",
                share=True,
                limit=1,
                marked=[i for i, guess in enumerate(result.guesses[at - 1]) if guess == result.ids[at]],
            ),
            readouts(
                [
                    ("mean, first time", f"{first:.2f} nats"),
                    ("mean, second time", f"{second:.2f} nats"),
                    ("guessing evenly: ln 49,152", f"{np.log(49152):.2f} nats"),
                ]
            ),
        ),
    )
    hit = int(result.guesses[at - 1, 0]) == int(result.ids[at])
    told = (
        f"{reading.note if text == 'own' else ''}The first time, a token surprises the model by {first:.1f} nats on "
        f"average, the second time by {second:.1f}. "
        + ("Holding all 49,152 tokens for equally likely would do better at first. " if first > np.log(49152) else "")
        + f"Token {at + 1}, “{spoken(pieces[at])}”, "
        + ("was its best guess." if hit else "was not its best guess.")
    )
    formula = (
        rf"\frac{{p_{{\text{{second}}}}}}{{p_{{\text{{first}}}}}} = "
        rf"e^{{{number(first, 3)} - {number(second, 3)}}} = {number(np.exp(first - second), 2)}"
    )
    return picture, told, formula, {"surprisals": surprisals, "ids": result.ids}


JOBS = {
    "induction": "Induction: what came after the last time",
    "previous": "The token before",
    "first": "The first token",
}


@chapter.lab(
    "ranking",
    title="Which head does it?",
    controls=[
        Choice("job", "Rank heads by", "induction", JOBS),
        Choice("seed", "Random tokens", "0", SEEDS),
        Pick("layer", "Layer", 18),
        Pick("head", "Head", 6),
    ],
    runs=[
        study.induction_score,
        study.repeated_random_ids,
        attention_study.previous_token_share,
        attention_study.first_token_share,
    ],
    snippet="""
        import numpy as np
        from engine.attention_study import first_token_share, previous_token_share
        from engine.head_study import ranked, read_repeated
        from engine.model import load
        from engine.tokenization import encode

        trace = load().trace(encode({sentence!r}, "smollm2")[:48])
        weights = np.stack([trace[f"blk.{{layer}}.attn.weights"] for layer in range(30)])
        if {job!r} == "induction":
            scores = read_repeated(load(), {seed}).induction
        else:
            scores = dict(first=first_token_share, previous=previous_token_share)[{job!r}](weights)
        print(ranked(scores)[:10])
    """,
    provenance="SmolLM2's real weights, on random tokens that come twice (induction) or on your sentence (the others)",
    real=True,
    presets=[
        Preset("The strongest induction head", {"job": "induction", "layer": 18, "head": 6}),
        Preset("Three that share", {"job": "induction", "layer": 17, "head": 4}, "They read one key/value head."),
        Preset("One step back", {"job": "previous", "layer": 16, "head": 0}, "One layer before the induction heads."),
        Preset("Is it an induction head?", {"job": "induction", "layer": 16, "head": 0}, "No: it has another stripe."),
    ],
    height=1733,
)
def ranking(sentence: str, job: str, seed: str, layer: int, head: int) -> tuple[Any, ...]:
    reading = read(sentence, least=2)
    layer, head = within(layer, LAYERS), within(head, HEADS)
    if job == "induction":
        result = study.read_repeated(reading.model, int(seed))
        scores, weights, names, where = result.induction, result.weights, result.ids, "random tokens, twice"
    else:
        measure = {"previous": attention_study.previous_token_share, "first": attention_study.first_token_share}[job]
        weights = np.stack([reading.trace[f"blk.{i}.attn.weights"] for i in range(LAYERS)])
        scores, names, where = measure(weights), np.array(reading.ids), "your sentence"
    order = study.ranked(scores)
    pieces = [piece(int(i)) for i in names]
    place = order.index((layer, head)) + 1
    picture = stack(
        heads_map(
            scores.T,
            title=f"{JOBS[job]}: 30 layers across, 9 heads down; click one",
            limit=1,
            picked=[head, layer],
            pick=["head", "layer"],
        ),
        matrix(
            weights[layer, head],
            f"Layer {layer}, head {head}, on {where}: rows ask, columns are asked",
            "attn",
            "weights",
            rows=pieces,
            columns=pieces,
            scale="share",
            digits=2,
        ),
        bars(
            [f"{i}.{h}" for i, h in order[:10]],
            [scores[at] for at in order[:10]],
            title="The ten strongest, as layer.head",
            tensor="attn",
            share=True,
            limit=1,
            notes=[f"reads key/value head {h // GROUP}" for _, h in order[:10]],
            marked=[i for i, at in enumerate(order[:10]) if at == (layer, head)],
        ),
    )
    shared = study.by_shared_keys(order[:6], GROUP)
    text = (
        (reading.note if job != "induction" else "")
        + f"Layer {layer}, head {head} scores {scores[layer, head]:.1%}: place {place} of 270. The median head has "
        + f"{float(np.median(scores)):.1%}; {int(np.sum(scores > 0.5))} heads score above one half. "
        + (
            f"Of the six strongest, heads {_listed([h for _, h in shared[0]])} of layer {shared[0][0][0]} read the "
            "same keys and values."
            if shared
            else "No two of the six strongest read the same keys and values."
        )
    )
    steps, period, score = len(pieces) - 1, study.PERIOD, number(scores[layer, head])
    formula = {
        "induction": rf"\frac{{1}}{{{period}}} \sum_{{i={period}}}^{{{2 * period - 1}}} "
        rf"\attn{{w_{{i,\,i-{period - 1}}}}} = {score}",
        "previous": rf"\frac{{1}}{{{steps}}} \sum_{{i=1}}^{{{steps}}} \attn{{w_{{i,\,i-1}}}} = {score}",
        "first": rf"\frac{{1}}{{{steps}}} \sum_{{i=1}}^{{{steps}}} \attn{{w_{{i,\,0}}}} = {score}",
    }[job]
    return picture, text, formula, {"scores": scores}


def _listed(heads: list[int]) -> str:
    """3, 4 and 5."""
    return ", ".join(map(str, heads[:-1])) + f" and {heads[-1]}"


SETS = {
    "induction": "The strongest induction heads",
    "previous": "The strongest previous-token heads",
    "random": "Random heads, as a control",
    "one": "One head: click it",
    "layer": "A whole layer: click it",
    "none": "None",
}


@chapter.lab(
    "switch-off",
    title="Switch heads off",
    controls=[
        Choice("which", "Switch off", "induction", SETS),
        Choice("count", "How many", "6", {str(n): str(n) for n in (1, 3, 6, 12, 20)}),
        Choice("seed", "Random tokens, random heads", "0", SEEDS),
        Pick("layer", "Layer", 16),
        Pick("head", "Head", 0),
    ],
    runs=[study.ablate, study.choose, study.without_heads, switch_off_head],
    snippet="""
        from engine.head_study import ablate, choose
        from engine.model import load
        from engine.tokenization import encode

        ids = encode({sentence!r}, "smollm2")[:48]
        off = choose(load(), {which!r}, {count}, {seed}, one=({layer}, {head}))
        result = ablate(load(), ids, off, {seed})
        text, repeated = result.text, result.repeated
        print(off, text.mean(), repeated.mean())
    """,
    provenance="SmolLM2's real weights, on your sentence and on 20 random tokens that come twice",
    real=True,
    presets=[
        Preset("Six induction heads", {"which": "induction", "count": "6"}, "Copying is gone."),
        Preset("Six others", {"which": "random", "count": "6"}, "The control: as many heads, far less harm."),
        Preset("One head before them", {"which": "one", "layer": 16, "head": 0}, "It copies nothing itself."),
        Preset("All of layer 1", {"which": "layer", "layer": 1}, "Early layers carry more than copying."),
        Preset("Twenty at random", {"which": "random", "count": "20"}, "Now your sentence suffers too."),
    ],
    height=(1248, 1372),
)
def switch_off(sentence: str, which: str, count: str, seed: str, layer: int, head: int) -> tuple[Any, ...]:
    reading = read(sentence, least=2)
    model, layer, head = reading.model, within(layer, LAYERS), within(head, HEADS)
    off = study.choose(model, which, int(count), int(seed), one=(layer, head))
    whole, without = (study.ablate(model, reading.ids, heads, int(seed)) for heads in ([], off))
    before, after = softmax(whole.logits), softmax(without.logits)
    shown = np.argsort(-np.maximum(before, after))[:8]
    labels = [piece(int(i)) for i in shown]
    rows = study.compare(whole, without)
    marks = np.array([[(i, h) in off for i in range(LAYERS)] for h in range(HEADS)], float)
    clickable = which in ("one", "layer")
    picture = stack(
        heads_map(
            marks,
            title="Coloured: switched off. 30 layers across, 9 heads down" + ("; click one" if clickable else ""),
            limit=1,
            picked=[head, layer] if clickable else [],
            pick=["head", "layer"] if clickable else [],
        ),
        table(
            ["mean surprisal in nats", "whole", "without", "change"],
            [[name, f"{a:.2f}", f"{b:.2f}", f"{b - a:+.2f}".replace("-", "−")] for name, (a, b) in rows.items()],
            title="Loss before and after",
        ),
        row(
            bars(labels, before[shown], title="Next token, whole model", tensor="logits", share=True, limit=1),
            bars(labels, after[shown], title="Next token, without these heads", tensor="logits", share=True, limit=1),
        ),
        curve(
            [
                (name, np.arange(2, study.PERIOD + 1), values[study.PERIOD :])
                for name, values in (("whole", whole.repeated), ("without", without.repeated))
            ],
            title="The random tokens' second time",
            x_label="place in the list",
            y_label="nats",
            tensors=["logits", "attn"],
            points=True,
        ),
    )
    listed = ", ".join(f"{i}.{h}" for i, h in off[:12]) + (f" and {len(off) - 12} more" if len(off) > 12 else "")
    (a, b), (c, d) = rows["your text"], rows["random tokens, second time"]
    text = (
        f"{reading.note}"
        + (f"Off: {listed}. " if off else "Nothing is switched off. ")
        + f"Copying random tokens goes from {c:.2f} to {d:.2f} nats, your text from {a:.2f} to {b:.2f}. "
        + "The best next token is "
        + (
            f"still “{spoken(piece(int(np.argmax(after))))}”, at {np.max(after):.1%} instead of {np.max(before):.1%}."
            if np.argmax(before) == np.argmax(after)
            else f"“{spoken(piece(int(np.argmax(after))))}” instead of “{spoken(piece(int(np.argmax(before))))}”."
        )
    )
    formula = (
        rf"\text{{perplexity of the copy: }} e^{{{number(c, 3)}}} = {number(np.exp(c), 3)} \;\to\; "
        rf"e^{{{number(d, 3)}}} = {number(np.exp(d), 3)}"
    )
    return picture, text, formula, {"text": without.text, "repeated": without.repeated, "next": after}


# --- numbers of the prose ------------------------------------------------------------


@chapter.number
def honest_score() -> str:
    return f"{words.typed_in(0.0, causal=False).scores[1, 2]:.3f}"


@chapter.number
def honest_share() -> str:
    return f"{words.typed_in(0.0, causal=False).weights[1, 2]:.1%}"


@chapter.number
def speeding_share() -> str:
    result = words.attend(words.SENTENCES["speeding"])
    return f"{result.attention.weights[2, -1, result.words.index('car')]:.0%}"


@chapter.number
def llama_bytes() -> int:
    return int(kv_cache.bytes_per_token(CONFIGS["Llama 3.1 8B"], 2))


@chapter.number
def llama_saved() -> int:
    return CONFIGS["Llama 3.1 8B"].heads // CONFIGS["Llama 3.1 8B"].kv_heads


@chapter.number
def smollm2_bytes() -> int:
    return int(kv_cache.bytes_per_token(CONFIGS["SmolLM2-135M"], 4))


# --- check yourself ------------------------------------------------------------


@chapter.answer
def same_questions() -> str:
    """What four heads have in common that share queries and keys, but not values."""
    result = words.attend(words.SENTENCES["speeding"], projections="same-qk")
    look = np.array_equal(result.attention.weights[0], result.attention.weights[1])
    bring = np.allclose(result.found[0], result.found[1])
    return {(True, True): "both", (True, False): "where they look", (False, True): "what they find"}.get(
        (look, bring), "neither"
    )


@chapter.answer
def cache_saved(model: str, **_: Any) -> float:
    """How many times larger the cache would be without sharing, for the model that the reader has set."""
    options = kv_cache.with_every_sharing(CONFIGS[model])
    return float(kv_cache.bytes_per_token(options[0]) / kv_cache.bytes_per_token(CONFIGS[model]))


@chapter.answer
def suffers_most(sentence: str, which: str, count: str, seed: str, layer: int, head: int) -> str:
    """Which loss grows most when the heads that the reader has set are switched off."""
    reading = read(sentence, least=2)
    off = study.choose(reading.model, which, int(count), int(seed), one=(within(layer, LAYERS), within(head, HEADS)))
    whole, without = (study.ablate(reading.model, reading.ids, heads, int(seed)) for heads in ([], off))
    changes = {name: b - a for name, (a, b) in study.compare(whole, without).items()}
    return max(changes, key=lambda name: changes[name])


chapter.code["head_contributions"] = engine.head_contributions
chapter.code["induction_score"] = study.induction_score

register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
