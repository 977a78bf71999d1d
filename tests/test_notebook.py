"""Runs the quick-start notebook as a reader would, in a kernel of its own."""

import os
import pathlib

import nbclient
import nbformat
import pytest

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"


def outputs_of(cell, kind):
    """Values of one MIME type or stream among a cell's outputs."""
    streams = [out.text for out in cell.outputs if out.output_type == "stream" and kind == "text"]
    return streams + [out.data[kind] for out in cell.outputs if kind in out.get("data", {})]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook after running from top to bottom; an error in a cell fails here."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = {cell.id: cell for cell in notebook.cells}
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    client.execute(env={**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""})
    return cells


def test_predicts_all_points_in_millimetres(executed):
    text = "".join(outputs_of(executed["predict"], "text"))
    assert "poses3d        (1, 24, 3) mm" in text
    assert "poses2d        (1, 24, 2) px" in text
    assert "mm" in "".join(outputs_of(executed["plot3d"], "text"))


def test_shows_pictures_inline(executed):
    for cell in ("plot3d", "overlay"):
        (picture,) = outputs_of(executed[cell], "image/png")
        assert len(picture) > 10_000


def test_fit_lowers_the_loss(executed):
    printed = "".join(outputs_of(executed["fit"], "text")).strip().splitlines()[-1]
    losses = [float(value) for value in printed.strip("[]").split(",")]
    assert len(losses) == 4 and losses[-1] < losses[0]


def test_is_stored_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(not cell.outputs and cell.execution_count is None for cell in code)
