"""Proof: every check that the tests hold, made again while the reader looks, and what a mistake does to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from dash import register_page

from engine import mistakes, proof_list, proof_model, proofs
from engine.backpropagation import gradient_check
from engine.model import Model, available
from engine.proof_tokenizers import tokenized
from engine.proofs import GRADIENT, KINDS, REFERENCE, TWO_WAYS, Measured, made
from engine.sampling import softmax
from engine.tokenization import ENCODINGS, token_bytes, tokens_by_merging
from pages._chips import label, many
from pages._chips import piece as chip
from pages._reading import piece, read, spoken, the_model
from ui.chapter import BOOK, Chapter
from ui.controls import Choice, Pick, Text, Toggle, within
from ui.figures import bars, readouts, row, stack, table, tokens
from ui.jobs.work import Long, Progress, Steps
from ui.lab import Preset, ReaderError
from ui.mathml import number, superscript

chapter = Chapter(__name__, Path(__file__).parent)

REAL = "SmolLM2's real weights, and what Hugging Face computed with them"
TITLES = {"model": "The real model"} | {entry.slug: entry.title for entry in BOOK.entries}
ORDER = [*(entry.slug for entry in BOOK.entries if entry.slug in proof_list.groups()), "model"]
CHAPTERS = {slug: TITLES[slug] for slug in ORDER if slug != "model"}
HEADINGS = {REFERENCE: "Against another library", GRADIENT: "Gradients", TWO_WAYS: "A second way to the same number"}
SHORT = {REFERENCE: "other library", GRADIENT: "gradient", TWO_WAYS: "second way"}
NO_BREAK = "\u00a0"


def small(value: float) -> str:
    """An error for a reader: 4.0 · 10⁻¹⁶, or 0 where nothing differs."""
    if not np.isfinite(value):
        return "no fit"
    if value == 0:
        return "0"
    if 0.01 <= value < 10_000:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    raised = superscript(int(exponent))
    return f"{'' if mantissa == '1.0' else mantissa + NO_BREAK + '·' + NO_BREAK}10{raised}"


def used(found: Measured) -> Any:
    """How much of what is allowed an error uses up."""
    if not found.passed:
        return "too much"
    return {"share": found.error / found.check.limit} if found.check.limit else "exact"


def worst(found: Sequence[Measured]) -> Measured:
    """The check that comes nearest to its limit, or is farthest beyond it."""
    return max(found, key=lambda m: m.error / m.check.limit if m.check.limit else m.error * 1e300)


def milliseconds(found: Sequence[Measured]) -> str:
    return f"{1000 * sum(m.seconds for m in found):.1f}"


def check_table(found: Sequence[Measured], title: str) -> Any:
    return table(
        ["check", "largest error", "allowed", "used", "ms", "compared with"],
        [[m.check.name, small(m.error), small(m.check.limit), used(m), milliseconds([m]), m.check.against]
         for m in found],
        title=title,
        marked=[i for i, m in enumerate(found) if not m.passed],
    )  # fmt: skip


def function_table(found: Sequence[Measured]) -> Any:
    """One line a function: the largest error of each kind of check."""
    names = dict.fromkeys(m.check.function.__name__ for m in found)
    rows = []
    for name in names:
        own = [m for m in found if m.check.function.__name__ == name]
        by_kind = [[m for m in own if m.check.kind == kind] for kind in KINDS]
        cells = [small(max(m.error for m in some)) if some else "–" for some in by_kind]
        against = next((m.check.against for some in by_kind for m in some), "")
        rows.append([name, *cells, str(len(own)), used(worst(own)), milliseconds(own), against])
    return table(
        ["function", *SHORT.values(), "checks", "used", "ms", "compared with, first of all"],
        rows,
        title="The largest error of each kind of check",
    )


def verdict(found: Sequence[Measured]) -> str:
    """How many hold, and which comes nearest to its limit."""
    held = sum(m.passed for m in found)
    near = worst(found)
    if held < len(found):
        return f"{held} of {len(found)} checks hold. “{near.check.name}” is off by {small(near.error)}."
    share = near.error / near.check.limit if near.check.limit else 0.0
    closest = (
        f" The nearest to its limit is “{near.check.name}”, against {near.check.against}: {small(near.error)} of "
        f"{small(near.check.limit)}."
        if share
        else " None is off by anything at all."
    )
    return (f"All {len(found)} checks hold." if len(found) > 1 else "The one check holds.") + closest


def against_its_limit(found: Measured) -> str:
    relation = r"\le" if found.passed else ">"
    kind = {
        REFERENCE: r"\frac{\max|\text{ours} - \text{theirs}|}{\max|\text{theirs}|}",
        GRADIENT: r"\max\frac{|\grad{g} - \Delta f / 2\epsilon|}{\max(|\grad{g}|, |\Delta f / 2\epsilon|)}",
        TWO_WAYS: r"\max|\text{one way} - \text{the other}|",
    }[found.check.kind]
    return rf"{kind} = {number(found.error, 2)} {relation} {number(found.check.limit, 2)}"


# --- function by function --------------------------------------------------------------------------------------------


@chapter.lab(
    "functions",
    title="Every function, compared now",
    controls=[
        Choice("group", "Chapter", "sampling", options=CHAPTERS),
        Toggle("each", "Every check on a line of its own", False),
    ],
    runs=[made, proofs.relative_error, gradient_check],
    snippet="""
        import numpy as np
        from engine.proof_list import checks
        from engine.proofs import made

        found = [made(check) for check in checks({group!r})]
        errors = np.array([one.error for one in found])
        limits = np.array([one.check.limit for one in found])
        print(len(found), np.all(errors <= limits))
    """,
    provenance="Computed now; the other libraries' results are stored, with their versions and seeds",
    presets=[
        Preset("Attention", {"group": "attention", "each": True}, "Against PyTorch, against itself, and its slopes."),
        Preset("RoPE", {"group": "rope", "each": True}, "Four kinds of it, against Hugging Face's."),
        Preset("Published totals", {"group": "block", "each": True}, "Nine models, counted: the difference is 0."),
        Preset("Tokenization", {"group": "tokenization"}, "Hundreds of awkward strings, in four encodings."),
    ],
    cached=False,
    height=360,
)
def functions(group: str, each: bool) -> tuple[Any, ...]:
    found = [made(check) for check in proof_list.checks(group)]
    by_kind = {kind: [m for m in found if m.check.kind == kind] for kind in KINDS}
    picture = (
        stack(*(check_table(some, HEADINGS[kind]) for kind, some in by_kind.items() if some))
        if each
        else function_table(found)
    )
    counted = ", ".join(f"{len(some)} by {kind}" for kind, some in by_kind.items() if some)
    text = f"{TITLES[group]}: {counted}. {verdict(found)} It took {milliseconds(found)} ms."
    return picture, text, against_its_limit(worst(found)), errors_of(found)


def errors_of(found: Sequence[Measured]) -> dict[str, Any]:
    return {
        "names": [m.check.name for m in found],
        "against": [m.check.against for m in found],
        "errors": np.array([m.error for m in found]),
        "limits": np.array([m.check.limit for m in found]),
    }


# --- all of them -----------------------------------------------------------------------------------------------------

WHICH = {"hand": "Everything but the real model", "model": "The real model", "both": "Both"}


@chapter.lab(
    "everything",
    title="All checks, one after the other",
    controls=[Choice("which", "What to check", "both", options=WHICH)],
    runs=[proof_list.checks, made],
    snippet="""
        import numpy as np
        from engine.proof_list import checks
        from engine.proofs import made

        groups = {{"hand": ["all"], "model": ["model"], "both": ["all", "model"]}}[{which!r}]
        found = [made(check) for group in groups for check in checks(group)]
        held = np.array([one.passed for one in found])
        print(held.sum(), "of", len(held))
    """,
    provenance="Computed now, on this server",
    height=120,
    long=Long(seconds=180, takes="about 10 seconds", quick={"which": "hand"}),
)
def everything(which: str) -> Steps:
    groups = [slug for slug in ORDER if which == "both" or (slug == "model") == (which == "model")]
    if which != "hand" and not (there := available()):
        raise ReaderError(there.reason)
    wanted = [check for group in groups for check in proof_list.checks(group)]
    found: list[Measured] = []
    for check in wanted:
        found.append(made(check))
        yield Progress(len(found) / len(wanted), f"{TITLES[check.chapter]}: {check.name}", all_shown(found))
    return all_shown(found)


def all_shown(found: Sequence[Measured]) -> tuple[Any, ...]:
    by_chapter = {slug: [m for m in found if m.check.chapter == slug] for slug in ORDER}
    some = {slug: own for slug, own in by_chapter.items() if own}
    picture = stack(
        table(
            ["chapter", "checks", "hold", "nearest to its limit", "used", "ms"],
            [[TITLES[slug], str(len(own)), str(sum(m.passed for m in own)), worst(own).check.name, used(worst(own)),
              milliseconds(own)] for slug, own in some.items()],
            title="By chapter",
            marked=[i for i, own in enumerate(some.values()) if not all(m.passed for m in own)],
        ),
        readouts(
            [("checks", f"{len(found)}"), ("hold", f"{sum(m.passed for m in found)}"),
             ("exactly equal", f"{sum(m.error == 0 for m in found)}"),
             ("seconds", f"{sum(m.seconds for m in found):.1f}")]
        ),
    )  # fmt: skip
    held = np.array([m.passed for m in found])
    formula = rf"\text{{checks that hold}} = {int(held.sum())} \text{{ of }} {len(held)}"
    return picture, verdict(found), formula, {**errors_of(found), "held": held}


# --- the real model --------------------------------------------------------------------------------------------------

NAMES = {
    "france": "The capital of France is", "sentence": "A quotation", "one": "One word", "code": "Python",
    "german": "German", "japanese": "Japanese", "arabic": "Arabic",
    "numbers": "Numbers", "repeated": "A repetition", "emoji": "Emoji",
    "spaces": "White space", "chat": "The chat template",
}  # fmt: skip
LIKELIEST = 8


@chapter.lab(
    "hugging-face",
    title="Twelve texts, against Hugging Face",
    controls=[Choice("text", "Text", "france", options=NAMES), Pick("position", "Position", -1)],
    runs=[proof_model.differences, Model.forward],
    snippet="""
        import numpy as np
        from engine.model import load
        from engine.proof_model import differences, stored_of

        golden = stored_of({text!r})
        log_p = differences(load().trace(golden.ids), golden).log_p
        print(golden.text, log_p.max())
    """,
    provenance=REAL,
    presets=[
        Preset("German", {"text": "german"}, "A language that the model is bad at: the same badness, to five digits."),
        Preset("Emoji", {"text": "emoji"}, "Characters cut into bytes."),
        Preset("White space", {"text": "spaces"}, "Nearly nothing to read, and still the same numbers."),
        Preset("The longest", {"text": "numbers"}, "Each digit is a token of its own."),
    ],
    real=True,
    height=(480, 860),
)
def hugging_face(sentence: str, text: str, position: int) -> tuple[Any, ...]:
    model, golden = the_model(), proof_model.stored_of(text)
    found = proof_model.of_text(text)
    at = within(position, len(golden.ids))
    p, ids = softmax(model.trace(golden.ids)["logits"][at]), golden.top_ids[at, :LIKELIEST]
    theirs = np.exp(golden.top_log_p[at, :LIKELIEST])
    off = np.abs(np.log(p[ids]) - golden.top_log_p[at, :LIKELIEST])
    picture = stack(
        tokens(
            [{"text": piece(int(i)), "note": f"off by {small(float(d))}"}
             for i, d in zip(golden.ids, found.log_p, strict=True)],
            title="The text; the darker, the larger the difference after this token. Click one",
            shares=found.log_p / found.log_p.max(),
            pick="position", picked=at, show=["no-ids"],
        ),
        table(
            ["likeliest next token", "here", "Hugging Face", "difference of log p"],
            [[label(token_bytes(int(i), "smollm2")), f"{ours:.7f}", f"{other:.7f}", small(float(d))]
             for i, ours, other, d in zip(ids, p[ids], theirs, off, strict=True)],
            title=f"After “{spoken(piece(int(golden.ids[at])))}”",
        ),
        readouts(
            [("log p, anywhere", small(float(found.log_p.max()))), ("logits", small(found.columns)),
             ("stream, relative", small(found.stream)), ("other likeliest tokens", str(found.choices)),
             *([("loss here", f"{found.loss:.6f}"), ("loss there", f"{found.their_loss:.6f}")]
               if len(golden.ids) > 1 else [])],
            title="The largest differences on this text",
        ),
    )  # fmt: skip
    far = float(found.log_p.max())
    text_said = (
        f"{many(len(golden.ids), 'position')}, 20 tokens at each: no log-probability "
        f"differs by more than {small(far)}, and {small(proof_model.LOG_P)} is allowed. "
        + (
            "The likeliest token is the same everywhere."
            if not found.choices
            else f"At {found.choices} positions another token is likeliest."
        )
    )
    ours, other = float(np.log(p[ids[0]])), float(golden.top_log_p[at, 0])
    formula = (
        rf"|\ln \logits{{p}} - \ln \logits{{p}}_\text{{HF}}| = |{number(ours, 7)} - ({number(other, 7)})| = "
        rf"{number(abs(ours - other), 2)}"
    )
    return picture, text_said, formula, {"log_p": found.log_p, "here": p[ids], "there": theirs}


# --- the reader's own sentence, two ways -----------------------------------------------------------------------------

OWN = 12
"""Tokens: each is computed once more by itself."""


@chapter.lab(
    "two-ways",
    title="Your sentence, by two ways",
    controls=[],
    runs=[
        proof_model.cached_difference,
        proof_model.stream_difference,
        proof_model.copied_heads_difference,
        proof_model.shifted_difference,
    ],
    snippet="""
        from engine.model import load
        from engine.proof_model import WAYS_OF_A_TEXT
        from engine.tokenization import encode

        model, ids = load(), encode({sentence!r}, "smollm2")[:12]
        errors = [measure(model, ids) for measure, _, _ in WAYS_OF_A_TEXT.values()]
        print(errors)
    """,
    provenance="SmolLM2's real weights on the sentence at the top of the page",
    real=True,
    height=(260, 735),
)
def two_ways(sentence: str) -> tuple[Any, ...]:
    reading = read(sentence, limit=OWN)
    ways = proof_model.WAYS_OF_A_TEXT
    errors = kept_errors(reading.model, reading.ids)
    limits = [limit for _, _, limit in ways.values()]
    picture = stack(
        tokens([{"text": name, "id": i} for name, i in zip(reading.pieces, reading.ids, strict=True)], show=["plain"]),
        table(
            ["one way", "the other", "largest difference", "allowed"],
            [[name, against, small(float(error)), small(limit)]
             for (name, (_, against, limit)), error in zip(ways.items(), errors, strict=True)],
            title="The same numbers, reached twice",
            marked=[i for i, (error, limit) in enumerate(zip(errors, limits, strict=True)) if error > limit],
        ),
    )  # fmt: skip
    held = sum(bool(error <= limit) for error, limit in zip(errors, limits, strict=True))
    text = (
        f"{reading.note}{'All' if held == len(limits) else f'{held} of'} {len(limits)} ways agree. With the cache and "
        f"without it, no log-probability differs by more than {small(float(errors[0]))}."
    )
    formula = rf"\max|\ln p_\text{{cached}} - \ln p_\text{{whole}}| = {number(float(errors[0]), 2)}"
    return picture, text, formula, {"errors": errors, "limits": np.array(limits)}


def kept_errors(model: Model, ids: tuple[int, ...]) -> np.ndarray:
    """All differences of one text; the model's memo keeps them."""
    measures = [measure for measure, _, _ in proof_model.WAYS_OF_A_TEXT.values()]
    found: np.ndarray = model.memo.get(
        ("two ways", ids), lambda: np.array([measure(model, ids) for measure in measures])
    )
    return found


