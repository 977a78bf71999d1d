"""MATLAB files of both versions give the same values; tampered ones are refused."""

import io
import struct
import zlib

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from metrabs_like.data.safe_loading import UnsafeFile, load_mat, mat5_checks
from tests.data.matlab73 import MatlabFile, write_mat73

NUMBERS = {
    "a": np.arange(6.0).reshape(2, 3),
    "single": np.array([[1.5]], np.float32),
    "bytes": np.array([[1, 255]], np.uint8),
    "whole": np.array([[1], [-7]], np.int32),
    "yes": np.array([[True, False]]),
    "empty": np.zeros((0, 3)),
    "deep": np.arange(24.0).reshape(2, 3, 4),
}


def cell(rows):
    """An object array of a list of rows."""
    array = np.empty((len(rows), len(rows[0])), object)
    for place in np.ndindex(array.shape):
        array[place] = rows[place[0]][place[1]]
    return array


POSES = [[np.arange(57.0).reshape(19, 3), np.full((15, 3), np.nan), np.zeros((0, 0))]]
STRUCT = {"name": "Jazz", "inner": {"fc": np.array([[500.0], [510]])}}


@pytest.fixture(params=["v5", "v5 compressed", "v7.3"])
def loaded(request, tmp_path):
    """The same variables from each version."""
    path = str(tmp_path / "a.mat")
    if request.param == "v7.3":
        variables = {"GTpose2": POSES, "s": STRUCT, "text": "Käfer", **NUMBERS}
        write_mat73(path, variables)
    else:
        variables = {"GTpose2": cell(POSES), "s": STRUCT, "text": "Käfer", **NUMBERS}
        scipy.io.savemat(path, variables, do_compression="compressed" in request.param)
    return load_mat(path)


def test_values(loaded):
    for name, expected in NUMBERS.items():
        assert loaded[name].dtype == expected.dtype, name
        np.testing.assert_array_equal(loaded[name], expected)
    assert loaded["text"] == "Käfer"
    poses = loaded["GTpose2"]
    assert poses.shape == (1, 3) and poses.dtype == object
    for read, written in zip(poses[0], POSES[0], strict=True):
        np.testing.assert_array_equal(read, written)
    assert loaded["s"]["name"] == "Jazz"
    np.testing.assert_array_equal(loaded["s"]["inner"]["fc"], [[500], [510]])
    assert sorted(loaded) == sorted([*NUMBERS, "GTpose2", "s", "text"])


def test_complex_numbers(tmp_path):
    written = {"a": np.array([[1 + 2j, 3]]), "b": np.array([[1.5]])}
    path = str(tmp_path / "a.mat")
    for save in (scipy.io.savemat, write_mat73):
        save(path, written)
        read = load_mat(path)
        np.testing.assert_array_equal(read["a"], written["a"])
        np.testing.assert_array_equal(read["b"], written["b"])


def test_struct_arrays_and_sparse_of_version5(tmp_path, rng):
    dense = rng.normal(size=(4, 6)) * (rng.uniform(size=(4, 6)) < 0.4)
    structs = np.zeros((1, 2), [("x", object), ("y", object)])
    structs[0, 0] = (np.array([[1.0]]), "a")
    structs[0, 1] = (np.array([[2.0]]), "b")
    path = str(tmp_path / "a.mat")
    scipy.io.savemat(path, {"m": scipy.sparse.csc_matrix(dense), "s": structs})
    read = load_mat(path)
    np.testing.assert_array_equal(read["m"], dense)
    assert read["s"].shape == (1, 2) and read["s"][0, 1]["y"] == "b"


def test_struct_arrays_and_sparse_of_version73(tmp_path, rng):
    dense = rng.normal(size=(4, 6)) * (rng.uniform(size=(4, 6)) < 0.4)
    sparse = scipy.sparse.csc_matrix(dense)
    file = MatlabFile(tmp_path / "a.mat")
    group = file.file.create_group("m")
    group.attrs["MATLAB_class"], group.attrs["MATLAB_sparse"] = np.bytes_("double"), np.uint64(4)
    group["data"], group["ir"], group["jc"] = sparse.data, sparse.indices, sparse.indptr
    structs = file.file.create_group("s")
    structs.attrs["MATLAB_class"] = np.bytes_("struct")
    for name, values in {"x": (1.0, 2.0), "y": ("a", "b")}.items():
        items = [v if isinstance(v, str) else np.array([[v]]) for v in values]
        places = np.array([[file.reference(item)] for item in items], object)
        structs.create_dataset(name, data=places, dtype=h5py.ref_dtype)
    file.close()
    read = load_mat(file.path)
    np.testing.assert_array_equal(read["m"], dense)
    assert read["s"].shape == (1, 2) and read["s"][0, 1]["y"] == "b"
    np.testing.assert_array_equal(read["s"][0, 0]["x"], [[1]])


