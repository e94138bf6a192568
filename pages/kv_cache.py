"""KV cache: what is kept, what it saves, what it costs, and what happens when it is cut. The labs of the page."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from dash import register_page

from engine import cache_study as study
from engine import kv_cache as engine
from engine import paging
from engine.attention import window_mask
from engine.edits import sliding_window
from engine.ledger import CONFIGS
from engine.model import Model
from engine.tokenization import encode
from pages._reading import ENCODING, piece, read, spoken, the_model, written
from ui.chapter import Chapter
from ui.controls import Choice, Slider, Text, Toggle
from ui.figures import bars, curve, places, readouts, row, stack, table, tokens, words
from ui.lab import Preset, ReaderError
from ui.mathml import number

chapter = Chapter(__name__, Path(__file__).parent)

LLAMA, SMOLLM2 = CONFIGS["Llama 3.1 8B"], CONFIGS["SmolLM2-135M"]
MODELS = {name: name for name in CONFIGS}
REAL = "SmolLM2's real weights"
TIMED = REAL + ", timed live on this server"
BF16 = 2  # bytes of a weight as these models are shipped
TEXT = ("The", "cat", "sat", "on", "the", "mat", "and", "then", "it", "slept", "all", "day", "in", "the", "warm", "sun")
PROMPT, GENERATED = 10_581, 63


def size(count: float) -> str:
    """Bytes for a reader: 1.395 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


def operations(count: float) -> str:
    """Arithmetic for a reader: 178.3 TFLOP."""
    for unit in ("MFLOP", "GFLOP", "TFLOP"):
        count /= 1000 if unit != "MFLOP" else 1e6
        if count < 1000:
            return f"{count:.4g} {unit}"
    return f"{count / 1000:.4g} PFLOP"


# --- prefill and decode ----------------------------------------------------------------------------------------------


@chapter.lab(
    "table",
    title="Who computes, who reads",
    controls=[
        Slider("step", "Step", 3, 0, 8),
        Toggle("cached", "With the cache", True),
        Slider("prompt", "Tokens in the prompt", 5, 1, 8),
        Slider("generated", "Tokens generated", 6, 1, 8),
    ],
    runs=[engine.plan, engine.positions_computed],
    snippet="""
        from engine.kv_cache import plan, positions_computed

        computed = plan({prompt}, {generated}, {cached}).computed
        print(computed.astype(int), positions_computed({prompt}, {generated}, {cached}))
    """,
    provenance="Counted live by the engine; the words are an example",
    presets=[
        Preset("The prefill", {"cached": True, "step": 0}, "The prompt is read at once, and everything is kept."),
        Preset("One step", {"cached": True, "step": 1}, "One new key and value; all the others are read."),
        Preset("Without", {"cached": False, "step": 6}, "Red: computed before, thrown away, computed again."),
        Preset("A single word", {"cached": False, "prompt": 1, "generated": 8, "step": 8}, "The triangle grows as g²."),
    ],
    height=430,
)
def fill(step: int, cached: bool, prompt: int, generated: int) -> tuple[Any, ...]:
    step, total = min(step, generated), prompt + generated
    now = engine.plan(prompt, generated, cached)
    shown = step + 1 if cached else step
    names = ["prefill", *(f"step {i}" for i in range(1, generated + 1))][0 if cached else 1 :]
    so_far, read_so_far = int(now.computed[:shown].sum()), int(now.read[:shown].sum())
    scored = sum(now.scores[:shown])
    other = engine.positions_computed(prompt, step, not cached)
    picture = stack(
        places(
            [
                [_place(now, i, j, name, cached, i < shown) for j in range(total)]
                for i, name in enumerate(names)
            ],
            title="Each row is one run of the model, each column a position of the text",
            tensor="k",
            rows=names,
            columns=TEXT[:total],
            legend=[("new", "key and value computed"), ("read", "read from the cache")]
            if cached
            else [("new", "key and value computed"), ("again", "computed again")],
        ),
        readouts(
            [
                ("keys and values computed", f"{so_far:,}"),
                ("… with the cache off" if cached else "… with the cache on", f"{other:,}"),
                ("read from the cache", f"{read_so_far:,}"),
                ("scores computed", f"{scored:,}"),
            ]
        ),
    )  # fmt: skip
    if cached:
        text = (
            f"The prefill computed the keys and values of all {prompt} tokens of the prompt at once. "
            if step == 0
            else f"Step {step} computes 1 key and 1 value a head, and its query meets {prompt + step} keys, "
            f"{prompt + step - 1} of them from the cache. "
        ) + (
            f"So far {so_far} positions were computed; without the cache it would be {other}."
            if step
            else "Every one is kept."
        )
    elif step == 0:
        text = "Nothing has been generated yet. Move the step: without a cache, every step starts from nothing."
    else:
        again = so_far - prompt - step
        text = (
            f"{so_far} positions were computed for a text of {prompt + step}: {again} of them again, with exactly the "
            f"same result as before. With the cache it would be {other}."
        )
    formula = (
        rf"p + g = {prompt} + {step} = {prompt + step}"
        if cached
        else rf"\sum_{{i=1}}^{{{step}}} (p + i) = {step} \cdot {prompt} + "
        rf"\frac{{{step} \cdot {step + 1}}}{{2}} = {so_far}"
    )
    return (
        picture,
        text,
        formula,
        {"computed": now.computed, "read": now.read, "scores": now.scores},
        {"step": generated},
    )


def _place(now: engine.Plan, i: int, j: int, name: str, cached: bool, done: bool) -> dict[str, Any]:
    """A position in one run of the model."""
    if not done:
        return {"state": "free" if now.read[i, j] or now.computed[i, j] else ""}
    if now.read[i, j]:
        return {
            "state": "read",
            "text": "read",
            "key": f"p:{j}",
            "note": f"{name}: “{TEXT[j]}” is read from the cache.",
        }
    if not now.computed[i, j]:
        return {}
    again = bool(now.computed[:i, j].any())
    say = "computed once more" if again else "computed, and kept" if cached else "computed, and thrown away"
    return {"state": "again" if again else "new", "text": "again" if again else "K V", "key": f"p:{j}",
            "note": f"{name}: key and value of “{TEXT[j]}” are {say}."}  # fmt: skip


