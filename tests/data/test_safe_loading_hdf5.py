"""Tampered HDF5 files are refused, as HDF5 and as MATLAB 7.3."""

import zlib

import h5py
import numpy as np
import pytest

from metrabs_like.data.safe_loading import UnsafeFile, load_hdf5, load_mat
from tests.data.matlab73 import MatlabFile


def test_groups_and_arrays(tmp_path):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(6).reshape(2, 3)
        file["g/b"] = np.array([True, False])
        file["g/z"] = file["a"]  # a second hard link is fine
        file.create_dataset("g/c", data=np.arange(1e4), compression="gzip", shuffle=True)
        file["text"] = np.array([b"ab", b"c"])
        file["complex"] = np.array([1 + 2j])
        file.create_dataset("none", data=h5py.Empty("f4"))
    read = load_hdf5(path)
    np.testing.assert_array_equal(read["a"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(read["g"]["c"], np.arange(1e4))
    assert read["g"]["z"] is read["a"] and read["g"]["b"].dtype == bool
    assert read["text"].tolist() == [b"ab", b"c"] and read["complex"][0] == 1 + 2j
    assert read["none"].size == 0


def soft_link(file, _):
    file["link"] = h5py.SoftLink("/honest")


def external_link(file, folder):
    with h5py.File(folder / "secret.h5", "w") as secret:
        secret["a"] = np.arange(3)
    file["link"] = h5py.ExternalLink(str(folder / "secret.h5"), "/a")


def raw_file(file, folder):
    (folder / "secret.txt").write_bytes(b"secret!!" * 4)
    file.create_dataset("raw", (4,), "f8", external=[(str(folder / "secret.txt"), 0, 32)])


def virtual(file, folder):
    with h5py.File(folder / "secret.h5", "w") as secret:
        secret["a"] = np.arange(3.0)
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "a", (3,))
    file.create_virtual_dataset("virtual", layout)


def huge_shape(file, _):
    file.create_dataset("huge", (10**6, 10**6), "f8", chunks=(64, 64))


def unstored_shape(file, _):
    file.create_dataset("sparse", (2**20, 16), "f8", chunks=(2**10, 16))


def absurd_ratio(file, _):
    file.create_dataset("packed", (2**24,), "f8", chunks=(2**18,), compression="gzip")[:8] = 1


def huge_chunk(file, _):
    file.create_dataset("chunk", (1,), "u1", chunks=(2**29,), maxshape=(None,), compression="gzip")[
        :
    ] = 1


def chunk_of_a_bomb(file, _):
    """A chunk that inflates to 4000 times its size, packed in more than itself."""
    chunk = file.create_dataset("x", (1024,), "u1", chunks=(1024,), compression="gzip")
    chunk.id.write_direct_chunk((0,), zlib.compress(bytes(1 << 28)))


def large_chunk_of_a_bomb(file, _):
    """A chunk that is packed in a tenth of its size and inflates to 100 times it."""
    made = file.create_dataset(
        "x", (1 << 20,), "u1", chunks=(1 << 20,), compression="gzip", fletcher32=True
    )
    made.id.write_direct_chunk((0,), zlib.compress(bytes(100 << 20)))


def chunk_of_no_stream(file, _):
    chunk = file.create_dataset("x", (1 << 20,), "u1", chunks=(1 << 20,), compression="gzip")
    chunk.id.write_direct_chunk((0,), bytes(1 << 17))


def unpacked_chunk(file, _):
    """The mask says that the chunk skips its filter, but it is longer than it should be."""
    chunk = file.create_dataset("x", (1 << 20,), "u1", chunks=(1 << 20,), compression="gzip")
    chunk.id.write_direct_chunk((0,), bytes((1 << 20) + 1000), filter_mask=1)


def filter_twice(file, _):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((1024,))
    properties.set_deflate(9)
    properties.set_deflate(9)
    space = h5py.h5s.create_simple((1024,))
    h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_UINT8, space, properties)


