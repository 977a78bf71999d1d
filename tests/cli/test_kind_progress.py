"""The table of the mixed demo: loss and error of each kind, and whether the loss fell."""

import pytest

from metrabs_like.cli import kind_progress


@pytest.fixture
def log(tmp_path):
    """Twenty rows: kp3d falls, kp2d rises, other kinds are not there."""
    rows = ["step,loss,kp3d/loss3d,kp3d/loss2d,kp3d/error_px,kp2d/loss2d,kp2d/error_px"]
    for i in range(20):
        rows.append(f"{10 * i},1,{2 - 0.1 * i},{1 - 0.05 * i},{20 - i},{0.5 + 0.01 * i},9")
    path = tmp_path / "log.csv"
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def test_ends_are_means_of_tenths_and_terms_are_summed(log):
    kp3d, kp2d = kind_progress.measure(log)
    assert (kp3d.name, kp3d.terms) == ("kp3d", ("loss3d", "loss2d"))
    assert kp3d.loss == pytest.approx((1.95 + 0.975, 0.15 + 0.075))
    assert kp3d.error_px == pytest.approx((19.5, 1.5))
    assert kp3d.fell
    assert kp2d.loss == pytest.approx((0.505, 0.685)) and not kp2d.fell


def test_table_says_it_in_words(log):
    lines = kind_progress.table(kind_progress.measure(log)).splitlines()
    assert lines[1].startswith("kp3d") and lines[1].endswith("the loss fell")
    assert lines[2].startswith("kp2d") and lines[2].endswith("THE LOSS DID NOT FALL")
    assert lines[-1].startswith("loss: ") and "kp3d: loss3d + loss2d" in lines[-1]


def test_loss_that_stays_did_not_fall(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step,dense/loss2d,dense/error_px\n0,1,3\n10,1,3\n")
    (dense,) = kind_progress.measure(str(path))
    assert not dense.fell


def test_log_without_kinds_and_without_steps(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step,loss\n0,1\n")
    assert kind_progress.measure(str(path)) == []
    path.write_text("loss\n1\n")
    with pytest.raises(ValueError, match="no column 'step'"):
        kind_progress.measure(str(path))
