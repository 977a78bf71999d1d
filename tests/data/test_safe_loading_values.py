"""Honest pickles: what comes in is what was written."""

import base64
import collections
import pickle
import zlib

import numpy as np
import pytest
import scipy.sparse

from metrabs_like.data.safe_loading import load_pickle
from tests.data import hostile

PROTOCOLS = range(6)
# Written by Python 2.7 with chumpy 0.69 and scipy 1.2, as SMPL's files were; packed with zlib.
PYTHON2_CHUMPY = (
    b"eNp1kk1v00AQhmM7jdNNaAMUKLS05bMuH6EgDhyQQOJWSzkU7bFaOfa2uyKxPbtrSA6R4JAi/1v+AYw/QuVDV7LH"
    b"9o6ffeed+WkvwPJo74QpfqG41okCO9ShTOdDnQZK8yG+EbzYNDBKzgg4R7+gvYA1j7oyjmTINXTCOJviH2Gi+HCa"
    b"TYwMlArmBKFhEmujstAQcKssEkfVLnT91pJa49+nsO75lm8v64TIzFNOgFBbvvdbvoUJPc93qPVxNBqd/MVV3vyW"
    b"Gee0a7WqZca0HQUmgL5wxRX6RoUWSDv/UNM2rqUNKtafTzX0M1K702CWKhkb2PTf0Q7TIkg5DHzbty9pBz1IjYKb"
    b"jUNvFYc6S9HLab/AFBrtUmOGKtFXA7fDUJSmKZ6oiCP/gnzlE144tYUW31nAXY9awSotFOSLIHAPt7YXcN+jfezI"
    b"N86qLsGDnPZYJJWZs+/4AXZCxsaZxFbEjBHNkbp7tjyFh7TNJOrdG9EBi3jK40izJC4eNewv4AAxJTfiMWIf5dSa"
    b"NUp7XPrpO5diI6fHrca6sq0K3ToO6rhV2OkybQKTaXhCnZj/gKdoSbOWZ7nYEbtn8NyjbRnNNByiD3QzVfycK8Wj"
    b"ugMex3qOxN5IoO4XTd0vc+GVDYJX4rCh/3Whv13Og1zNw/DaeThYlWbX0anj2v+pQ/nrpSB0X8MbsU3dsWbFCMMx"
    b"dScqMVMZw9ts+A+gjAlK"
)
STRUCTURED = np.array(
    [(1, 2.5, b"ab", [1, 2])], [("a", "<i4"), ("b", ">f8"), ("c", "S3"), ("d", "u1", (2,))]
)
ARRAYS = {
    "float64": np.arange(6.0).reshape(2, 3),
    "float32": np.linspace(0, 1, 7, dtype=np.float32),
    "float16": np.array([0.5, np.inf], np.float16),
    "big_endian": np.arange(3, dtype=">i4"),
    "fortran": np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
    "not_contiguous": np.arange(20).reshape(4, 5)[::2, ::-1],
    "complex": np.array([1 + 2j], np.complex64),
    "bool": np.array([[True], [False]]),
    "empty": np.zeros((0, 3)),
    "zero_dim": np.array(3.5),
    "text": np.array(["a", "äöü"]),
    "bytes": np.array([b"ab", b"c"]),
    "datetime": np.array(["2020-01-02", "NaT"], "M8[ms]"),
    "timedelta": np.array([5, 7], "m8[2s]"),
    "structured": STRUCTURED,
    "aligned": np.zeros(2, np.dtype([("a", "u1"), ("b", "f8")], align=True)),
    "uint64": np.array([2**64 - 1], np.uint64),
    "objects": np.array([None, "a", 1.5, [1, 2]], object),
    "many_bytes": np.arange(256, dtype=np.uint8),
}