def plugin_filter(file, _):
    file.create_dataset("packed", data=np.arange(100), chunks=(10,), compression="lzf")


def text_of_any_length(file, _):
    file.create_dataset("text", data=["a"], dtype=h5py.string_dtype())


def region(file, _):
    file["a"] = np.arange(4)
    file.create_dataset("r", data=[file["a"].regionref[1:2]], dtype=h5py.regionref_dtype)


def named_type(file, _):
    file["type"] = np.dtype("f8")


def name_of_no_text(file, _):
    file.id.links.create_hard(b"\xff\xfe", file.id, b"honest")


def cycle(file, _):
    file["group/again"] = file.create_group("group/inner")
    file["group/inner/up"] = file["group"]


def deep(file, _):
    group = file
    for _ in range(100):
        group = group.create_group("g")


TAMPERED = {
    soft_link: "soft link 'link'",
    external_link: "external link 'link'",
    raw_file: "raw file",
    virtual: "virtual dataset",
    huge_shape: "more than max_bytes",
    unstored_shape: "of which 0 are stored",
    absurd_ratio: "are stored",
    huge_chunk: "in chunks of 536870912 bytes for 1",
    chunk_of_a_bomb: "more into a chunk of '/x' than its 1024 bytes",
    large_chunk_of_a_bomb: "more into a chunk of '/x' than its 1048576 bytes",
    chunk_of_no_stream: "more into a chunk",
    unpacked_chunk: "more into a chunk",
    filter_twice: "with the filters",
    plugin_filter: "filters",
    text_of_any_length: "unusual type",
    region: "unusual type",
    named_type: "neither group nor array",
    name_of_no_text: "no UTF-8|no whole HDF5",
    cycle: "a cycle",
    deep: "nested more than",
}


@pytest.mark.parametrize("tamper", TAMPERED, ids=lambda tamper: tamper.__name__)
def test_tampered_files_are_refused(tmp_path, tamper):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["honest"] = np.arange(3)
        tamper(file, tmp_path)
    with pytest.raises(UnsafeFile, match=TAMPERED[tamper]):
        load_hdf5(str(tmp_path / "a.h5"))
    matlab = MatlabFile(tmp_path / "a.mat")
    matlab.file["honest"] = np.arange(3)
    tamper(matlab.file, tmp_path)
    matlab.close()
    with pytest.raises(UnsafeFile, match=TAMPERED[tamper]):
        load_mat(matlab.path)


def test_honest_packed_chunks_are_read(tmp_path, rng):
    """Large ones with every order of the filters, one that is no smaller for its packing."""
    noise = rng.integers(0, 256, 1 << 20).astype(np.uint8)
    steps = np.arange(1 << 18)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in {"noise": noise, "steps": steps}.items():
            for i, options in enumerate(({}, {"shuffle": True}, {"fletcher32": True})):
                chunks = (1 << 18,)
                kwargs = {"data": values, "chunks": chunks, "compression": "gzip", **options}
                file.create_dataset(f"{name}{i}", **kwargs)
        masked = file.create_dataset(
            "masked", (1 << 20,), "u1", chunks=(1 << 20,), compression="gzip"
        )
        masked.id.write_direct_chunk((0,), noise.tobytes(), filter_mask=1)
    read = load_hdf5(str(tmp_path / "a.h5"))
    assert len(read) == 7
    for name, array in read.items():
        np.testing.assert_array_equal(array, steps if "steps" in name else noise)


