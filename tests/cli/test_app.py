"""Exit codes and messages shared by all commands."""

import warnings

import pytest
from absl import flags

from metrabs_like.cli import app


def _define(values):
    flags.DEFINE_integer("count", 1, "How many.", flag_values=values)
    flags.DEFINE_string("folder", None, "Where.", values)


def _run(argv, run=lambda values: None):
    return app.run_command(_define, run, ["program", *argv], "Does something.")


def test_success_is_zero_and_passes_the_flags():
    seen = []
    assert _run(["--count=3"], lambda values: seen.append(values.count)) == app.DONE
    assert seen == [3]


def test_misspelt_flag_is_two_and_names_the_match(capsys):
    assert _run(["--cuont=3"]) == app.MISUSED
    message = capsys.readouterr().err
    assert "cuont" in message and "count" in message and "--help" in message


def test_value_of_the_wrong_type_is_two(capsys):
    assert _run(["--count=three"]) == app.MISUSED
    assert "--count=three" in capsys.readouterr().err


def test_stray_argument_is_two(capsys):
    assert _run(["count=3"]) == app.MISUSED
    assert "'count=3'" in capsys.readouterr().err


def test_missing_flagfile_is_two(capsys):
    assert _run(["--flagfile=no_such.flags"]) == app.MISUSED
    assert "no_such.flags" in capsys.readouterr().err


def test_help_lists_the_flags(capsys):
    assert _run(["--help"]) == app.DONE
    printed = capsys.readouterr().out
    assert "Does something." in printed and "--count" in printed and "How many." in printed


@pytest.mark.parametrize("error", [ValueError("count is 0"), FileNotFoundError("no file x")])
def test_failed_work_is_one_without_traceback(error, capsys):
    def fail(values):
        raise error

    assert _run([], fail) == app.FAILED
    printed = capsys.readouterr().err
    assert str(error) in printed and "Traceback" not in printed


def test_debug_shows_the_traceback(capsys):
    def fail(values):
        raise ValueError("count is 0")

    assert _run(["--debug"], fail) == app.FAILED
    assert "Traceback" in capsys.readouterr().err


def test_defects_keep_their_traceback():
    def fail(values):
        raise KeyError("a defect")

    with pytest.raises(KeyError):
        _run([], fail)


def test_tensorflow_errors_are_one_line(capsys):
    import tensorflow as tf

    def fail(values):
        raise tf.errors.DataLossError(None, None, "truncated record at 12\nwith a graph trace")

    assert _run([], fail) == app.FAILED
    printed = capsys.readouterr().err
    assert "truncated record at 12" in printed and "graph trace" not in printed


def test_missing_package_of_an_option_is_one_line(capsys):
    def fail(values):
        raise ImportError("tfa.Lamb needs the addons: make install-addons")

    assert _run([], fail) == app.FAILED
    assert "make install-addons" in capsys.readouterr().err


def test_broken_import_keeps_its_traceback():
    def fail(values):
        import metrabs_like.no_such_module  # noqa: F401

    with pytest.raises(ImportError):
        _run([], fail)


def test_require_names_the_missing_flag():
    values = app.parse(_define, ["program"])
    with pytest.raises(ValueError, match=r"--folder is missing: Where\."):
        app.require(values, "folder")


def test_writable_folder_is_created(tmp_path):
    path = app.writable_folder(str(tmp_path / "a" / "b"), "folder")
    assert (tmp_path / "a" / "b").is_dir() and path.endswith("b")


def test_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"--folder=.*file.* cannot be written"):
        app.writable_folder(str(tmp_path / "file" / "below"), "folder")


def test_warnings_are_plain_lines_each_once_also_before_an_error(capsys):
    with app.plain_warnings() as caught:
        for _ in range(2):
            warnings.warn("a shard is skipped", stacklevel=1)
    assert [str(message) for message in caught] == ["a shard is skipped"]
    assert capsys.readouterr().err == "warning: a shard is skipped\n"
    with pytest.raises(ValueError, match="nothing is left"), app.plain_warnings():
        warnings.warn("all shards are skipped", stacklevel=1)
        raise ValueError("nothing is left")
    assert capsys.readouterr().err == "warning: all shards are skipped\n"
