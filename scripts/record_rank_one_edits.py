"""Record what a rank-one edit does in every layer that the page offers: data/rank_one_edits.json.

Run in the project's folder, about two minutes: python -m scripts.record_rank_one_edits
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.causal_tracing import causal_trace
from engine.edit_facts import FACTS, Fact
from engine.model import Model, load
from engine.rank_one_edit import LAYERS, rank_one_edit, summary

FILE = Path(__file__).parent.parent / "data" / "rank_one_edits.json"


def recorded(model: Model, fact: Fact) -> dict[str, Any]:
    """One fact: its causal trace, and each layer's edit with the key alone and with the statistics."""
    traced = causal_trace(model, fact)
    edits = {
        kind: [summary(rank_one_edit(model, fact, layer, statistics=kind == "statistics"), fact) for layer in LAYERS]
        for kind in ("statistics", "key")
    }
    return {"clean": traced.clean, "blurred": traced.blurred, "restored": traced.restored.tolist(), **edits}


def rounded(value: Any) -> Any:
    """Numbers with six decimals, which is what the file keeps."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part) for part in value]
    return round(value, 6) if isinstance(value, float) else value


if __name__ == "__main__":
    model = load()
    found = {name: recorded(model, fact) for name, fact in FACTS.items()}
    FILE.write_text(json.dumps({"layers": LAYERS, "facts": rounded(found)}, indent=1) + "\n", "utf-8")