def test_named_variables(tmp_path):
    for path in (str(tmp_path / "5.mat"), str(tmp_path / "73.mat")):
        if "73" in path:
            write_mat73(path, NUMBERS)
        else:
            scipy.io.savemat(path, NUMBERS)
        assert list(load_mat(path, names=["a"])) == ["a"]
        with pytest.raises(ValueError, match="has no variable absent"):
            load_mat(path, names=["a", "absent"])


def refused(path, content, reason, **kwargs):
    """Expects that the bytes are refused."""
    path.write_bytes(content)
    with pytest.raises(UnsafeFile, match=reason):
        load_mat(str(path), **kwargs)


def saved(variables, **kwargs):
    """The bytes of a version 5 file."""
    file = io.BytesIO()
    scipy.io.savemat(file, variables, **kwargs)
    return file.getvalue()


def element(kind, payload):
    """One element of a version 5 file, padded."""
    return struct.pack("<II", kind, len(payload)) + payload + bytes(-len(payload) % 8)


def matrix(matlab_class, sizes, *contents, name=b"a"):
    """An array element."""
    flags = element(6, struct.pack("<II", matlab_class, 0))
    dims = element(5, struct.pack(f"<{len(sizes)}i", *sizes))
    return element(14, flags + dims + element(1, name) + b"".join(contents))


def sparse(rows, starts):
    """A sparse 2 x 2 matrix of two values with any row indices and column starts."""
    parts = (
        element(5, struct.pack(f"<{len(rows)}i", *rows)),
        element(5, struct.pack(f"<{len(starts)}i", *starts)),
        element(9, struct.pack("<2d", 1, 2)),
    )
    return matrix(5, (2, 2), *parts)


