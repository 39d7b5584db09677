"""The notebook: committed without outputs, and every cell runs on a finished run of the drawings."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.stored_runs import store_drawn_run

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_is_committed_without_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]

    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert not [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"]]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_every_cell_runs(path, drawings, weights, tmp_path, monkeypatch):
    destination = store_drawn_run(tmp_path, drawings[:60])
    monkeypatch.setenv("DESTINATION", destination.url)
    monkeypatch.setenv("IMAGES", str(tmp_path / "Images"))
    monkeypatch.setenv("WEIGHTS", str(weights))
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = nbformat.read(path, as_version=4)

    NotebookClient(
        notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()

    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "top-1" in said
    assert "classified" in said
    assert "of 60 answers are the same" in said