@lru_cache(maxsize=16)
def step_curves(model: str) -> tuple[list[int], list[float], list[float]]:
    """Lengths of a text, and the GFLOP of one more token without and with the cache."""
    lengths = [1, *range(200, 20_201, 500)]
    anew, cached = (
        [engine.decode_flops(CONFIGS[model], n, kept).total / 1e9 for n in lengths] for kept in (False, True)
    )
    return lengths, anew, cached


@chapter.lab(
    "count",
    title="At full size: positions, and all of the arithmetic",
    controls=[
        Choice("model", "Model", "Llama 3.1 8B", MODELS),
        Slider("prompt", "Tokens in the prompt", PROMPT, 1, 20_000),
        Slider("generated", "Tokens generated", GENERATED, 1, 200),
    ],
    runs=[engine.positions_computed, engine.generation_flops, engine.decode_flops],
    snippet="""
        from engine.kv_cache import decode_flops, positions_computed
        from engine.ledger import CONFIGS

        without, cached = (positions_computed({prompt}, {generated}, kept) for kept in (False, True))
        last = decode_flops(CONFIGS[{model!r}], {prompt} + {generated})
        parts = [last.projections, last.feed_forward, last.scores_and_mix, last.output]
        print(without, cached, without / cached, [part / last.total for part in parts])
    """,
    provenance="Published sizes of the models, counted live",
    presets=[
        Preset("A long chat", {"prompt": PROMPT, "generated": GENERATED}, "668,619 against 10,644."),
        Preset("A short question", {"prompt": 20, "generated": 200}, "The saving is about half the answer's length."),
        Preset("One token", {"prompt": PROMPT, "generated": 1}, "For a single token the cache saves nothing."),
        Preset("20,000 tokens of context", {"prompt": 20_000, "generated": 100}, "Reading the cache is real work now."),
    ],
    height=510,
)
def count(model: str, prompt: int, generated: int) -> tuple[Any, ...]:
    config, end = CONFIGS[model], prompt + generated
    positions = [engine.positions_computed(prompt, generated, kept) for kept in (False, True)]
    work = [engine.generation_flops(config, prompt, generated, kept).total for kept in (False, True)]
    step, anew = engine.decode_flops(config, end), engine.decode_flops(config, end, cached=False)
    parts = [step.projections, step.feed_forward, step.scores_and_mix, step.output]
    lengths, anew_curve, cached_curve = step_curves(model)
    in_blocks = step.scores_and_mix / (step.total - step.output)
    picture = stack(
        readouts(
            [
                ("positions computed, no cache", f"{positions[0]:,}"),
                ("with the cache", f"{positions[1]:,}"),
                ("ratio", f"{positions[0] / positions[1]:.1f}"),
                ("arithmetic, no cache", operations(work[0])),
                ("with the cache", operations(work[1])),
            ],
            title=f"{prompt:,} tokens read, {generated:,} generated",
        ),
        row(
            curve(
                [("without the cache", lengths, anew_curve), ("with it", lengths, cached_curve)],
                title="Arithmetic of one step, GFLOP (logarithmic)",
                x_label="tokens in the text",
                y_label="GFLOP",
                tensors=["grad", "k"],
                log_y=True,
                marker=(end, step.total / 1e9),
            ),
            bars(
                ["projections", "feed-forward", "scores and mix", "logits"],
                [part / step.total for part in parts],
                title="Where the last cached step's arithmetic goes",
                tensor="k",
                share=True,
                limit=1,
                notes=[operations(part) for part in parts],
                marked=[2],
            ),
        ),
    )  # fmt: skip
    text = (
        f"{{{{a|{positions[0]:,}}}}} positions without the cache, {{{{b|{positions[1]:,}}}}} with it: "
        f"{positions[0] / positions[1]:.1f} times. The last step alone takes {anew.total / step.total:,.0f} times less "
        f"arithmetic than running all {end:,} tokens anew. But it does not take nothing: its query meets all {end:,} "
        f"keys, and that is {step.scores_and_mix / step.total:.0%} of its arithmetic ({in_blocks:.0%} of what happens "
        "in the blocks)."
    )
    formula = (
        rf"\frac{{\sum_{{i=1}}^{{{generated}}} ({prompt} + i)}}{{{prompt} + {generated}}} = "
        rf"\frac{{{positions[0]}}}{{{positions[1]}}} = {number(positions[0] / positions[1], 3)}"
    )
    return picture, text, formula, {
        "parts": np.array(parts, float), "without": positions[0], "cached": positions[1], "flops": np.array(work, float)
    }  # fmt: skip


# --- memory ----------------------------------------------------------------------------------------------------------

KINDS = ("multi", "own", "one", "latent", "window")
WINDOWED = {"Mistral 7B": "each layer", "Gemma 2 9B": "every other layer"}
LABELS = {
    "own": "the model's own heads",
    "multi": "multi-head: every head its own",
    "one": "multi-query: one for all",
    "latent": "latent (MLA): one compressed vector",
    "window": "its own heads, with a sliding window",
}


def shape(thousands: int, readers: int, kind: str = "own") -> dict[str, Any]:
    """Settings of the memory lab."""
    return {"model": "Llama 3.1 8B", "thousands": thousands, "readers": readers, "bits": "16", "kind": kind}


