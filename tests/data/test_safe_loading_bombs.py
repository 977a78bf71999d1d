"""Pickles of a few hundred bytes that ask for far more: they are refused before it is made."""

import struct
import tracemalloc

import numpy as np
import pytest

from metrabs_like.data import body_models
from metrabs_like.data.readers import agora_rows, body_fits
from metrabs_like.data.safe_loading import UnsafeFile, as_array, load_pickle, pickle_notes
from tests.data import hostile

N = 1 << 22
N_PUSHED = b"J" + struct.pack("<i", N)


def new_index(index_class, **described):
    """An index of pandas; the values are opcode sequences."""
    items = b"".join(hostile.text(key) + value for key, value in described.items())
    return hostile.call(
        "pandas.core.indexes.base._new_Index", hostile.name(index_class), b"}(" + items + b"u"
    )


RANGE = new_index(
    "pandas.core.indexes.range.RangeIndex", start=b"K\x00", stop=N_PUSHED, step=b"K\x01"
)


def laughs(n_levels, width=16):
    """A list that holds the one below `width` times: `width ** n_levels` numbers of few bytes."""
    content = b"](G?\xf0" + bytes(6) + b"eq\x00"
    for level in range(n_levels):
        content += b"0](" + (b"h" + bytes([level])) * width + b"eq" + bytes([level + 1])
    return content


def empty_items(code):
    """An array of many elements that have no bytes."""
    return hostile.array(b"(" + N_PUSHED + b"t", hostile.dtype(code), b"C\x00")


def deep_tuples(n_levels):
    """A tuple whose hash visits `3 ** n_levels` others."""
    return b"K\x01\x85" + b"22\x87" * n_levels


SELECT = hostile.name("chumpy.reordering.Select") + b")\x81"
STRUCT_STATE = (
    b"(K\x03" + hostile.text("|") + b"N(" + hostile.text("f") + hostile.text("g") + b"t}("
    + b"".join(hostile.text(key) + hostile.dtype("f8") + b"K\x00\x86" for key in "fg")
    + b"uK\x08K\x01K\x00t"
)  # fmt: skip
BOMBS = {
    "manager_of_a_range": (
        hostile.call("pandas._libs.internals.BlockManager", RANGE, b"]"),
        "in place of a list",
    ),
    "texts_of_a_range": (
        hostile.name("pandas.arrays.StringArray") + b")\x81" + RANGE + b"b",
        "in place of a list",
    ),
    "selection_of_a_range": (
        hostile.with_state(SELECT, a=b"](K\x01e", idxs=RANGE),
        "without indices|outside",
    ),
    "selection_of_lists": (
        hostile.with_state(SELECT, a=b"](K\x01e", idxs=laughs(6)),
        "more numbers than",
    ),
    "array_of_no_bytes_S": (empty_items("S0"), "have no bytes"),
    "array_of_no_bytes_U": (empty_items("U0"), "have no bytes"),
    "array_of_no_bytes_V": (empty_items("V0"), "dtype of 0 bytes"),
    "index_of_no_bytes": (
        new_index("pandas.Index", data=empty_items("V0"), name=b"N"),
        "dtype of 0 bytes",
    ),
    "chumpy_of_lists": (hostile.with_state(hostile.CHUMPY, x=laughs(6)), "more numbers than"),
    "arrow_type_of_tuples": (
        hostile.call("pyarrow.lib.type_for_alias", deep_tuples(14)),
        "not of texts",
    ),
    "dtype_code_of_lists": (
        hostile.call("numpy.dtype", laughs(6), b"\x89", b"\x88"),
        "unusual dtype 'list'",
    ),
    "dtype_of_overlapping_fields": (hostile.dtype("V8", STRUCT_STATE), "fields overlap"),
    "tuple_as_a_key": (b"}" + deep_tuples(14) + b"K\x01s", "as a key"),
    "tuple_in_a_set": (hostile.call("builtins.set", b"](K\x01\x85e"), "set of something else"),
}


@pytest.fixture
def small_arrays(monkeypatch):
    """The limit of nested lists at 10 000, so that the tests count less."""
    monkeypatch.setattr(as_array, "__defaults__", (10_000,))


