"""Log windows and the CSV table."""

import numpy as np

from metrabs_like.training import logs


def test_window_takes_means_of_applied_updates_and_survives_serialization():
    window = logs.LogWindow()
    window.add(("loss", "applied"), [[1.0, 1], [np.nan, 0], [4.0, 1]])
    again = logs.LogWindow()
    again.deserialize(window.serialize().encode())
    again.add(("loss", "applied"), [[10.0, 1]])
    assert again.take() == {"loss": 5.0}
    assert again.take() == {}


def test_rows_after_the_last_step_and_torn_rows_are_dropped(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step,loss\n5,1.5\n10,1.25\n15,1.125\n20,1.")
    log = logs.CsvLog(path, last_step=10)
    assert path.read_text().splitlines() == ["step,loss", "5,1.5", "10,1.25"]
    log.write({"step": 15, "loss": 0.5})
    assert path.read_text().splitlines()[-1] == "15,0.5"


def test_row_torn_within_a_line_is_dropped_at_any_place(tmp_path):
    path = tmp_path / "log.csv"
    whole = "step,loss\n5,1.5\n10,1.25\n"
    for length in range(len(whole) + 1):
        path.write_text(whole[:length])
        logs.CsvLog(path, last_step=100).write({"step": 15, "loss": 2.0})
        rows = path.read_text().splitlines()
        complete = whole[:length].split("\n")[:-1] or ["step,loss"]
        assert rows == [*complete, "15,2.0"]


def test_new_column_keeps_the_old_rows(tmp_path):
    path = tmp_path / "log.csv"
    log = logs.CsvLog(path, last_step=0)
    log.write({"step": 1, "a": 1})
    log.write({"step": 2, "a": 2, "b": 3})
    log.write({"step": 3, "b": 4})
    assert path.read_text().splitlines() == ["step,a,b", "1,1,", "2,2,3", "3,,4"]


def test_json_rows_after_the_last_step_and_torn_rows_are_dropped(tmp_path):
    path = tmp_path / "rows.jsonl"
    log = logs.JsonLinesLog(path)
    log.drop_rows_after(5)
    assert not path.exists()
    for step in (5, 10, 15):
        log.write({"step": step, "error": step / 4})
    whole = path.read_text()
    for length in range(len(whole) + 1):
        path.write_text(whole[:length])
        log.drop_rows_after(10)
        n_complete = min(whole[:length].count("\n"), 2)
        assert path.read_text().splitlines() == whole.splitlines()[:n_complete]
        assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_no_workdir_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = logs.RunLogs(None, 0)
    log.write(1, {"loss": 1.0})
    log.close()
    assert list(tmp_path.iterdir()) == []
