"""Training curves from a log file."""

import cv2
import numpy as np
import pytest

from metrabs_like.viz import curves


@pytest.fixture
def log_csv(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(
        "step,loss,val/mpjpe_mm,constant,note\n"
        "10,2.0,,1,start\n"
        "20,nan,150.5,1,\n"
        "30,1.0,,1,\n"
        "30,1.5,,1,\n"
        "40,-0.5,140,1,\n",
        encoding="utf-8",
    )
    return path


def test_read_log_skips_gaps_and_keeps_the_last_of_repeated_steps(log_csv):
    log = curves.read_log(log_csv)
    assert set(log) == {"loss", "val/mpjpe_mm", "constant"}
    np.testing.assert_array_equal(log["loss"], [[10, 30, 40], [2.0, 1.5, -0.5]])
    np.testing.assert_array_equal(log["val/mpjpe_mm"], [[20, 40], [150.5, 140]])


def test_plot_chooses_changing_columns(log_csv, tmp_path):
    path = tmp_path / "curves.png"
    assert curves.save_training_curves(path, log_csv, title="run") == ("loss", "val/mpjpe_mm")
    assert cv2.imread(str(path)).std() > 3
    assert curves.save_training_curves(path, log_csv, columns=["constant"]) == ("constant",)


def test_empty_and_wrong_logs(tmp_path, log_csv):
    empty = tmp_path / "empty.csv"
    empty.write_text("step,loss\n", encoding="utf-8")
    assert curves.save_training_curves(tmp_path / "c.png", empty) == ()
    with pytest.raises(ValueError, match="lss.*loss"):
        curves.save_training_curves(tmp_path / "c.png", log_csv, columns=["lss"])
    empty.write_text("iteration,loss\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no column 'step'"):
        curves.read_log(empty)
