"""The wheel in an environment of its own, away from the checkout."""

import json
import os
import pathlib
import subprocess
import sys
import venv

import cv2
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]


def run(folder, *command):
    """Runs a program without anything of the checkout in its environment."""
    kept = ("PATH", "HOME", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "SSL_CERT_FILE", "LD_LIBRARY_PATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_installed_wheel_predicts_with_the_shipped_preset(tmp_path):
    run(ROOT, sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("metrabs_like-*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    run(tmp_path, programs / "python", "-m", "pip", "install", "-q", wheel)
    cv2.imwrite(str(tmp_path / "photo.jpg"), np.full((300, 200, 3), 120, np.uint8))
    command = (programs / "metrabs-like-predict", "--image=photo.jpg", "--output_dir=poses")
    assert "nobody was found" in run(tmp_path, *command)  # the shipped detector looked
    assert "whole image is taken as one person" in run(tmp_path, *command, "--detector=none")
    content = json.loads((tmp_path / "poses" / "photo_poses.json").read_text())
    assert len(content["people"][0]["joints3d_mm"]) == len(content["joint_names"]) == 17