@pytest.fixture
def round_trip(tmp_path):
    """Returns a function that writes a pickle and loads it."""

    def write_and_load(value, protocol=4):
        path = tmp_path / "file.pkl"
        path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol))
        return load_pickle(str(path))

    return write_and_load


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", sorted(ARRAYS))
def test_arrays(round_trip, name, protocol):
    written = ARRAYS[name]
    read = round_trip(written, protocol)
    assert type(read) is np.ndarray and read.dtype == written.dtype
    assert read.shape == written.shape
    np.testing.assert_array_equal(read, written)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scalars_and_containers(round_trip, protocol):
    shared = np.arange(3.0)
    written = {
        "scalars": [
            np.float32(1.5),
            np.int64(-3),
            np.bool_(True),
            np.str_("ä"),
            np.str_(""),
            np.bytes_(b"x"),
        ],
        "numbers": (1, -(2**40), 2**70, 1.5, float("inf"), True, None, 2 - 3j),
        "text": ["", "a\nb'\"\\", "äöü\U0001f600", b"", b"\x00\xff", bytearray(b"ab")],
        "sets": [{1, "a"}, frozenset((2, 3)), set()],
        "ordered": collections.OrderedDict([("b", [1]), ("a", {})]),
        "slice": slice(1, None, 2),
        "shared": [shared, shared],
        3: [[[]], ()],
    }
    read = round_trip(written, protocol)
    assert read["shared"][0] is read["shared"][1]
    np.testing.assert_array_equal(read.pop("shared")[0], written.pop("shared")[0])
    assert read == written
    assert [type(item) for item in read["scalars"]] == [type(i) for i in written["scalars"]]
    assert list(read["ordered"]) == ["b", "a"]


def test_python2_pickles(round_trip):
    """What Python 2 wrote: `str` data of arrays, old module names, text opcodes."""
    values = np.array([1.5, -2.0, 3e10])
    raw = repr("".join(map(chr, values.tobytes()))).encode("latin1")
    content = (
        b"(dp0\nS'pose'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\n"
        b"tS'b'\ntRp4\n(I1\n(I3\ntcnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
        b"I00\nS" + raw + b"\ntbsS'name'\nS'Stra\\xdfe'\nsS'n'\nL12L\nsS'x'\nF0.5\nsS'yes'\nI01\ns."
    )
    read = round_trip(content)
    np.testing.assert_array_equal(read["pose"], values)
    assert read["name"] == "Straße" and read["n"] == 12 and read["x"] == 0.5
    assert read["yes"] is True


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", ["csc", "csr", "coo"])
@pytest.mark.parametrize("form", ["matrix", "array"])
def test_sparse_matrices_become_dense(round_trip, rng, protocol, kind, form):
    dense = rng.normal(size=(5, 8)) * (rng.uniform(size=(5, 8)) < 0.3)
    written = getattr(scipy.sparse, f"{kind}_{form}")(dense)
    np.testing.assert_array_equal(round_trip(written, protocol), dense)


def test_sparse_matrix_of_old_scipy(round_trip):
    """SMPL's joint regressor names the module `scipy.sparse.csc`."""
    written = scipy.sparse.csc_matrix(np.array([[0, 2.0], [1, 0]]))
    content = pickle.dumps(written, 2).replace(b"scipy.sparse._csc", b"scipy.sparse.csc")
    np.testing.assert_array_equal(round_trip(content), [[0, 2], [1, 0]])


def test_chumpy_arrays_become_plain(round_trip):
    x = hostile.array(b"(K\x03t", hostile.FLOAT, hostile.pushed_bytes(np.arange(3.0).tobytes()))
    indices = hostile.array(
        b"(K\x04t", hostile.dtype("i8"), hostile.pushed_bytes(np.array([2, 1, 1, 0]).tobytes())
    )
    tail = {"_dirty_vars": hostile.call("builtins.set", b"](e"), "_itr": b"N"}
    ch = hostile.with_state(hostile.CHUMPY, x=x, **tail)
    np.testing.assert_array_equal(round_trip(hostile.whole(ch)), [0, 1, 2])
    select = hostile.name("chumpy.reordering.Select") + b")\x81"
    shape = {"preferred_shape": b"(K\x02K\x02t"}
    select = hostile.with_state(select, a=ch, idxs=indices, **shape)
    np.testing.assert_array_equal(round_trip(hostile.whole(select)), [[2, 1], [1, 0]])


def test_a_file_that_chumpy_wrote(round_trip):
    read = round_trip(zlib.decompress(base64.b64decode(PYTHON2_CHUMPY)))
    np.testing.assert_array_equal(read["shapedirs"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(read["part"], [[0, 2], [3, 5]])
    np.testing.assert_array_equal(read["J_regressor"], [[0, 2], [1, 0]])
    assert read["bs_type"] == "lrotmin"


def test_chumpy_of_protocol_0(round_trip):
    content = (
        b"ccopy_reg\n_reconstructor\n(cchumpy.ch\nCh\nc__builtin__\nobject\nNtR(dS'x'\n"
        b"(lF1.5\naF2.5\nasb."
    )
    np.testing.assert_array_equal(round_trip(content), [1.5, 2.5])
