"""SAEs that the real libraries have trained and written: the library's active sets, or one sentence.

The archive is written by tools/library_saes.py, where the libraries are installed; here they are not needed.
"""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tsae_nb.foundation import UserError
from tsae_nb.interop import FORMATS, TENSOR_FILES, export_sae, import_sae, inspect_saes, recognise

ARCHIVE = Path(__file__).parent / "library_saes.tar.xz"


def opened(name: str) -> Any:
    with tarfile.open(ARCHIVE) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return json.load(file)


TABLE = opened("table.json")
ROWS: list[dict[str, Any]] = TABLE["rows"]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("library")
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(folder, filter="data")
    with np.load(folder / "expected.npz") as arrays:
        return folder, {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def weights(path: Path) -> dict[str, Tensor]:
    """The real numbers of a file of weights, as float32."""
    found = TENSOR_FILES[path.suffix](path)
    return {name: value.float() for name, value in found.items() if value.is_floating_point() and value.dim()}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["folder"])
def test_a_librarys_sae_is_the_same_function_or_one_sentence(
    row: dict[str, Any], unpacked: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    root, expected = unpacked
    folder = root / row["folder"]
    if "refused" in row:
        with pytest.raises(UserError) as caught:
            import_sae(folder)
        assert str(caught.value).replace(f"{folder}/", "") == row["refused"] and "\n" not in row["refused"]
        return
    sae = import_sae(folder)
    codes = sae.encode(expected["inputs"])
    packed = torch.from_numpy(np.packbits((codes > 0).numpy(), axis=1))
    assert torch.equal(packed, expected[f"{row['folder']}/active"])
    reconstruction = expected[f"{row['folder']}/reconstruction"]
    torch.testing.assert_close(sae.decode(codes)[: len(reconstruction)], reconstruction, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(sae.decoder.norm(dim=1), torch.ones(sae.dictionary_size))
    if "same_numbers" in row:
        form, path = recognise(folder)
        export_sae(sae, tmp_path / "out", form)
        before, after = weights(path), weights(tmp_path / "out" / FORMATS[form].known_by)
        shared = before.keys() & after.keys()
        assert all(torch.equal(before[name], after[name]) for name in shared) == row["same_numbers"]
        assert "Matryoshka" in row["architecture"] or shared == before.keys()  # which is written as its function
        torch.testing.assert_close(import_sae(tmp_path / "out").encode(expected["inputs"]), codes, atol=0, rtol=0)


def test_the_table_is_of_every_library_and_nothing_differs() -> None:
    read = [row for row in ROWS if "refused" not in row]
    assert {row["library"] for row in read} == {"SAELens", "dictionary_learning", "sparsify"}
    assert all(row["other"] == 0 and row["error"] < 1e-5 and row["tokens"] == 4000 for row in read)
    assert all(row.get("other_again", 0) == 0 for row in read)
    # Thresholds below 0 pass nothing of a ReLU and are written as 0: the one place where numbers change.
    assert {row["architecture"] for row in read if not row.get("same_numbers", True)} <= {"JumpReluTrainer"}
    for library in ("SAELens", "dictionary_learning", "sparsify"):
        assert {row["dtype"] for row in read if row["library"] == library} == {"float32", "float16", "bfloat16"}


def test_a_folder_says_where_it_comes_from(unpacked: tuple[Path, dict[str, Tensor]]) -> None:
    root, _ = unpacked
    folders = ("SAELens-topk-bfloat16-subtracted", "dictionary_learning-TopKTrainer-float16", "sparsify-topk-float32")
    for folder in folders:
        (about,) = inspect_saes(root / folder)
        assert (about["model"], about["layer"], about["width"], about["features"]) == ("gpt2", 3, 8, 32), folder