@chapter.lab(
    "memory",
    title="What it takes",
    controls=[
        Choice("model", "Model", "Llama 3.1 8B", MODELS),
        Slider("thousands", "Tokens in each text, in thousands", 32, 1, 256),
        Slider("readers", "Readers at once", 8, 1, 128),
        Choice("bits", "Bits of a cached number", "16", {"32": "32", "16": "16", "8": "8", "4": "4"}),
        Choice("kind", "Kind of attention", "own", LABELS),
        Choice("window", "Sliding window", "4096", {"1024": "1,024", "4096": "4,096", "16384": "16,384"}),
        Choice("card", "Memory of the card", "80", {"8": "8 GB", "24": "24 GB", "80": "80 GB", "141": "141 GB"}),
    ],
    runs=[engine.bytes_per_token, engine.cache_bytes, engine.schemes, engine.latent_bytes_per_token],
    snippet="""
        from engine.kv_cache import bytes_per_token, schemes
        from engine.ledger import CONFIGS

        config = CONFIGS[{model!r}]
        per_token = bytes_per_token(config, {bits} / 8)
        every = [one.text_bytes * {readers} for one in schemes(config, {thousands} * 1000, {bits} / 8, {window})]
        print(per_token, every, config.parameters * 2)
    """,
    provenance="Published sizes of the models, counted live; weights in 16 bits, as they are shipped",
    presets=[
        Preset("One reader, a long chat", shape(11, 1), "1.4 GB."),
        Preset("The crossing", shape(123, 1), "As large as the weights."),
        Preset("Many readers", shape(8, 64), "The weights are there once, the caches 64 times."),
        Preset("If no head shared", shape(32, 8, "multi"), "Four times as much."),
        Preset("Latent", shape(32, 8, "latent"), "DeepSeek-V2's proportions."),
        Preset("A window", shape(128, 8, "window"), "It stops growing. What is lost is further down."),
    ],
    height=725,
)  # fmt: skip
def memory(model: str, thousands: int, readers: int, bits: str, kind: str, window: str, card: str) -> tuple[Any, ...]:
    config, length, each = CONFIGS[model], thousands * 1000, int(bits) / 8
    found = engine.schemes(config, length, each, int(window))
    chosen = found[KINDS.index(kind)]
    weights, cache = config.parameters * BF16, readers * chosen.text_bytes
    room = int(card) * 1e9
    crossing = int(weights // (chosen.token_bytes * readers))
    longest = np.unique(np.linspace(0, 256_000, 65).astype(int))
    reach = int(window) if kind == "window" else None
    grown = [readers * chosen.token_bytes * (min(n, reach) if reach else n) / 1e9 for n in longest]
    picture = stack(
        readouts(
            [
                ("a token takes", f"{chosen.token_bytes:,.0f} B"),
                ("a text", size(chosen.text_bytes)),
                ("all readers", size(cache)),
                ("the weights", size(weights)),
                (f"fits into {card} GB?", "yes" if weights + cache <= room else f"no: {size(weights + cache)}"),
            ]
        ),
        bars(
            [one.name for one in found],
            [one.text_bytes * readers / 1e9 for one in found],
            title=f"The same {readers} × {length:,} tokens, kept in other ways (with their number of KV heads)",
            tensor="k",
            unit="GB",
            notes=[f"{one.token_bytes:,.0f} B a token" for one in found],
            marked=[KINDS.index(kind)],
        ),
        curve(
            [
                (f"cache of {readers} reader{'s' if readers > 1 else ''}", longest, grown),
                ("weights", longest, np.full(len(longest), weights / 1e9)),
                (f"{card} GB less the weights", longest, np.full(len(longest), max(0.0, (room - weights) / 1e9))),
            ],
            title="Memory against the length of each text",
            x_label="tokens in each text",
            y_label="GB",
            tensors=["k", "resid", "tokens"],
            marker=(length, cache / 1e9),
        ),
    )
    ratio = cache / weights
    text = (
        f"{config.name} keeps {{{{token|{chosen.token_bytes:,.0f} bytes}}}} a token. "
        + (f"{readers} texts of {length:,} tokens take" if readers > 1 else f"One text of {length:,} tokens takes")
        + f" {size(cache)}, {ratio:.2f} times the weights. "
    )
    if weights > room:
        text += f"The weights alone do not fit into {card} GB."
    elif reach and readers * chosen.token_bytes * reach < weights:
        text += "With this window the cache never reaches the size of the weights."
    else:
        text += f"The cache passes the weights at {crossing:,} tokens a text."
    if length > config.context:
        text += f" This model was made for texts up to {config.context:,} tokens."
    if config.window and kind != "window":
        text += (
            f" In {WINDOWED[config.name]} it sees only the last {config.window:,} tokens; a server that throws the "
            "others away needs less than is counted here."
        )
    return picture, text, _memory_formula(config, kind, each, chosen), {
        "per_token": engine.bytes_per_token(config, each),
        "every": np.array([one.text_bytes * readers for one in found]),
    }  # fmt: skip


def _memory_formula(config: Any, kind: str, each: float, chosen: engine.Scheme) -> str:
    """Bytes of a token, factor by factor."""
    value = number(chosen.token_bytes, 12)
    if kind == "latent":
        return (
            rf"{config.layers}_{{\text{{layers}}}} \cdot ({4 * config.head_dim} + {config.head_dim // 2}) \cdot "
            rf"{number(each)}_{{\text{{bytes}}}} = {value} \;\text{{B a token}}"
        )
    heads = {"multi": config.heads, "one": 1}.get(kind, config.kv_heads)
    return (
        rf"2 \cdot {config.layers}_{{\text{{layers}}}} \cdot {heads}_{{\text{{KV heads}}}} \cdot "
        rf"{config.head_dim}_{{\text{{width}}}} \cdot {number(each)}_{{\text{{bytes}}}} = {value} \;\text{{B a token}}"
    )


# --- many readers ----------------------------------------------------------------------------------------------------

LONGEST, ROW = 24, 12
COUNT = 12


def given_out(policy: str, **other: Any) -> dict[str, Any]:
    """Settings of the simulation."""
    return {"policy": policy, "step": 8, "block": "4", "room": 72, "seed": 2, **other}


@chapter.lab(
    "paging",
    title="Twelve readers, one memory",
    controls=[
        Slider("step", "Step", 8, 0, 120),
        Choice("policy", "How memory is given out", "reserved", {
            "one at a time": "one reader at a time",
            "reserved": "a reserved stretch for each",
            "paged": "blocks on demand (paging)",
        }),
        Choice("block", "Tokens in a block", "4", {"1": "1", "2": "2", "4": "4", "6": "6", "12": "12"}),
        Slider("room", "Memory, in tokens", 72, 48, 96, 24),
        Slider("seed", "Seed of the requests", 2, 0, 30),
    ],
    runs=[paging.simulate, paging.requests, paging._step, paging._one_more],
    snippet="""
        from engine.paging import requests, simulate

        found = simulate({policy!r}, requests(12, {seed}), {room} // {block}, {block})
        stored = [found.stored(step) for step in range(found.steps + 1)]
        print(found.steps, found.use, stored)
    """,
    provenance="A simulation: requests drawn with the seed, every step computed by the engine",
    presets=[
        Preset("One at a time", given_out("one at a time"), "The others wait for the slowest."),
        Preset("Reserved", given_out("reserved"), "Hatched: kept free for words that may never come."),
        Preset("Paged", given_out("paged"), "Same requests, same memory: more readers inside, and less of it empty."),
        Preset("Thrown out", given_out("paged", room=48, step=7), "Too little memory: somebody must go."),
        Preset("Blocks too large", given_out("paged", block="12"), "Much of each text's last block is empty."),
    ],
    height=775,
)  # fmt: skip
def pages_of_memory(step: int, policy: str, block: str, room: int, seed: int) -> tuple[Any, ...]:
    length, asked = int(block), paging.requests(COUNT, seed, LONGEST)
    runs = {name: paging.simulate(name, asked, room // length, length, LONGEST) for name in paging.POLICIES}
    found = runs[policy]
    step = min(step, found.steps)
    moment, stored, held = found.moments[step], found.stored(step), found.held(step)
    steps = {name: range(run.steps + 1) for name, run in runs.items()}
    picture = stack(
        row(
            places(
                _memory_places(found, step),
                title=f"The memory after step {step}",
                tensor="k",
                rows=[f"{i * ROW}–{i * ROW + ROW - 1}" for i in range(room // ROW)],
                legend=[("new", "a token's keys and values"), ("waste", "taken, but empty"), ("free", "free")],
            ),
            table(
                ["reader", "tokens", "blocks, in the order of the text", "empty"],
                [
                    [one.request.name, one.tokens, _block_list(one.blocks), len(one.blocks) * length - one.tokens]
                    for one in moment.running
                ],
                title="Block tables: where each text lies",
            ),
        ),
        readouts(
            [
                ("inside", str(len(moment.running))),
                ("waiting", ", ".join(one.name for one in moment.waiting) or "nobody"),
                ("finished", f"{len(moment.finished)} of {COUNT}"),
                ("memory in use", f"{stored / room:.0%}"),
                ("taken but empty", f"{(held - stored) / room:.0%}"),
                ("thrown out so far", str(sum(len(m.preempted) for m in found.moments[: step + 1]))),
            ]
        ),
        curve(
            [(name, steps[name], [run.stored(i) for i in steps[name]]) for name, run in runs.items()],
            title="Tokens in the memory, step by step",
            x_label="step",
            y_label="tokens",
            tensors=["tokens", "v", "k"],
            marker=(step, stored),
        ),
    )
    text = _what_happens(found, step) + (
        " Until all are served: "
        + ", ".join(f"{run.steps} steps {_said(name)}" for name, run in runs.items())
        + f". Memory really filled, on average: {runs['reserved'].use:.0%} reserved, {runs['paged'].use:.0%} paged."
    )
    formula = (
        rf"\text{{use}} = \frac{{\text{{tokens stored}}}}{{\text{{places}}}} = \frac{{{stored}}}{{{room}}} = "
        rf"{number(stored / room, 3)}, \qquad \text{{taken}} = \frac{{{held}}}{{{room}}} = "
        rf"{number(held / room, 3)}"
    )
    data = {"stored": [found.stored(i) for i in range(found.steps + 1)],
            "held": [found.held(i) for i in range(found.steps + 1)]}  # fmt: skip
    return picture, text, formula, data, {"step": found.steps}


def _memory_places(found: paging.Simulation, step: int) -> list[list[dict[str, Any]]]:
    """Every place of the memory, a gap between blocks."""
    length, owner = found.block_size, {}
    for one in found.moments[step].running:
        for order, block in enumerate(one.blocks):
            owner[block] = (one, order)
    flat: list[dict[str, Any]] = []
    for place in range(found.blocks * length):
        block, offset = divmod(place, length)
        if block not in owner:
            flat.append({"state": "free", "note": f"Block {block} is free."})
            continue
        one, order = owner[block]
        at = order * length + offset
        name = one.request.name
        filled = at < one.tokens
        flat.append({
            "state": "new" if filled else "waste", "text": name if filled else "", "key": f"r:{name}",
            "note": f"Block {block} holds block {order + 1} of reader {name}: "
            + (f"here lies token {at + 1} of {one.tokens}." if filled else "this place is taken and empty."),
        })  # fmt: skip
    lines = [flat[i : i + ROW] for i in range(0, len(flat), ROW)]
    return [
        [
            cell
            for j, place in enumerate(line)
            for cell in ([{"state": "gap"}] if j and j % length == 0 else []) + [place]
        ]
        for line in lines
    ]


def _block_list(blocks: tuple[int, ...]) -> str:
    return " → ".join(map(str, blocks))


def _said(policy: str) -> str:
    return {"one at a time": "one at a time", "reserved": "with reserved stretches", "paged": "paged"}[policy]


def _what_happens(found: paging.Simulation, step: int) -> str:
    """This step in words."""
    moment = found.moments[step]
    before = found.moments[step - 1] if step else moment
    inside = {one.request.name for one in before.running}
    came = [one.request.name for one in moment.running if one.request.name not in inside]
    gone = [name for name in moment.finished if name not in before.finished]
    inside_now = f"{len(moment.running)} readers are" if len(moment.running) != 1 else "1 reader is"
    said = [f"Step {step}: {inside_now} in the memory, and everyone inside gets a token a step."]
    if step and not moment.running:
        said = [f"Step {step}: the memory is empty again."]
    if step == 0:
        said = ["Step 0: the memory is empty."]
    if came:
        said.append(f"{_names(came)} came in.")
    if gone:
        said.append(f"{_names(gone)} finished, and left {'its' if len(gone) == 1 else 'their'} blocks.")
    if moment.preempted:
        said.append(f"No block was free: {_names(list(moment.preempted))} had to go, and will be read again.")
    return " ".join(said)


def _names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


@chapter.lab(
    "together",
    title="One step for many readers",
    controls=[Choice("most", "Readers at once, up to", "8", {"8": "8", "16": "16", "32": "32"})],
    runs=[study.batch_times, engine.KVCache],
    snippet="""
        from engine.cache_study import batch_times
        from engine.model import load
        from engine.tokenization import encode

        readers = [count for count in (1, 2, 4, 8, 16, 32) if count <= {most}]
        print(batch_times(load(), encode({sentence!r}, "smollm2")[:24], readers).seconds)
    """,
    provenance=TIMED,
    real=True,
    cached=False,
    height=(395, 584),
)
def together(sentence: str, most: str) -> tuple[Any, ...]:
    reading = read(sentence, limit=24)
    readers = [count for count in (1, 2, 4, 8, 16, 32) if count <= int(most)]
    found = study.batch_times(reading.model, reading.ids, readers)
    rates, milliseconds = found.tokens_a_second, [1000 * taken for taken in found.seconds]
    picture = row(
        curve(
            [
                ("measured", readers, rates),
                ("if a step took no longer", readers, [count * rates[0] for count in readers]),
                ("one after the other", readers, [rates[0]] * len(readers)),
            ],
            title="Tokens a second, all readers together",
            x_label="readers in one step",
            y_label="tokens/s",
            tensors=["k", "tokens", "grad"],
            points=True,
        ),
        table(
            ["readers", "ms a step", "tokens/s", "cache"],
            [
                [count, f"{ms:.0f}", f"{rate:.1f}", size(taken)]
                for count, ms, rate, taken in zip(readers, milliseconds, rates, found.cache_bytes, strict=True)
            ],
            title="Measured just now",
        ),
    )
    text = (
        f"{reading.note}A step for {readers[-1]} readers took {milliseconds[-1] / milliseconds[0]:.1f} times as long "
        f"as for one, and gave {readers[-1]} tokens instead of 1: together {rates[-1] / rates[0]:.1f} times as many a "
        "second. The weights are fetched once for all; the caches, once for each."
    )
    formula = (
        rf"\frac{{{readers[-1]} \;\text{{tokens}}}}{{{number(milliseconds[-1], 3)} \;\text{{ms}}}} = "
        rf"{number(rates[-1], 3)} \;\text{{tokens/s}}"
    )
    return picture, text, formula, {"readers": readers, "seconds": np.array(found.seconds)}


# --- in the real model: with and without -----------------------------------------------------------------------------


@chapter.lab(
    "both",
    title="The same tokens, with and without",
    controls=[Choice("count", "Tokens to generate", "6", {"6": "6", "12": "12", "24": "24 (a few seconds)"})],
    runs=[study.with_and_without, Model.generate, engine.KVCache],
    snippet="""
        from engine.cache_study import with_and_without
        from engine.model import load
        from engine.tokenization import decode, encode

        found = with_and_without(load(), encode({sentence!r}, "smollm2")[:32], {count})
        ids = [step.id for step in found.cached]
        print(found.same, decode(ids, "smollm2"), max(found.logit_difference))
        print([step.seconds for step in found.cached], [step.seconds for step in found.uncached])
    """,
    provenance=TIMED,
    real=True,
    cached=False,
    height=(925, 1100),
)
def both(sentence: str, count: str) -> tuple[Any, ...]:
    reading = read(sentence, limit=32)
    found = study.with_and_without(reading.model, reading.ids, int(count))
    start, ids = len(reading.ids), [step.id for step in found.cached]
    fast, slow = ([1000 * step.seconds for step in steps] for steps in (found.cached, found.uncached))
    done = [sum(step.computed for step in steps) for steps in (found.cached, found.uncached)]
    last, difference = found.cached[-1], max(found.logit_difference)
    lengths = [step.position for step in found.cached]
    picture = stack(
        row(
            words(written(ids), title="With the cache", style="model"),
            words(written([step.id for step in found.uncached]), title="Without", style="model"),
        ),
        readouts(
            [
                ("same tokens?", f"yes, all {len(ids)}" if found.same else "no"),
                ("largest difference of a logit", tiny(difference)),
                ("positions computed, without", f"{done[1]:,}"),
                ("with", f"{done[0]:,}"),
                ("time without", f"{sum(slow):.0f} ms"),
                ("with", f"{sum(fast):.0f} ms"),
                ("the cache's arrays now", size(last.cache_bytes)),
            ]
        ),
        curve(
            [("without the cache", lengths, slow), ("with it", lengths, fast)],
            title="Time of each step, measured just now",
            x_label="tokens already in the text",
            y_label="ms",
            tensors=["grad", "k"],
            points=True,
        ),
        table(
            ["step", "token", "run with", "run without", "ms with", "ms without", "largest logit difference", "cache"],
            [
                [i + 1, _shown(one.id), one.computed, other.computed, f"{fast[i]:.0f}", f"{slow[i]:.0f}",
                 tiny(found.logit_difference[i]), size(one.cache_bytes)]
                for i, (one, other) in enumerate(zip(found.cached, found.uncached, strict=True))
            ],
            title="Step by step; “run” is the number of positions computed",
        ),
    )  # fmt: skip
    quick, anew = sum(fast[1:]) / len(fast[1:]), sum(slow[1:]) / len(slow[1:])
    text = (
        f"{reading.note}Both ways gave the same {len(ids)} tokens; no logit of the 49,152 differs by more than "
        f"{tiny(difference)} at any step. After the first step, which reads the prompt in both, a step with the cache "
        f"took {quick:.0f} ms and one without {anew:.0f} ms: {anew / quick:.1f} times as long. The arrays hold "
        f"{last.cache_bytes:,} bytes for {last.cache_bytes // 46080} positions."
    )
    formula = (
        rf"2 \cdot 30_{{\text{{layers}}}} \cdot 3_{{\text{{KV heads}}}} \cdot 64_{{\text{{width}}}} \cdot "
        rf"4_{{\text{{bytes}}}} \cdot {last.cache_bytes // 46080}_{{\text{{positions}}}} = "
        rf"{last.cache_bytes} \;\text{{B}}"
    )
    data = {"ids": ids, "logit_difference": found.logit_difference, "milliseconds": [fast, slow],
            "positions": lengths, "start": start}  # fmt: skip
    return picture, text, formula, data


def tiny(value: float) -> str:
    """2e−5: a very small number, short."""
    return "0" if value == 0 else f"{value:.0e}".replace("e-0", "e−").replace("e-", "e−")


def _shown(token: int) -> str:
    return spoken(piece(token))


@chapter.lab(
    "growth",
    title="Longer texts: prediction and measurement",
    controls=[Choice("longest", "Longest text", "64", {
        "64": "64 tokens", "128": "128 tokens (two seconds)", "256": "256 tokens (five seconds)",
    })],
    runs=[study.step_times, study.predicted_seconds, engine.decode_flops],
    snippet="""
        from engine.cache_study import step_times
        from engine.model import load
        from engine.tokenization import encode

        lengths = [length for length in (8, 16, 32, 64, 128, 256) if length <= {longest}]
        found = step_times(load(), encode({sentence!r}, "smollm2")[:256], lengths)
        print(found.uncached, found.predicted, found.cached, found.speed_up)
    """,
    provenance=TIMED + "; your sentence, repeated until it is long enough",
    real=True,
    cached=False,
    height=705,
)  # fmt: skip
def growth(sentence: str, longest: str) -> tuple[Any, ...]:
    reading = read(sentence, limit=256)
    lengths = [length for length in (8, 16, 32, 64, 128, 256) if length <= int(longest)]
    found = study.step_times(reading.model, reading.ids, lengths)
    slow, guess, fast = ([1000 * taken for taken in part] for part in (found.uncached, found.predicted, found.cached))
    picture = stack(
        curve(
            [
                ("without the cache, measured", lengths, slow),
                ("predicted", lengths, guess),
                ("with the cache, measured", lengths, fast),
            ],
            title="Time of one more token",
            x_label="tokens already in the text",
            y_label="ms",
            tensors=["grad", "tokens", "k"],
            dots=[0],
        ),
        table(
            ["length", "without, ms", "predicted, ms", "with, ms", "speed-up", "its prediction"],
            [
                [n, f"{a:.0f}", f"{b:.0f}", f"{c:.0f}", f"{a / c:.1f} ×", f"{b / fast[0]:.1f} ×"]
                for n, a, b, c in zip(lengths, slow, guess, fast, strict=True)
            ],
            title="Measured just now, each the quickest of two",
        ),
    )  # fmt: skip
    disturbed = (
        f"Something else kept this server busy: the run over {lengths[-2]} tokens took hardly longer than the one over "
        f"{lengths[0]}, and a prediction from these two says nothing. Choose another length to measure again. "
        if slow[-2] < 1.2 * slow[0]
        else ""
    )
    text = (
        f"{reading.note}{disturbed}Computed from the runs over {lengths[0]} and {lengths[-2]} tokens, the one over "
        f"{lengths[-1]} should take {guess[-1]:.0f} ms; it took {slow[-1]:.0f}. From {lengths[0]} tokens to "
        f"{lengths[-1]}, the step without the cache went from {slow[0]:.0f} to {slow[-1]:.0f} ms, the step with it "
        f"from {fast[0]:.0f} to {fast[-1]:.0f} ms. So the cache makes a step {found.speed_up[0]:.1f} times faster at "
        f"{lengths[0]} tokens and {found.speed_up[-1]:.1f} times at {lengths[-1]}."
    )
    formula = (
        rf"t(n) = a + b \cdot \text{{work}}(n),\qquad t({lengths[0]}) = {number(slow[0], 3)},\; "
        rf"t({lengths[-2]}) = {number(slow[-2], 3)} \;\Rightarrow\; t({lengths[-1]}) = {number(guess[-1], 3)} "
        r"\;\text{ms}"
    )
    return picture, text, formula, {"lengths": lengths, "milliseconds": np.array([slow, guess, fast])}


# --- in the real model: a window -------------------------------------------------------------------------------------

SINKS = {"0": "none", "1": "the first", "4": "the first four"}
GOES_ON = 5
FACT = "Hello! My name is Anna. I live by the sea with two cats. Nice to meet you. My name is"
AT_FRONT = "My name is Anna. I live in a small town by the sea with two cats. My name is"
BANANA = "Listen: the secret word is banana. It was a long day, and everybody was tired of the rain. The secret word is"


@chapter.lab(
    "window",
    title="Your sentence through a window",
    controls=[
        Slider("power", "Window: 2 to the power of", 2, 0, 6),
        Choice("sinks", "Tokens always kept", "0", SINKS),
    ],
    runs=[study.through_windows, sliding_window, window_mask],
    snippet="""
        from engine.cache_study import through_windows, useful_widths
        from engine.model import load
        from engine.tokenization import encode

        ids = encode({sentence!r}, "smollm2")[:48]
        found = through_windows(load(), ids, useful_widths(len(ids)), sinks={sinks}, tokens=5)
        loss = found.loss
        print(found.widths, loss.round(2))
    """,
    provenance=REAL + ", on the sentence at the top of the page",
    real=True,
    presets=[
        Preset("Four tokens", {"power": 2, "sinks": "0"}, "Far worse than four tokens of memory should be."),
        Preset("… and the first", {"power": 2, "sinks": "1"}, "One more token, and most of the damage is gone."),
        Preset("A memory of one", {"power": 0, "sinks": "0"}, "Each token sees only itself."),
    ],
    height=(565, 1022),
)
def window(sentence: str, power: int, sinks: str) -> tuple[Any, ...]:
    reading, kept = read(sentence, least=3), int(sinks)
    count = len(reading.ids)
    widths = study.useful_widths(count)
    runs = {n: study.through_windows(reading.model, reading.ids, widths, n, GOES_ON) for n in sorted({0, kept})}
    found, at = runs[kept], min(power, len(widths) - 1)
    width, full = widths[at], float(found.loss[-1])
    mask = window_mask(count, count, width, kept) & np.tri(count, dtype=bool)
    picture = stack(
        row(
            places(
                [
                    [{"state": "read" if mask[i, j] and i != j else "new" if i == j else "waste" if j < i else "",
                      "note": f"“{spoken(reading.pieces[i])}” "
                      + ("sees" if mask[i, j] else "no longer sees") + f" “{spoken(reading.pieces[j])}”."}
                     for j in range(i + 1)]
                    for i in range(min(count, 20))
                ],
                title="Who may look at whom" + (" (first 20 tokens)" if count > 20 else ""),
                tensor="attn",
                rows=[spoken(name)[:12] for name in reading.pieces[:20]],
                legend=[("new", "itself"), ("read", "visible"), ("waste", "fallen out of the window")],
            ),
            curve(
                [(f"kept: {SINKS[str(n)]}", widths, run.loss) for n, run in runs.items()],
                title="Loss on your sentence against the window",
                x_label="window, in tokens",
                y_label="nats a token",
                tensors=["grad", "k"] if kept else ["grad"],
                log_x=True,
                points=True,
                marker=(width, float(found.loss[at])),
            ),
        ),
        tokens(
            [
                {"text": text, "key": f"t:{i}", "note": f"{found.surprisal[at, i - 1]:.1f}" if i else ""}
                for i, text in enumerate(reading.pieces)
            ],
            title="Surprisal of each token through this window, in nats",
            show=["no-ids"],
            shares=np.concatenate([[0.0], np.minimum(found.surprisal[at] / 16, 1)]),
        ),
        row(
            words(written(found.continued[at]), title=f"It goes on, window of {width}", style="model"),
            words(written(found.continued[-1]), title="… and with everything in view", style="model"),
        ),
    )  # fmt: skip
    loss = float(found.loss[at])
    text = f"{reading.note}" + (
        f"A window of {width} {'tokens' if width > 1 else 'token'}"
        f"{'' if not kept else ' and ' + ('the first token' if kept == 1 else 'the first four tokens')}: loss "
        f"{loss:.2f} nats a token, against {full:.2f} with everything in view. At the end {size(found.kept_bytes[at])} "
        f"of {size(found.kept_bytes[-1])} of keys and values are still in use."
        if width < count
        else f"The window holds the whole sentence: loss {full:.2f} nats a token, and nothing is forgotten."
    )
    if kept and width < count:
        without = float(runs[0].loss[at])
        text += f" Without the {'first token' if kept == 1 else 'first four'} the loss would be {without:.2f}."
    formula = rf"\text{{key }} j \text{{ is visible to query }} i:\quad j > i - {width}" + (
        rf"\;\text{{ or }}\; j \leq {kept}" if kept else ""
    )
    return (
        picture,
        text,
        formula,
        {"loss": found.loss, "widths": widths, "surprisal": found.surprisal},
        {"power": len(widths) - 1},
    )


@chapter.lab(
    "fact",
    title="A fact that falls out of the window",
    controls=[
        Text("told", "A text that ends where the fact is needed", FACT, limit=240, rows=2),
        Text("word", "The word it should say", "Anna", limit=30, rows=1),
        Slider("power", "Window: 2 to the power of", 3, 1, 6),
        Choice("sinks", "Tokens always kept", "1", SINKS),
    ],
    runs=[study.through_windows, sliding_window, window_mask],
    snippet="""
        from engine.cache_study import through_windows, useful_widths
        from engine.model import load
        from engine.tokenization import decode, encode

        ids, word = encode({told!r}, "smollm2")[-48:], encode(" " + {word!r}.strip(), "smollm2")[0]
        found = through_windows(load(), ids, useful_widths(len(ids), 2), sinks={sinks}, tokens=5)
        recalled = found.next[:, word]
        print(found.widths, recalled.round(3), [decode(list(said), "smollm2") for said in found.continued])
    """,
    provenance=REAL,
    real=True,
    presets=[
        Preset("Her name", {"told": FACT, "word": "Anna", "power": 3, "sinks": "1"}, "Fluent, friendly, and wrong."),
        Preset("No token kept", {"told": FACT, "word": "Anna", "power": 3, "sinks": "0"}, "Not forgetful: broken."),
        Preset("In view", {"told": FACT, "word": "Anna", "power": 5, "sinks": "1"}, "Wide enough, and it knows."),
        Preset("Kept by accident", {"told": AT_FRONT, "word": "Anna", "power": 2, "sinks": "4"},
               "The first four tokens are the fact: “My name is Anna”."),
        Preset("Another fact", {"told": BANANA, "word": "banana", "power": 3, "sinks": "1"}, "The same with a secret."),
    ],
    height=795,
)  # fmt: skip
def fact(sentence: str, told: str, word: str, power: int, sinks: str) -> tuple[Any, ...]:
    model, ids = the_model(), encode(told, ENCODING)
    if len(ids) < 3:
        raise ReaderError("Type a text of at least three tokens, one that ends right before the word.")
    wanted = encode(" " + word.strip(), ENCODING) if word.strip() else []
    if not wanted:
        raise ReaderError("Type the word that the text should lead to.")
    note = f"Your text has {len(ids)} tokens; this lab uses the last 48. " if len(ids) > 48 else ""
    ids, kept, target = ids[-48:], int(sinks), wanted[0]
    widths = study.useful_widths(len(ids), 2)
    found = study.through_windows(model, ids, widths, kept, GOES_ON)
    at = min(power, len(widths)) - 1
    width, said = widths[at], [written(one) for one in found.continued]
    recalled = found.next[:, target]
    seen = window_mask(1, len(ids), width, kept)[0]
    best = int(np.argmax(found.next[at]))
    picture = stack(
        tokens(
            [{"text": piece(i), "key": f"t:{j}"} for j, i in enumerate(ids)],
            title="What the end of the text can still see (marked)",
            show=["no-ids"],
            marked=[j for j in range(len(ids)) if seen[j]],
        ),
        curve(
            [(f"p of “{_shown(target)}”", widths, recalled)],
            title=f"How likely “{_shown(target)}” is as the next token",
            x_label="window, in tokens",
            y_label="probability",
            tensors=["logits"],
            log_x=True,
            points=True,
            marker=(width, float(recalled[at])),
        ),
        table(
            ["window", f"p of “{_shown(target)}”", "what it writes"],
            [
                ["all" if w == len(ids) else str(w), f"{p:.2%}", text]
                for w, p, text in zip(widths, recalled, said, strict=True)
            ],
            title="Every window at once",
            marked=[at],
        ),
    )
    through = (
        "With everything in view"
        if width == len(ids)
        else f"Through a window of {width} tokens"
        + ("" if not kept else f" and {SINKS[sinks]} {'token' if kept == 1 else 'tokens'}")
    )
    text = (
        f"{note}{through}, “{_shown(target)}” has {recalled[at]:.1%}"
        + ("" if width == len(ids) else f", against {recalled[-1]:.1%} with everything in view")
        + f". The likeliest next token is “{_shown(best)}” ({found.next[at, best]:.0%}). The loss over the text is "
        f"{found.loss[at]:.2f} nats a token" + ("." if width == len(ids) else f", against {found.loss[-1]:.2f}.")
    )
    formula = (
        rf"\logits{{p}}(\text{{word}}) = {number(float(recalled[at]), 3)} \quad \text{{window }} {width}, \qquad "
        rf"{number(float(recalled[-1]), 3)} \quad \text{{no window}}"
    )
    return picture, text, formula, {"recalled": recalled, "loss": found.loss, "widths": widths}, {"power": len(widths)}


# --- numbers of the prose --------------------------------------------------------------------------------------------


@chapter.number
def example_total() -> int:
    defaults = chapter.labs["table"].defaults()
    return int(defaults["prompt"] + defaults["generated"])


@chapter.number
def uncached_positions() -> str:
    return f"{engine.positions_computed(PROMPT, GENERATED, False):,}"


@chapter.number
def cached_positions() -> str:
    return f"{engine.positions_computed(PROMPT, GENERATED, True):,}"


@chapter.number
def positions_ratio() -> str:
    without, cached = (engine.positions_computed(PROMPT, GENERATED, kept) for kept in (False, True))
    return f"{without / cached:.1f}"


@chapter.number
def share_of_reading() -> str:
    """Scores and mix in the blocks of the last cached step, as the lab below the sentence shows it."""
    step = engine.decode_flops(LLAMA, PROMPT + GENERATED)
    return f"{step.scores_and_mix / (step.total - step.output):.0%}"


@chapter.number
def llama_token() -> str:
    return f"{engine.bytes_per_token(LLAMA):,}"


@chapter.number
def llama_text() -> str:
    return size(engine.cache_bytes(LLAMA, PROMPT + GENERATED))


@chapter.number
def llama_weights() -> str:
    return size(LLAMA.parameters * BF16)


@chapter.number
def llama_crossing() -> str:
    return f"{LLAMA.parameters * BF16 // engine.bytes_per_token(LLAMA):,}"


@chapter.number
def deepseek_token() -> str:
    return f"{engine.latent_bytes_per_token(60):,}"


@chapter.number
def deepseek_every_head() -> str:
    return f"{2 * 60 * 128 * 128 * 2:,}"


@chapter.number
def smollm2_weights() -> str:
    return size(SMOLLM2.parameters * 4)


@chapter.number
def smollm2_token() -> str:
    return f"{engine.bytes_per_token(SMOLLM2, 4):,}"


# --- check yourself --------------------------------------------------------------------------------------------------


@chapter.answer
def a_token_of_llama() -> int:
    return int(engine.bytes_per_token(LLAMA))


@chapter.answer
def steps_saved(step: int, policy: str, block: str, room: int, seed: int) -> float:
    """How many times sooner paging has served everybody, with the reader's own requests and memory."""
    asked, length = paging.requests(COUNT, seed, LONGEST), int(block)
    reserved, paged = (paging.simulate(name, asked, room // length, length, LONGEST) for name in ("reserved", "paged"))
    return reserved.steps / paged.steps


@chapter.answer
def mended_by_one() -> float:
    """The share of the damage of a window of 8 that the first token alone undoes, in per cent."""
    ids = encode(FACT, ENCODING)
    widths = study.useful_widths(len(ids), 2)
    bare, mended = (study.through_windows(the_model(), ids, widths, kept, GOES_ON).loss for kept in (0, 1))
    at = widths.index(8)
    return 100 * float((bare[at] - mended[at]) / (bare[at] - bare[-1]))


chapter.code["extend"] = engine.KVCache.extend
chapter.code["bytes_per_token"] = engine.bytes_per_token

register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
