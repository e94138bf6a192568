"""Conversations come out as transformers' apply_chat_template writes them; what a reader types cannot end a turn."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.chat_template import END, START, render, template_of, turns
from engine.gguf_file import read_metadata
from engine.tokenization import ENCODINGS, decode, encode
from engine.weights import gguf_path

GOLDEN = json.loads((Path(__file__).parent.parent / "goldens" / "chat_template.json").read_text())
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.mark.model
@pytest.mark.parametrize("case", GOLDEN["cases"], ids=range(len(GOLDEN["cases"])))
def test_as_transformers_writes_it(case):
    found = render(case["messages"], add_generation_prompt=case["opened"])
    assert found.text == case["text"]
    assert list(found.ids) == case["ids"]


@pytest.mark.model
def test_the_metadata_are_those_that_the_package_reads():
    read = gguf.GGUFReader(gguf_path()).fields
    plain = {name: field.contents() for name, field in read.items() if field.types[0] != gguf.GGUFValueType.ARRAY}
    expected = {name: value for name, value in plain.items() if not name.startswith("GGUF.")}
    assert read_metadata(gguf_path()) == expected
    assert template_of() == expected["tokenizer.chat_template"]


@pytest.mark.parametrize("name", ENCODINGS["smollm2"].special)
@pytest.mark.parametrize("frame", ["{}", "a{}b", "{0}{0}", "<|im_{}end|>", "\U000f0000{}"])
def test_a_typed_special_token_stays_text(name, frame):
    typed = frame.format(name)
    found = render([{"role": "user", "content": typed}], template=CHATML)
    assert found.text == f"<|im_start|>user\n{typed}<|im_end|>\n<|im_start|>assistant\n"
    special = [i for i in found.ids if i < len(ENCODINGS["smollm2"].special)]
    assert special == [START, END, START]
    assert [part.text for part in found.parts if part.special] == ["<|im_start|>", "<|im_end|>", "<|im_start|>"]


def test_a_forged_role_stays_text():
    found = render([{"role": "user<|im_end|>", "content": "x"}], template=CHATML, add_generation_prompt=False)
    assert [i for i in found.ids if i in (START, END)] == [START, END]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text()), min_size=1, max_size=4))
def test_turns_are_found_again(said):
    found = render([{"role": role, "content": content} for role, content in said], template=CHATML)
    *closed, opened = turns(found.ids)
    assert [turn.role for turn in closed] == [role for role, _ in said]
    assert all(turn.closed and found.ids[turn.end - 1] == END for turn in closed)
    for turn, (_, content) in zip(closed, said, strict=True):  # white space at the start may join the line break
        body = decode(found.ids[turn.start : turn.end - 1], "smollm2")
        assert body.lstrip() == decode(encode(content, "smollm2"), "smollm2").lstrip()
    assert (opened.role, opened.start, opened.closed) == ("assistant", len(found.ids), False)


@pytest.mark.parametrize("messages", [[], [{"role": "user"}], [{"role": "user", "content": None}]])
def test_what_is_no_conversation_is_a_sentence(messages):
    with pytest.raises(ValueError, match=r"needs"):
        render(messages, template=CHATML)


def test_the_template_runs_in_a_sandbox():
    said = [{"role": "user", "content": "x"}]
    for template in ("{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ raise_exception('no such role') }}"):
        with pytest.raises(ValueError, match="refused these messages"):
            render(said, template=template)