# --- tokenizers ------------------------------------------------------------------------------------------------------


@chapter.lab(
    "tokenizers",
    title="Two tokenizers, your text",
    controls=[
        Text("text", "Text", "naïve 👩🏽‍🚀  1984½", limit=120),
        Choice("encoding", "Chips of", "smollm2", options={name: name for name in ENCODINGS}),
    ],
    runs=[tokens_by_merging, tokenized],
    snippet="""
        from engine.proof_tokenizers import tokenized

        same = [found.same for found in tokenized({text!r})]
        print(same)
    """,
    provenance="tiktoken and the engine's own merging, both now; Hugging Face's ids for SmolLM2 are stored",
    presets=[
        Preset(
            "Digits", {"text": "٠١٢٣ and ½ cup, x² + y³"}, "SmolLM2 cuts digits off first, and these count as digits."
        ),
        Preset("Right to left", {"text": "שלום עולم \u200fمرحبا"}, "Bytes run left to right whatever the script does."),
        Preset("Spaces", {"text": "a    12  3   "}, "Where runs of spaces break is where tokenizers differ."),
        Preset("Unspeakable", {"text": "👩🏽‍🚀 🇩🇪 e\u0301"}, "Several code points make one picture."),
        Preset("A special token", {"text": "<|im_start|>user"}, "Typed text stays text."),
    ],
    height=300,
)
def tokenizers(text: str, encoding: str) -> tuple[Any, ...]:
    found = tokenized(text)
    shown = next(one for one in found if one.encoding == encoding)
    names = {None: "not among the stored", True: "the same", False: "different"}
    picture = stack(
        tokens(
            [chip(token_bytes(i, encoding), id=i) for i in shown.ids],
            title=f"{encoding}, {many(len(shown.ids), 'token')} by tiktoken",
        ),
        table(
            ["encoding", "tokens", "merged in Python", "bytes come back", "Hugging Face"],
            [[one.encoding, str(len(one.ids)), "the same" if one.same else "different",
              "yes" if one.back and not one.dropped else f"all but {one.dropped}" if one.back else "no",
              names[one.stored] if one.encoding == "smollm2" else "–"] for one in found],
            title="Cut twice, in all four encodings",
            marked=[i for i, one in enumerate(found) if not (one.same and one.back)],
        ),
    )  # fmt: skip
    same = sum(one.same for one in found)
    lost = next(one.dropped for one in found if one.encoding == "smollm2")
    said = f"{'All' if same == len(found) else same} {len(found)} encodings cut this text the same way twice."
    if lost:
        said += f" SmolLM2's vocabulary has no token for {many(lost, 'byte')} of it, dropped here."
    if not shown.ids:
        said = "Without text there is nothing to cut. Type something." if not text else said
    counts = r",\ ".join(rf"\tokens{{{len(one.ids)}}}" for one in found)
    formula = rf"\text{{tokens in the four encodings:}}\ {counts}"
    data = {"ids": np.array(shown.ids), "same": [one.same for one in found]}
    return picture, said, formula, data


