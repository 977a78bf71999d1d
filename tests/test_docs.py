"""The pages link to files that are there and name commands and targets that exist."""

import pathlib
import re

import cv2
import numpy as np
import onnxruntime
import pytest

from metrabs_like.cli import commands

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "flags" / "README.md"])
each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


@each_page
def test_links_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text())
    local = [target for target in targets if "://" not in target]
    missing = [target for target in local if not (path.parent / target).exists()]
    assert not missing


@each_page
def test_commands_and_targets_exist(path):
    text = path.read_text()
    named = set(re.findall(r"metrabs-like-([a-z][a-z-]*[a-z])", text))
    assert named <= set(commands.COMMANDS)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets


def test_flagfiles_of_the_readme_are_all():
    listed = set(re.findall(r"\((flags/\w+/\w+\.flags)\)", (ROOT / "README.md").read_text()))
    assert listed == {str(path.relative_to(ROOT)) for path in (ROOT / "flags").rglob("*.flags")}


def test_notebook_lines_of_the_readme_run(tmp_path, monkeypatch):
    """As in a notebook: beside a photograph, the last line is what is shown."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.jpg", np.full([500, 400, 3], 90, np.uint8))
    cell = {}
    exec(code, cell)
    poses = cell["poses"]
    assert poses["poses3d"].shape == (1, 17, 3)
    assert np.isfinite(poses["poses3d"]).all()
    # A body's joints are spread by more than a decimetre, and by less than ten metres.
    assert 100 < np.ptp(poses["poses3d"][0], axis=0).max() < 10_000


def test_onnx_lines_of_the_detectors_page_run(tmp_path, monkeypatch, rng):
    """The file gives what the network gives."""
    (code,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "centernet.md").read_text(), re.DOTALL
    )
    monkeypatch.chdir(tmp_path)
    cell = {}
    exec(code, cell)
    inputs = {
        "image": rng.uniform(size=[1, 96, 128, 3]).astype(np.float32),
        "input_from_image": np.eye(3, dtype=np.float32)[None],
    }
    session = onnxruntime.InferenceSession("detector.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {i.name: inputs[i.name] for i in session.get_inputs()})
    for name, value in zip(names, found, strict=True):
        np.testing.assert_allclose(value, cell["network"](inputs)[name], atol=1e-3)


def test_packages_of_the_readme_are_required():
    text = (ROOT / "README.md").read_text().split("## Packages")[1]
    packages = re.findall(r"^\| ([a-z0-9-]+) \|", text, flags=re.MULTILINE)
    assert len(packages) == 9 and packages.pop(0) == "package"
    setup = (ROOT / "setup.cfg").read_text()
    for package in packages:
        assert re.search(rf"^    {package}[=>]", setup, flags=re.MULTILINE), package
