"""Hostile and damaged pickles: each is refused with its reason, and none of them runs."""

import copyreg
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from metrabs_like.data.safe_loading import UnsafeFile, load_pickle, pickle_notes
from tests.data import hostile


@pytest.fixture
def load(tmp_path):
    """Returns a function that writes bytes to a file and loads it."""

    def write_and_load(content, **kwargs):
        path = tmp_path / "file.pkl"
        path.write_bytes(content)
        return load_pickle(str(path), **kwargs)

    return write_and_load


@pytest.fixture(autouse=True)
def nothing_runs():
    """No test of this file may leave a trace; those that run a gadget on purpose clear it."""
    hostile.TRACES.clear()
    yield
    assert not hostile.TRACES


@pytest.mark.parametrize("case", sorted(hostile.RUNNING))
def test_gadgets_are_refused_by_name(load, case):
    content, dotted = hostile.RUNNING[case]
    with pytest.raises(UnsafeFile, match="not on the allow-list") as error:
        load(content)
    assert repr(dotted) in str(error.value) and "file.pkl" in str(error.value)


@pytest.mark.parametrize("case", sorted(set(hostile.RUNNING) - set(hostile.NOT_SHOWN_TO_RUN)))
def test_the_same_gadgets_run_in_plain_pickle(case):
    """Shows that the test above could fail."""
    pickle.loads(hostile.RUNNING[case][0])
    assert hostile.TRACES
    hostile.TRACES.clear()


@pytest.mark.parametrize("case", sorted(hostile.MISUSED))
def test_misuse_of_what_is_allowed_is_refused(load, case):
    content, reason = hostile.MISUSED[case]
    with pytest.raises(UnsafeFile) as error:
        load(content)
    assert reason in str(error.value)


@pytest.mark.parametrize("case", sorted(hostile.BROKEN))
def test_damaged_files_are_refused(load, case):
    content, reason = hostile.BROKEN[case]
    with pytest.raises(UnsafeFile) as error:
        load(content)
    assert reason in str(error.value)


def test_a_registered_extension_code_is_refused(load):
    copyreg.add_extension("tests.data.hostile", "trip", 0x71)
    try:
        content = b"\x80\x02\x82\x71(K\x01tR."
        pickle.loads(content)  # runs, and fills the cache that find_class would not see
        assert hostile.TRACES
        hostile.TRACES.clear()
        with pytest.raises(UnsafeFile, match="extension code"):
            load(content)
    finally:
        copyreg.remove_extension("tests.data.hostile", "trip", 0x71)


def test_a_shell_command_leaves_no_file(load, tmp_path):
    sentinel = tmp_path / "pwned"

    class Gadget:
        def __reduce__(self):
            return os.system, (f"touch {sentinel}",)

    nested = {"a": [np.zeros(2), (Gadget(),)]}
    for protocol in range(6):
        with pytest.raises(UnsafeFile, match=r"posix\.system"):
            load(pickle.dumps(nested, protocol))
    assert not sentinel.exists()
    pickle.loads(pickle.dumps(nested))
    assert sentinel.exists()


def test_classes_and_functions_stay_as_they_are(load):
    """BUILD on allowed names changes nothing, also for the loads that follow."""
    poison = b"}(" + b"".join(
        hostile.text(key) + b"N" for key in ("__dict__", "__class__", "__setstate__", "__reduce__")
    )
    for dotted in ("numpy.dtype", "collections.OrderedDict", "pandas.core.frame.DataFrame"):
        for state in (poison + b"u", b"N" + poison + b"u\x86"):
            with pytest.raises(UnsafeFile, match="no new object"):
                load(hostile.whole(hostile.name(dotted), state, b"b"))
    assert load(pickle.dumps(np.arange(3.0))).tolist() == [0, 1, 2]


def test_limits(load, monkeypatch):
    content = pickle.dumps(np.zeros(1000), 2)
    with pytest.raises(UnsafeFile, match="more than max_bytes = 100"):
        load(content, max_bytes=100)
    # The same bytes decoded again and again would take many times the file.
    part = hostile.text("a" * 1000) + b"q\x00"
    again = b"c_codecs\nencode\n(h\x00" + hostile.text("latin1") + b"tR"
    with pytest.raises(UnsafeFile, match="bytes more than max_bytes allows"):
        load(hostile.whole(part, b"](", again * 50, b"e"), max_bytes=5000)
    monkeypatch.setattr(pickle_notes, "MAX_OPCODES", 100)
    with pytest.raises(UnsafeFile, match="more than 100 opcodes"):
        load(pickle.dumps([None] * 1000))


def test_no_ordinary_files_are_refused(tmp_path):
    with pytest.raises(UnsafeFile, match="no ordinary file"):
        load_pickle(str(tmp_path))
    with pytest.raises(ValueError, match="does not exist"):
        load_pickle(str(tmp_path / "absent.pkl"))


def test_nothing_of_the_file_is_imported(tmp_path):
    """A frame with string columns is read in a process that never loads pandas or chumpy."""
    (tmp_path / "a.pkl").write_bytes(
        hostile.whole(hostile.name("pandas.core.frame.DataFrame"), b")\x81}b")
    )
    code = f"""
import sys
from metrabs_like.data.safe_loading import UnsafeFile, load_pickle
try:
    load_pickle({str(tmp_path / "a.pkl")!r})
except UnsafeFile as error:
    print("DataFrame" in str(error), "pandas" in sys.modules, "chumpy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]