HEADER5 = saved({})[:128]
DOUBLE = element(9, struct.pack("<d", 1.0))
HANDMADE = {
    "object": (matrix(3, (1, 1), DOUBLE), "an object"),
    "function": (matrix(16, (1, 1), DOUBLE), "a function handle"),
    "opaque": (matrix(17, (1, 1), DOUBLE), "an opaque object"),
    "unknown_class": (matrix(40, (1, 1), DOUBLE), "the class 40"),
    "function_in_cell": (matrix(1, (1, 1), matrix(16, (1, 1), DOUBLE)), "a function handle"),
    "cell_bomb": (matrix(1, (2**31 - 1, 2**31 - 1)), "more data than max_bytes"),
    "number_of_unknown_type": (matrix(6, (1, 1), element(77, bytes(8))), "unknown type 77"),
    "cell_of_numbers": (matrix(1, (1, 1), DOUBLE), "declares 1 items"),
    "text_of_doubles": (matrix(4, (1, 1), DOUBLE), "unknown type 9"),
    "two_parts": (matrix(6, (1, 1), DOUBLE, DOUBLE), "2 parts instead of 1"),
    "no_field_names": (matrix(2, (1, 1), DOUBLE, DOUBLE), "damaged field names"),
    "sparse_parts": (matrix(5, (2, 2), DOUBLE), "without its usual parts"),
    "small_cell_bomb": (matrix(1, (1000, 1000)), "declares 1000000 items"),
    "struct_bomb": (
        matrix(2, (1000, 1000), element(5, struct.pack("<i", 8)), element(1, bytes(8))),
        "declares 1000000 items",
    ),
    "number_bomb": (matrix(6, (10**5, 10**3), DOUBLE), "declares 100000000 items"),
    "sparse_bomb": (matrix(5, (2**30, 2**30)), "more data than max_bytes"),
    "negative": (matrix(6, (-1, 1), DOUBLE), "strange dimensions"),
    "one_dimension": (matrix(6, (1,), DOUBLE), "strange dimensions"),
    "no_variable": (DOUBLE, "element of type 9"),
    "truncated": (matrix(6, (1, 1), DOUBLE)[:-8], "truncated"),
    "announced_too_much": (struct.pack("<II", 14, 2**31), "truncated"),
    "deflate_bomb": (element(15, zlib.compress(bytes(2**24))), "decompresses to more than max"),
    "not_deflate": (element(15, b"hello"), "damaged"),
    "million_cells": (matrix(1, (1, 1 << 20), element(14, b"") * (1 << 20)), "parts, cells and"),
    "million_fields": (
        matrix(2, (0, 0), element(5, struct.pack("<i", 1)), element(1, bytes(1 << 20))),
        "parts, cells and",
    ),
    "nested": (None, "nested more than"),
    "sparse_rows": (sparse([9, 1], [0, 1, 2]), "damaged row indices"),
    "sparse_negative_rows": (sparse([-1, 1], [0, 1, 2]), "damaged row indices"),
    "sparse_few_values": (sparse([0, 1, 1], [0, 1, 3]), "damaged row indices"),
    "sparse_starts": (sparse([0, 1], [0, 9, 2]), "damaged column starts"),
    "sparse_starts_behind": (sparse([0, 1], [0, 1, 3]), "damaged column starts"),
    "sparse_few_starts": (sparse([0, 1], [0, 1]), "damaged column starts"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(HANDMADE))
def test_tampered_version5_is_refused(tmp_path, case):
    body, reason = HANDMADE[case]
    if case == "nested":
        body = matrix(1, (0, 0))
        for _ in range(100):
            body = matrix(1, (1, 1), body)
    limits = {"max_bytes": 10**6} if case == "deflate_bomb" else {}
    refused(tmp_path / "a.mat", HEADER5 + body, reason, **limits)
    if case not in ("not_deflate", "deflate_bomb"):
        packed = zlib.compress(body)
        packed = struct.pack("<II", 15, len(packed)) + packed
        refused(tmp_path / "b.mat", HEADER5 + packed, reason, **limits)


def test_honest_handmade_variables_are_read(tmp_path):
    """Shows that the refused ones above differ by their tampering alone."""
    path = tmp_path / "a.mat"
    number = matrix(6, (1, 1), DOUBLE)
    path.write_bytes(HEADER5 + sparse([1, 0], [0, 1, 2]))
    np.testing.assert_array_equal(load_mat(str(path))["a"], [[0, 2], [1, 0]])
    path.write_bytes(HEADER5 + number + matrix(1, (1, 1), number, name=b"c"))
    read = load_mat(str(path))
    assert read["a"][0, 0] == 1 and read["c"][0, 0][0, 0] == 1


def test_running_out_of_memory_is_a_refusal(tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(mat5_checks._Checker, "variables", fail)
    refused(tmp_path / "a.mat", saved({"a": np.ones(3)}), "more memory than there is")


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.mat"
    refused(path, b"", "no MATLAB file")
    refused(path, b"x" * 600, "no MATLAB file")
    refused(path, saved({"a": np.ones(3)}, format="4"), "no MATLAB file")
    refused(path, saved({"a": np.ones(1000)}), "more than max_bytes = 100", max_bytes=100)
    packed = saved({"a": np.zeros(10**6)}, do_compression=True)
    refused(path, packed, "decompresses to more than max_bytes", max_bytes=10**6)
    refused(path, packed[:-40], "truncated|damaged")
    with pytest.raises(ValueError, match="does not exist"):
        load_mat(str(tmp_path / "absent.mat"))


def test_hdf5_behind_a_strange_user_block_is_refused(tmp_path):
    path = str(tmp_path / "a.mat")
    with h5py.File(path, "w", userblock_size=1024) as file:
        file["a"] = 1.0
    with pytest.raises(UnsafeFile, match="no MATLAB file"):
        load_mat(path)
    write_mat73(path, {"a": np.ones((1, 1))})
    with open(path, "r+b") as file:  # a header of version 5 before HDF5: scipy would read it
        file.write(HEADER5)
    with pytest.raises(UnsafeFile, match="truncated|damaged|element|type"):
        load_mat(path)