# --- break it --------------------------------------------------------------------------------------------------------

MISTAKES = {name: mistake.what[:1].upper() + mistake.what[1:] for name, mistake in mistakes.MISTAKES.items()}


@chapter.lab(
    "broken",
    title="Break it: who notices?",
    controls=[Choice("mistake", "Mistake", "gate", options=MISTAKES)],
    runs=[mistakes.with_mistake, *(mistake.wrong for mistake in mistakes.MISTAKES.values())],
    snippet="""
        import numpy as np
        from engine.mistakes import with_mistake

        found = with_mistake({mistake!r})
        errors = np.array([one.error for one in found])
        caught = np.array([not one.passed for one in found])
        print(caught.sum(), "of", len(caught))
    """,
    provenance="The same checks, with a wrong function in place of the engine's",
    presets=[
        Preset("Exchanged", {"mistake": "gate"}, "The gradient of the wrong function is a right gradient."),
        Preset("No maximum", {"mistake": "maximum"}, "Right on ordinary numbers. One check uses extraordinary ones."),
        Preset("A wrong slope", {"mistake": "constant"}, "Every value is right. Only the gradient check sees it."),
        Preset("Wrong pairs", {"mistake": "pairs"}, "Distances stay distances: the elegant check is blind here."),
        Preset("Fourth digit", {"mistake": "gelu"}, "Two formulas that are never half a thousandth apart."),
    ],
    height=420,
)
def broken(mistake: str) -> tuple[Any, ...]:
    found = mistakes.with_mistake(mistake)
    caught = [m for m in found if not m.passed]
    kinds = [kind for kind in KINDS if any(m.check.kind == kind for m in caught)]
    blind = [kind for kind in KINDS if any(m.check.kind == kind for m in found) and kind not in kinds]
    loudest = max(caught, key=lambda m: m.error if np.isfinite(m.error) else -1)
    picture = stack(
        bars(
            [SHORT[kind] for kind in KINDS if any(m.check.kind == kind for m in found)],
            [np.mean([not m.passed for m in found if m.check.kind == kind])
             for kind in KINDS if any(m.check.kind == kind for m in found)],
            title="Share of the checks that notice", tensor="grad", share=True, limit=1.0,
        ),
        table(
            ["check", "verdict", "error", "allowed", "compared with"],
            [[m.check.name, "passes" if m.passed else "caught", small(m.error), small(m.check.limit), m.check.against]
             for m in found],
            title="Each check of this function, with the mistake in it",
            marked=[i for i, m in enumerate(found) if not m.passed],
        ),
    )  # fmt: skip
    said = f"{MISTAKES[mistake]}: {len(caught)} of {len(found)} checks notice"
    said += (
        f", the largest error being {small(loudest.error)}."
        if np.isfinite(loudest.error)
        else ": no number, or the wrong type."
    )
    if blind:
        said += f" Not one of those by {' or by '.join(blind)} does."
    return picture, said, against_its_limit(loudest), {
        "checks": [m.check.name for m in found],
        "errors": np.array([m.error for m in found]),
        "caught": np.array([not m.passed for m in found]),
    }  # fmt: skip