def test_the_sum_of_all_arrays_is_limited(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(4):
            file.create_dataset(f"a{i}", data=np.zeros(2**18), compression="gzip")
    assert len(load_hdf5(str(tmp_path / "a.h5"), max_bytes=2**23)) == 4
    with pytest.raises(UnsafeFile, match="more than max_bytes allows"):
        load_hdf5(str(tmp_path / "a.h5"), max_bytes=2**22)


def cell_of_itself(matlab):
    cells = matlab.references.create_dataset("c", (1, 1), h5py.ref_dtype)
    cells.attrs["MATLAB_class"] = np.bytes_("cell")
    cells[0, 0] = cells.ref
    matlab.file["x"] = cells


def one_cell_again_and_again(matlab):
    """A file of few bytes: the references are packed."""
    cells = np.full((20_000, 1), matlab.reference(np.ones((1, 1))), object)
    made = matlab.file.create_dataset("x", data=cells, dtype=h5py.ref_dtype, compression="gzip")
    made.attrs["MATLAB_class"] = np.bytes_("cell")


def function(matlab):
    matlab.write(matlab.file, "x", "sin").attrs["MATLAB_class"] = np.bytes_("function_handle")


def an_object(matlab):
    matlab.write(matlab.file, "x", np.ones((1, 6))).attrs["MATLAB_object_decode"] = np.int32(3)


def unknown_class(matlab):
    matlab.write(matlab.file, "x", np.ones((1, 6))).attrs["MATLAB_class"] = np.bytes_("evil")


def references_in_numbers(matlab):
    data = [[matlab.reference("a")]]
    file = matlab.file.create_dataset("x", data=np.array(data, object), dtype=h5py.ref_dtype)
    file.attrs["MATLAB_class"] = np.bytes_("double")


def empty_reference(matlab):
    cells = matlab.file.create_dataset("x", (1, 1), h5py.ref_dtype)
    cells.attrs["MATLAB_class"] = np.bytes_("cell")


def soft_link_in_struct(matlab):
    matlab.write(matlab.file, "x", {"a": np.ones((1, 1))})
    matlab.file["x/link"] = h5py.SoftLink("/x/a")


def sparse_outside(matlab):
    group = matlab.file.create_group("x")
    group.attrs["MATLAB_sparse"] = np.uint64(2)
    group["data"], group["ir"], group["jc"] = np.ones(1), np.array([10**9]), np.array([0, 1])


def sparse_bomb(matlab):
    group = matlab.file.create_group("x")
    group.attrs["MATLAB_sparse"] = np.uint64(2**40)
    group["data"], group["ir"], group["jc"] = np.ones(1), np.array([0]), np.array([0, 1])


def empty_that_is_not(matlab):
    matlab.write(matlab.file, "x", np.ones((1, 3))).attrs["MATLAB_empty"] = np.uint8(1)


def attribute_bomb(matlab):
    found = matlab.write(matlab.file, "x", np.ones((1, 3)))
    del found.attrs["MATLAB_class"]
    found.attrs.create("MATLAB_class", "double", dtype=h5py.string_dtype())


TAMPERED_MATLAB = {
    one_cell_again_and_again: "more references than objects, up to those of '/x'",
    cell_of_itself: "a cycle",
    function: "object or a function",
    an_object: "object or a function",
    unknown_class: "class 'evil'",
    references_in_numbers: "no cell array",
    empty_reference: "empty reference",
    soft_link_in_struct: "soft link 'link'",
    sparse_outside: "outside of its shape",
    sparse_bomb: "max_bytes",
    empty_that_is_not: "is not empty",
    attribute_bomb: "unusual attribute",
}


@pytest.mark.parametrize("tamper", TAMPERED_MATLAB, ids=lambda tamper: tamper.__name__)
def test_tampered_matlab_files_are_refused(tmp_path, tamper):
    matlab = MatlabFile(tmp_path / "a.mat")
    tamper(matlab)
    matlab.close()
    with pytest.raises(UnsafeFile, match=TAMPERED_MATLAB[tamper]):
        load_mat(matlab.path)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(1000)
    content = path.read_bytes()
    for damaged in (b"", b"hello", content[:-500], content[:200]):
        path.write_bytes(damaged)
        with pytest.raises(UnsafeFile, match="no whole HDF5 file"):
            load_hdf5(str(path))
    path.write_bytes(content)
    with pytest.raises(UnsafeFile, match="more than max_bytes"):
        load_hdf5(str(path), max_bytes=1000)
