"""DataFrames: of the installed pandas, and of pandas 1.0 and 1.5 emulated by hand."""

import pickle

import numpy as np
import pandas
import pytest

from metrabs_like.data.safe_loading import UnsafeFile, load_pickle
from tests.data import hostile

TEXTS = ["ag_0.png", "ä_1.png", "c.png"]


def columns():
    """AGORA's kinds of columns: text, lists, lists of arrays, numbers."""
    return {
        "imgPath": list(TEXTS),
        "X": [[1.5, 2.0], [3.0], []],
        "camX": np.array([0.5, 1.5, -2.5]),
        "camYaw": np.array([1.0, 2.0, 3.0]),
        "n": np.array([1, 2, 3]),
        "isValid": [[True, False], [True], []],
        "gt_joints_3d": [[np.eye(3, dtype=np.float32)] * 2, [np.zeros((45, 3))], []],
    }


def assert_same(read, rows=slice(None)):
    """Compares a loaded frame with `columns()`."""
    expected = columns()
    assert list(read) == list(expected)
    for name, values in expected.items():
        if isinstance(values, np.ndarray):
            assert isinstance(read[name], np.ndarray)
            np.testing.assert_array_equal(read[name], values[rows])
        else:
            assert isinstance(read[name], list)
            np.testing.assert_equal(read[name], values[rows])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_frames_of_the_installed_pandas(tmp_path, protocol):
    frame = pandas.DataFrame(columns())
    path = tmp_path / "a.pkl"
    for written, rows in (
        (frame, slice(None)),
        (frame[1:], slice(1, None)),
        (frame.set_index(pandas.Index(["x", "y", "z"])), slice(None)),
        (frame.set_index(pandas.Index([5, 7, 9])), slice(None)),
        (frame[frame["camX"] > 0].reset_index(drop=True), slice(0, 2)),
    ):
        written.to_pickle(path, protocol=protocol)
        assert_same(load_pickle(str(path)), rows)


def test_missing_texts_and_numbered_columns(tmp_path):
    path = tmp_path / "a.pkl"
    pandas.DataFrame({"a": ["x", None]}).to_pickle(path)
    read = load_pickle(str(path))["a"]
    assert read[0] == "x" and (read[1] is None or np.isnan(read[1]))
    pandas.DataFrame(np.arange(6).reshape(3, 2)).to_pickle(path)
    read = load_pickle(str(path))
    assert list(read) == [0, 1]
    np.testing.assert_array_equal(read[1], [1, 3, 5])


class Emulated:
    """Pickles itself as a call of any global, with any state."""

    def __init__(self, dotted, args=(), state=None):
        self.call, self.state = (Global(dotted), args), state

    def __reduce__(self):
        return (*self.call, self.state) if self.state is not None else self.call


class Global:
    """Stands for a global that is not importable here; `Pickler` writes its name."""

    def __init__(self, dotted):
        self.dotted = dotted

    def __call__(self):
        """Only looks callable, which `__reduce__` must return."""


class Pickler(pickle._Pickler):
    """Writes `Global` as the GLOBAL opcode."""

    def save(self, obj, save_persistent_id=True):
        """Writes an object."""
        if isinstance(obj, Global):
            return self.write(hostile.name(obj.dotted))
        return super().save(obj, save_persistent_id)


def dumped(path, value):
    """Writes a pickle of protocol 2, in which pandas 1 saved its frames."""
    with open(path, "wb") as file:
        Pickler(file, 2).dump(value)
    return str(path)


BASE = "pandas.core.indexes.base"


def index_of(labels):
    """A labelled index."""
    data = {"data": np.array(labels, object), "name": None}
    return Emulated(f"{BASE}._new_Index", (Global(f"{BASE}.Index"), data))


def row_index(n_rows=3):
    """A range of row labels."""
    bounds = {"name": None, "start": 0, "stop": n_rows, "step": 1}
    cls = Global("pandas.core.indexes.range.RangeIndex")
    return Emulated(f"{BASE}._new_Index", (cls, bounds))


def blocks():
    """Values and places of the blocks of `columns()`: objects, floats, integers."""
    given = columns()
    names = list(given)

    def objects(*chosen):
        values = np.empty((len(chosen), 3), object)
        for i, name in enumerate(chosen):
            for j in range(3):
                values[i, j] = given[name][j]
        return values, np.array([names.index(name) for name in chosen])

    return [
        objects("imgPath", "X", "isValid", "gt_joints_3d"),
        (np.stack([given["camX"], given["camYaw"]]), slice(2, 4, 1)),
        (given["n"][np.newaxis], slice(4, 5, 1)),
    ]