MODEL_MISTAKES = {name: what[:1].upper() + what[1:] for name, (what, _) in mistakes.MODEL_MISTAKES.items()}
PARIS = 7042
PROBES = ("france", "german")


@chapter.lab(
    "broken-model",
    title="Break the real model",
    controls=[Choice("mistake", "Mistake in all 30 blocks", "pairs", options=MODEL_MISTAKES)],
    runs=[mistakes.broken_run, proof_model.differences],
    snippet="""
        import numpy as np
        from engine.mistakes import broken_differences
        from engine.model import load
        from engine.proof_model import stored_of

        errors = np.array([
            broken_differences(load(), stored_of(text), {mistake!r}).log_p.max() for text in ("france", "german")
        ])
        print(errors)
    """,
    provenance=REAL,
    presets=[
        Preset("Wrong pairs", {"mistake": "pairs"}, "The best-known mistake with this file format."),
        Preset(
            "Cheating",
            {"mistake": "ahead"},
            "On five words it looks better than the right model. Then look at the German.",
        ),
        Preset("A small ε", {"mistake": "eps"}, "One constant in a configuration file."),
        Preset(
            "Sixteen bits", {"mistake": "half"}, "What is saved in memory costs a log-probability its second decimal."
        ),
    ],
    real=True,
    height=(420, 821),
)
def broken_model(sentence: str, mistake: str) -> tuple[Any, ...]:
    reading = read(sentence, limit=24)
    model = reading.model
    golden = {name: proof_model.stored_of(name) for name in PROBES}
    found = {name: mistakes.broken_differences(model, text, mistake) for name, text in golden.items()}
    paris = softmax(mistakes.broken_run(model, golden["france"].ids, mistake)["logits"][-1])
    own = softmax(mistakes.broken_run(model, reading.ids, mistake)["logits"][-1])
    plain = softmax(reading.trace["logits"][-1])
    top = np.argsort(-np.maximum(own, plain), kind="stable")[:6]
    errors = np.array([float(d.log_p.max()) for d in found.values()])
    caught = not all(d.passed for d in found.values())
    picture = stack(
        readouts(
            [("“The capital of France is”", f"“{spoken(piece(int(paris.argmax())))}” {paris.max():.1%}"),
             *((f"log p, {NAMES[name] if name != 'france' else 'France'}", f"off by {small(e)}")
               for name, e in zip(PROBES, errors, strict=True)),
             *((f"loss, {NAMES[name] if name != 'france' else 'France'}", f"{d.loss:.3f} for {d.their_loss:.3f}")
               for name, d in found.items())],
            title="What a glance shows, and what the numbers show",
        ),
        row(
            bars([piece(int(i)) for i in top], plain[top], title="Your sentence goes on with: whole model",
                 tensor="logits", share=True, limit=1.0),
            bars([piece(int(i)) for i in top], own[top], title="With the mistake",
                 tensor="grad", share=True, limit=1.0),
        ),
    )  # fmt: skip
    says = int(paris.argmax()) == PARIS
    better = found["france"].loss < found["france"].their_loss - 5e-4
    said = f"{reading.note}{MODEL_MISTAKES[mistake]}. "
    if mistake == "none":
        said += f"The largest difference from Hugging Face is {small(float(errors.max()))}: within what is allowed."
    else:
        said += (
            f"The model {'still' if says else 'no longer'} says Paris. The numbers say otherwise: a log-probability is "
            if says
            else "The model no longer says Paris, and a log-probability is "
        )
        said += f"off by {small(float(errors.max()))}, {errors.max() / proof_model.LOG_P:,.0f} times what is allowed."
        said += " Its loss on the sentence about France is even better than the right model's." if better else ""
    relation = ">" if caught else r"\le"
    formula = (
        rf"\max|\ln\logits{{p}} - \ln\logits{{p}}_\text{{HF}}| = {number(float(errors.max()), 2)} "
        rf"{relation} {number(proof_model.LOG_P)}"
    )
    return picture, said, formula, {"errors": errors, "own": own[top], "whole": plain[top], "top": top}