def peak_bytes(function):
    """Runs a function and returns what it took at most."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("case", sorted(BOMBS))
def test_bombs_are_refused_before_they_are_made(tmp_path, small_arrays, case):
    content, reason = BOMBS[case]
    path = tmp_path / "a.pkl"
    path.write_bytes(hostile.whole(content))
    assert path.stat().st_size < 700

    def load():
        with pytest.raises(UnsafeFile, match=reason):
            load_pickle(str(path))

    assert peak_bytes(load) < 2_000_000


def test_a_range_of_rows_is_not_written_out(tmp_path):
    """As a value of its own, or as rows of a frame without columns."""
    path = tmp_path / "a.pkl"
    axes = b"](" + new_index("pandas.Index", data=b"]", name=b"N") + RANGE + b"e"
    manager = hostile.call("pandas._libs.internals.BlockManager", b")", axes)
    frame = hostile.with_state(hostile.name("pandas.core.frame.DataFrame") + b")\x81", _mgr=manager)
    path.write_bytes(hostile.whole(b"](", RANGE, frame, b"e"))
    read = []
    assert peak_bytes(lambda: read.extend(load_pickle(str(path)))) < 2_000_000
    assert len(read[0]) == 3 and read[1] == {}


@pytest.mark.parametrize("key", [b"\x8a\x08" + struct.pack("<q", 2**61 - 1), b"G" + bytes(8)])
def test_keys_whose_hashes_can_be_made_up_are_refused(tmp_path, key):
    """Every k * (2^61 - 1) has the hash 0: a dict of them takes quadratic time."""
    path = tmp_path / "a.pkl"
    pairs = hostile.call("collections.OrderedDict", b"](](" + key + b"Nee")
    for content in (
        b"}" + key + b"Ns",
        b"\x8f(" + key + b"\x90",
        b"(" + key + b"\x91",
        hostile.call("builtins.set", b"](" + key + b"e"),
        pairs,
    ):
        path.write_bytes(hostile.whole(content))
        with pytest.raises(UnsafeFile, match="small whole numbers"):
            load_pickle(str(path))
    assert pickle_notes.is_key(-(2**31)) and not pickle_notes.is_key(2**31)
    assert pickle_notes.MAX_OPCODES <= 10**7


def test_columns_are_called_by_text_or_small_numbers(tmp_path):
    path = tmp_path / "a.pkl"
    for name in (deep_tuples(14), b"\x8a\x08" + struct.pack("<q", 2**61 - 1)):
        columns = new_index("pandas.Index", data=b"](" + name + b"e", name=b"N")
        manager = hostile.call("pandas._libs.internals.BlockManager", b")", b"](" + columns + b"]e")
        frame = hostile.name("pandas.core.frame.DataFrame") + b")\x81"
        path.write_bytes(hostile.whole(hostile.with_state(frame, _mgr=manager)))
        with pytest.raises(UnsafeFile, match="unusual names"):
            load_pickle(str(path))


def test_arrays_of_lists():
    inner = [1.0, 2]
    np.testing.assert_array_equal(as_array([inner] * 3, "x", 10), [[1, 2]] * 3)
    np.testing.assert_array_equal(as_array((np.eye(2), [inner, inner]), "x", 14)[1, 0], inner)
    assert as_array(2, "x").shape == () and as_array([True], "x").dtype == bool
    texts = np.array(["a"])
    assert as_array(texts, "x") is texts
    for value, n_items in (([inner] * 3, 9), ([[]] * 3, 3), ([np.eye(3)], 9), (np.float64(1), 0)):
        with pytest.raises(ValueError, match="x holds more numbers than"):
            as_array(value, "x", n_items)
    for value in ("a", ["a" * 10], None, range(9), [range(9)], {1: 2}, [texts], [2**70], 1j):
        with pytest.raises(ValueError, match="x is no array of numbers"):
            as_array(value, "x")
    with pytest.raises(ValueError, match="x is no array of numbers"):
        as_array([[1], [1, 2]], "x")
    deep = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(ValueError, match="nested too deep"):
        as_array(deep, "x")


def test_fits_and_body_models_of_lists_are_counted(tmp_path, small_arrays):
    path = tmp_path / "fit.pkl"
    path.write_bytes(hostile.whole(b"}" + hostile.text("pose") + laughs(6) + b"s"))
    with pytest.raises(ValueError, match=r"fit.pkl: 'pose' holds more numbers"):
        body_fits.load_fit(str(path))
    keys = ("v_template", "shapedirs", "J_regressor", "weights", "kintree_table", "f")
    items = b"".join(hostile.text(key) + laughs(6) for key in keys)
    path.write_bytes(hostile.whole(b"}(" + items + b"u"))
    with pytest.raises(ValueError, match=r"fit.pkl: 'v_template' holds more numbers"):
        body_models.load_body_model(str(path))


def test_rows_of_lists_are_counted():
    nested = [1.0]
    for _ in range(6):
        nested = [nested] * 16
    frame = {name: [[1]] for name in ("gt_joints_2d", "isValid", "occlusion")}
    frame |= {"gt_joints_3d": [[nested]], "imgPath": ["ag_trainset_3dpeople_bfh_archviz_0_0.png"]}
    frame |= {name: [0.0] for name in ("camX", "camY", "camZ", "camYaw")}
    selection, dropped = agora_rows.Selection(), agora_rows.collections.Counter()
    with pytest.raises(ValueError, match="gt_joints_3d of a person holds more numbers"):
        agora_rows.read_row(frame, 0, "a.png", ".", selection, dropped)
    with pytest.raises(ValueError, match="imgPath holds a list in place of a file's name"):
        agora_rows.read_row(frame | {"imgPath": [nested]}, 0, "a.png", ".", selection, dropped)
