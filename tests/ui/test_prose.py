"""A chapter's Markdown: directives, formulas, terms, words that set controls, numbers; questions and labs."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from engine.attention import attention
from ui import mathml
from ui.chapter import as_script_json, right_choice, written
from ui.controls import Slider, Toggle
from ui.lab import SENTENCE, Lab, as_csv, is_sentence, own_names, snippet
from ui.prose import code_html, function_html, inline, sections
from ui.shell import page_html


def html_of(text: str, **numbers: Any) -> str:
    """A passage without directives as HTML."""
    [section] = sections(text, numbers, "attention")
    assert section.kind == "prose"
    return section.content


def test_directives_place_labs_and_code_between_prose() -> None:
    found = sections("One.\n\n::: lab scores\n\nTwo.\n::: code attention\n:::   lab   last  \n", {}, "attention")
    assert [(part.kind, part.content.strip()) for part in found] == [
        ("prose", "<p>One.</p>"),
        ("lab", "scores"),
        ("prose", "<p>Two.</p>"),
        ("code", "attention"),
        ("lab", "last"),
    ]
    assert sections("", {}, "attention") == []
    assert [part.kind for part in sections("::: lab only", {}, "attention")] == ["lab"]


def test_three_colons_inside_a_line_are_text() -> None:
    assert [part.kind for part in sections("A ::: lab b is how it is written.", {}, "x")] == ["prose"]


def test_numbers_are_computed_and_an_unknown_one_is_an_error() -> None:
    assert html_of("There are {{ many }} and {{share}}.", many=134515008, share=0.123456) == (
        "<p>There are 134,515,008 and 0.1235.</p>\n"
    )
    assert "yes" in html_of("{{word}}", word="yes")
    with pytest.raises(KeyError, match="missing"):
        html_of("{{missing}}")


def test_formulas_are_mathml_with_their_tensors_colours() -> None:
    markup = html_of(r"So $\q{Q}\k{K}^\top / \sqrt{d}$ it is." "\n\n$$x < y$$")
    assert markup.count("<math") == 2
    assert 'display="inline"' in markup
    assert 'display="block"' in markup
    assert 'class="t-q"' in markup
    assert 'class="t-k"' in markup
    assert "mathcolor" not in markup
    assert "<msqrt>" in markup
    assert "$" not in markup


def test_only_bars_that_were_asked_to_stretch() -> None:
    assert mathml.mathml(r"\lVert w \rVert |x|").count('stretchy="false"') == 4
    assert mathml.mathml(r"\left| w \right|").count('stretchy="true"') == 2


@pytest.mark.parametrize("latex", ["p'", r"\theta'_{22}", r"y'_\text{dog}"])
def test_a_prime_is_large_enough_to_be_seen(latex: str) -> None:
    assert '<mo mathsize="150%"' in mathml.mathml(latex)


@pytest.mark.parametrize("name", mathml.TENSORS)
def test_every_tensor_has_its_macro(name: str) -> None:
    assert f'class="t-{name}"' in mathml.mathml(rf"\{name}{{X}}")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (-0.12345, "-0.1235"),
        (123456.0, r"1.235 \times 10^{5}"),
        (1e-9, r"1 \times 10^{-9}"),
        (float("nan"), r"\text{not a number}"),
        (float("inf"), r"\infty"),
        (float("-inf"), r"-\infty"),
        (1e308, r"1 \times 10^{308}"),
    ],
)
def test_numbers_in_formulas(value: float, text: str) -> None:
    assert mathml.number(value) == text
    assert mathml.mathml(f"x = {mathml.number(value)}").startswith("<math")


def test_a_negative_factor_stands_in_brackets() -> None:
    assert [mathml.bracketed(value, 3) for value in (-0.1024, 0.0, 2.5)] == ["(-0.102)", "0", "2.5"]
    for value in (3e-7, -3e-7, 4e12):  # a power of a power needs them too
        assert mathml.mathml(rf"{mathml.bracketed(value)}^2").count("<msup>") >= 1


def test_terms_setters_and_links() -> None:
    markup = html_of(
        "A [logit](term:logit), [no *mask*](set:scores?causal=0&rate=0.5), "
        "[elsewhere](https://arxiv.org/abs/1706.03762), [there](/attention#scores)."
    )
    assert '<button type="button" class="term" data-term="logit" aria-expanded="false">logit</button>' in markup
    assert 'data-set="attention-scores"' in markup
    values = unescape(markup.partition('data-values="')[2].partition('"')[0])
    assert json.loads(values) == {"causal": "0", "rate": "0.5"}
    assert "no <em>mask</em></button>" in markup
    assert '<a href="https://arxiv.org/abs/1706.03762" rel="noopener">elsewhere</a>' in markup
    assert '<a href="/attention#scores">there</a>' in markup


def test_a_line_is_markdown_without_a_paragraph() -> None:
    markup = inline("How *much* of $x$?")
    assert markup.startswith("How <em>much</em> of ")
    assert "<math" in markup
    assert "<p>" not in markup


def test_code_is_highlighted_and_escaped() -> None:
    markup = code_html('x = "<b>&" if 1 < 2 else None')
    assert "<b>" not in markup
    assert "&lt;b&gt;&amp;" in markup
    assert 'class="code"' in markup
    assert "engine.attention.attention" in function_html(attention)
    assert "jaxtyped" not in function_html(attention), "the source as it stands in the file"


def test_json_inside_a_script_cannot_end_it() -> None:
    text = as_script_json({"a": "</script><!--<script>\u2028\u2029", "b": [1.5, None, True]})
    assert "<" not in text
    assert json.loads(text) == {"a": "</script><!--<script>\u2028\u2029", "b": [1.5, None, True]}


def test_the_first_response_survives_any_sentence() -> None:
    import app  # the pages must be registered

    assert app.app
    files = dict.fromkeys(("css", "js", "theme", "icon", "plotly"), "x")
    parts = dict.fromkeys(("app_entry", "config", "scripts", "renderer"), "")
    for sentence in ('"><script>alert(1)</script>', "</script>", "\u2028", "{{x|y}}", "\udc00"):
        page = page_html("/", {"s": sentence}, files, parts)
        page.encode()
        assert "<script>alert" not in page


# --- questions --------------------------------------------------------------------------------------------------------


def question(*values: Any) -> dict[str, Any]:
    return {"choice": [{"value": value} for value in values]}


def test_the_right_choice_is_what_was_computed() -> None:
    assert right_choice(question("a", "b"), "b") == 1
    assert right_choice(question(True, False), False) == 1
    assert right_choice(question(1, 10, 100), 9.2) == 1
    assert right_choice(question(0.5, 5), 1e9) == 1
    assert [written(value) for value in (True, False, 0.123456, "ten", 7)] == ["yes", "no", "0.1235", "ten", "7"]


# --- labs -------------------------------------------------------------------------------------------------------------


def test_two_controls_of_one_name_are_refused() -> None:
    one = Slider("a", "A", 0, 0, 1)
    assert own_names([one]) == (one,)
    for names in ([one, one], [one, Toggle("a", "A", True)], [SENTENCE]):
        with pytest.raises(RuntimeError, match="names of their own"):
            own_names(names)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("Type a sentence.", True),
        ("Is that so?", True),
        ("“Quoted” words lie here.", True),
        ("3 is too many.", True),
        ("", False),
        ("operands could not be broadcast together with shapes (2,) (3,) ", False),
        ("invalid literal for int() with base 10: 'x'", False),
        ("Two\nlines.", False),
        ("No full stop", False),
    ],
)
def test_only_sentences_reach_a_reader(text: str, good: bool) -> None:
    assert is_sentence(text) == good


def test_a_snippet_holds_the_readers_values() -> None:
    lab = Lab("c", "n", lambda: None, "T", (), (attention,), "\n        x = {{'a': {a}}}\n        y = {b!r}\n", "p")
    assert snippet(lab, {"a": 0.5, "b": 'it\'s {braces} "quoted"\n'}) == (
        "x = {'a': 0.5}\ny = 'it\\'s {braces} \"quoted\"\\n'"
    )


def test_csv_has_a_block_for_each_name() -> None:
    import numpy as np

    text = as_csv({"m": np.array([[1.5, -np.inf], [2.0, 3.0]]), "s": 7, "words": ["a,b", 'c"d']})
    assert text.split("\r\n") == ["m", "1.5,-inf", "2.0,3.0", "", "s", "7", "", "words", '"a,b","c""d"', "", ""]


def test_no_prose_file_uses_a_directive_that_does_not_exist() -> None:
    import re

    for path in (Path(__file__).resolve().parents[2] / "pages").glob("*.md"):
        kinds = re.findall(r"^:::\s*(\w*)", path.read_text("utf-8"), re.M)
        assert set(kinds) <= {"lab", "code"}, path.name