# --- versions and hashes ---------------------------------------------------------------------------------------------

COMMANDS = {
    "functions.npz": "make_function_goldens.py",
    "smollm2.npz": "make_smollm2_goldens.py MODEL.gguf",
    "tokenization_smollm2.json": "tokenization_reference.py MODEL.gguf",
    "optimizers.npz": "make_optimizer_goldens.py",
    "training.npz": "make_training_goldens.py",
    "post_training.npz": "make_post_training_goldens.py",
    "minilm.npz": "make_minilm_goldens.py FOLDER",
    "chat_template.json": "make_chat_goldens.py MODEL.gguf",
}


@chapter.lab(
    "files",
    title="Versions and hashes",
    controls=[],
    runs=[proof_list.hashed_files, proof_list.sha256_of, proof_list.reference_versions],
    snippet="""
        from engine.proof_list import hashed_files

        same = [file.same for file in hashed_files()]
        print(same)
    """,
    provenance="Hashed by this server from the files it runs on",
    height=420,
)
def files() -> tuple[Any, ...]:
    found = proof_list.hashed_files()
    made_by = proof_list.reference_versions()
    picture = stack(
        readouts(list(proof_list.versions().items()), title="What computes here"),
        table(
            ["file", "MB", "sha256, first and last digits", "pinned"],
            [[file.name, f"{file.bytes / 1e6:.2f}", f"{file.found[:16]} … {file.found[-8:]}" if file.found else "–",
              "the same" if file.same else "another"] for file in found],
            title="Files that the numbers rest on",
            marked=[i for i, file in enumerate(found) if not file.same],
        ),
        table(
            ["stored results", "command: python tests/references/…", "made with"],
            [[name, COMMANDS.get(name, "–"), said] for name, said in made_by.items()],
            title="What other libraries computed, once",
        ),
    )  # fmt: skip
    same = sum(file.same for file in found)
    missing = len(ENCODINGS) + 2 - len(found)
    text = (
        f"{same} of {len(found)} files have the hash that the project pins."
        + (f" {missing} more {'is' if missing == 1 else 'are'} not installed here." if missing else "")
        + f" The stored results come from {len(made_by)} files."
    )
    megabytes = sum(file.bytes for file in found) / 1e6
    formula = rf"\text{{hashed: }} {number(megabytes)} \text{{ MB in }} {len(found)} \text{{ files}}"
    data = {"names": [file.name for file in found], "sha256": [file.found for file in found],
            "same": [file.same for file in found]}  # fmt: skip
    return picture, text, formula, data


