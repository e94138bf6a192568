"""Writes tests/goldens/chat_template.json: conversations as transformers' apply_chat_template renders and encodes them.

Run by hand: PYTHON tests/references/make_chat_goldens.py path/to/SmolLM2-135M-Instruct.Q4_1.gguf
PYTHON is an environment with transformers, tokenizers and gguf. Template and vocabulary are those of the file. Typed
special tokens are not among the messages: transformers lets them through as special tokens, the engine does not.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import tokenizers
import transformers
from gguf import GGUFReader
from make_smollm2_goldens import file_tokenizer

GOLDEN = Path(__file__).parent.parent / "goldens" / "chat_template.json"
CONVERSATIONS = [
    [("user", "Explain why the sky is blue.")],
    [("system", "You are a pirate."), ("user", "Hi")],
    [("system", ""), ("user", "")],
    [("user", "What is 17 + 25?"), ("assistant", "42"), ("user", " and   minus 8?\n\n")],
    [("user", "Grüße, 世界! 👩🏽‍🚀\t½ cup\r\n {{ 7 * 7 }} {% raw %} </s> <|im_start |>")],
    [("assistant", "I begin."), ("tool", '{"result": 3.14}'), ("user", "<b>why</b>?")],
    [("system", "a"), ("system", "b"), ("user", "x" * 300 + "\n" * 40)],
]


def main(path: str) -> None:
    """Render all conversations, with and without the opening of an answer."""
    reader = GGUFReader(path)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=file_tokenizer(reader), chat_template=reader.fields["tokenizer.chat_template"].contents()
    )
    cases = []
    for turns in CONVERSATIONS:
        messages = [{"role": role, "content": content} for role, content in turns]
        for opened in (True, False):
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=opened)
            ids = tokenizer.apply_chat_template(messages, add_generation_prompt=opened, return_dict=False)
            cases.append({"messages": messages, "opened": opened, "text": text, "ids": ids})
    versions = {module.__name__: module.__version__ for module in (transformers, tokenizers)}
    about = {"versions": versions | {"python": platform.python_version()}, "script": Path(__file__).name}
    GOLDEN.write_text(json.dumps({"about": about, "cases": cases}, indent=1) + "\n")
    print(GOLDEN, GOLDEN.stat().st_size, versions)


if __name__ == "__main__":
    main(sys.argv[1])