def frame_of(manager, key="_mgr"):
    """A DataFrame around a block manager."""
    state = {key: manager, "_typ": "dataframe", "_metadata": [], "attrs": {}}
    return Emulated("pandas.core.frame.DataFrame", (), state)


MANAGER = "pandas.core.internals.managers.BlockManager"


@pytest.mark.parametrize("key", ["_mgr", "_data"])
def test_pandas_1_0_frames(tmp_path, key):
    axes = [index_of(list(columns())), row_index()]
    parts = [{"values": values, "mgr_locs": places} for values, places in blocks()]
    values = [part["values"] for part in parts]
    named = {"0.14.1": {"axes": axes, "blocks": parts}}
    manager = Emulated(MANAGER, (), (axes, values, [index_of(["?"])] * 3, named))
    assert_same(load_pickle(dumped(tmp_path / "a.pkl", frame_of(manager, key))))


@pytest.mark.parametrize(
    "maker", ["pandas._libs.internals._unpickle_block", "pandas.core.internals.blocks.new_block"]
)
def test_pandas_1_3_frames(tmp_path, maker):
    parts = tuple(Emulated(maker, (*block, 2)) for block in blocks())
    manager = Emulated(MANAGER, (parts, [index_of(list(columns())), row_index()]))
    assert_same(load_pickle(dumped(tmp_path / "a.pkl", frame_of(manager))))


def refused_frame(tmp_path, parts, axes, reason):
    """Expects that a frame of such blocks and axes is refused."""
    maker = "pandas._libs.internals._unpickle_block"
    made = tuple(Emulated(maker, (*block, 2)) for block in parts)
    path = dumped(tmp_path / "a.pkl", frame_of(Emulated(MANAGER, (made, axes))))
    with pytest.raises(UnsafeFile, match=reason):
        load_pickle(path)


def test_frames_that_do_not_fit_are_refused(tmp_path):
    axes = [index_of(list(columns())), row_index()]
    refused_frame(tmp_path, blocks()[1:], axes, "do not make up its columns")
    refused_frame(tmp_path, blocks(), [axes[0], row_index(4)], "do not fit its axes")
    outside = [*blocks()[:2], (np.ones((1, 3)), np.array([99]))]
    refused_frame(tmp_path, outside, axes, "outside of its columns")
    refused_frame(tmp_path, blocks(), axes[:1], "DataFrame")
    refused_frame(tmp_path, blocks(), [row_index(10**12), axes[1]], "more than 10000 columns")


def test_other_column_types_are_refused_by_name(tmp_path):
    path = tmp_path / "a.pkl"
    pandas.DataFrame({"a": pandas.Categorical(["x", "y"])}).to_pickle(path)
    with pytest.raises(UnsafeFile, match="Categorical"):
        load_pickle(str(path))
    pandas.DataFrame({"a": [1]}).squeeze("columns").to_pickle(path)
    with pytest.raises(UnsafeFile, match="Series"):
        load_pickle(str(path))


def arrow_texts(offsets, data, n_items, is_valid=None):
    """A text column as pandas 3 with pyarrow writes it."""
    lib = "pyarrow.lib."
    kind = Emulated(f"{lib}type_for_alias", ("large_string",))
    buffers = [None if b is None else Emulated(f"{lib}py_buffer", (b,)) for b in (is_valid, data)]
    ends = Emulated(f"{lib}py_buffer", (np.array(offsets, "<i8").tobytes(),))
    args = (kind, n_items, 0, 0, [buffers[0], ends, buffers[1]], [], None)
    state = {"_pa_array": Emulated(f"{lib}_restore_array", (args,)), "_cache": {}}
    return Emulated("pandas.arrays.ArrowStringArray", (), state)


def arrow_frame(texts, n_rows):
    """A frame of one text column."""
    block = Emulated("pandas._libs.internals._unpickle_block", (texts, slice(0, 1, 1), 2))
    axes = [index_of(["a"]), row_index(n_rows)]
    return frame_of(Emulated(MANAGER, ((block,), axes)))


def test_arrow_texts(tmp_path):
    texts = arrow_texts([0, 3, 3, 5], "abcä".encode(), 3, is_valid=b"\x05")
    read = load_pickle(dumped(tmp_path / "a.pkl", arrow_frame(texts, 3)))
    assert read == {"a": ["abc", None, "ä"]}


@pytest.mark.parametrize("offsets", [[0, 3, 2, 5], [-1, 2, 3, 5], [0, 1, 2, 99], [0, 1]])
def test_arrow_texts_outside_of_their_data_are_refused(tmp_path, offsets):
    path = dumped(tmp_path / "a.pkl", arrow_frame(arrow_texts(offsets, b"abcde", 3), 3))
    with pytest.raises(UnsafeFile, match="outside of its data"):
        load_pickle(path)