BOOK.before_serving.append(proof_list.hashed_files)


# --- numbers of the prose --------------------------------------------------------------------------------------------


def count(kind: str) -> int:
    return sum(check.kind == kind for check in proof_list.HAND_SIZED)


@chapter.number
def hand_sized() -> int:
    return len(proof_list.HAND_SIZED)


@chapter.number
def references() -> int:
    return count(REFERENCE)


@chapter.number
def gradients() -> int:
    return count(GRADIENT)


@chapter.number
def second_ways() -> int:
    return count(TWO_WAYS)


@chapter.number
def of_the_model() -> int:
    return len(proof_list.checks("model"))


@chapter.number
def slope_limit() -> str:
    return small(proofs.SLOPE)


@chapter.number
def double_limit() -> str:
    return small(proofs.FLOAT64)


@chapter.number
def single_limit() -> str:
    return small(proofs.FLOAT32)


@chapter.number
def log_p_limit() -> str:
    return small(proof_model.LOG_P)


@chapter.number
def mistakes_here() -> int:
    return len(mistakes.MISTAKES)


@chapter.number
def encodings() -> int:
    return len(ENCODINGS)


@chapter.number
def torch_version() -> str:
    return proof_list.reference_versions()["functions.npz"].split(",")[0].replace("torch ", "PyTorch ")


# --- check yourself --------------------------------------------------------------------------------------------------


def kinds_that_notice(mistake: str) -> set[str]:
    return {found.check.kind for found in mistakes.with_mistake(mistake) if not found.passed}


@chapter.answer
def gradient_checks_that_see_exchanged_matrices() -> bool:
    """Does a gradient check notice that gate and up are exchanged?"""
    return GRADIENT in kinds_that_notice("gate")


@chapter.answer
def who_sees_the_forgotten_maximum() -> int:
    """How many checks notice that the maximum is not subtracted."""
    return sum(not found.passed for found in mistakes.with_mistake("maximum"))


@chapter.answer
def only_the_gradient_check_sees_the_constant() -> str:
    """Which kind of check sees a wrong slope under right values."""
    [kind] = kinds_that_notice("constant")
    return kind


chapter.code["made"] = made
chapter.code["relative_error"] = proofs.relative_error

register_page(__name__, path=chapter.entry.path, title=chapter.entry.title, layout=chapter.layout)
