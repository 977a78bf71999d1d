"""PyTorch files: both layouts give the same arrays; nothing in them runs; lies are refused."""

import collections
import pickle
import struct
import zipfile

import numpy as np
import pytest

from metrabs_like.data.safe_loading import UnsafeFile, load_torch, torch_files
from tests.data import hostile, torch_writer
from tests.data.hostile import call, name, text
from tests.data.torch_writer import number, numbers, storage, tensor

WRITERS = {"archive": torch_writer.write_archive, "legacy": torch_writer.write_legacy}
FOUR = np.arange(4, dtype=np.float32)


@pytest.fixture(autouse=True)
def nothing_runs():
    """No test of this file may leave a trace; those that run a gadget on purpose clear it."""
    hostile.TRACES.clear()
    yield
    assert not hostile.TRACES


@pytest.fixture(params=WRITERS)
def load(request, tmp_path):
    """Returns a function that writes opcodes and storages in a layout, and loads the file."""

    def write_and_load(opcodes, storages=(), max_bytes=torch_files.MAX_TORCH_BYTES, **kwargs):
        path = tmp_path / "model.pth"
        WRITERS[request.param](path, opcodes, storages, **kwargs)
        return load_torch(str(path), max_bytes=max_bytes)

    return write_and_load


def _checkpoint(rng):
    weights = collections.OrderedDict(
        (dtype, rng.integers(0, 2, [2, 3]).astype(dtype)) for dtype in torch_writer.STORAGES
    )
    weights["scalar"], weights["empty"] = np.array(3, np.int64), np.zeros([0, 2], np.float32)
    optimizer = {140_234_567_890_123: {"step": 3, "moment": np.ones(2, np.float32)}}
    return {"epoch": 7, "state_dict": weights, "optimizer": optimizer, "name": "dla", "rate": 0.5}


def _assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            _assert_same(found[key], value)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


@pytest.mark.parametrize("is_legacy", [False, True])
def test_round_trip(tmp_path, rng, is_legacy):
    path, content = tmp_path / "model.pth", _checkpoint(rng)
    torch_writer.save(path, content, is_legacy=is_legacy)
    _assert_same(load_torch(str(path)), content)


@pytest.mark.parametrize("is_legacy", [False, True])
def test_pytorch_writes_such_files(tmp_path, rng, is_legacy):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: the file is its own")
    content = _checkpoint(rng)
    weights = content["state_dict"]
    tensors = collections.OrderedDict((k, torch.from_numpy(v)) for k, v in weights.items())
    layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    tensors |= {"parameter": layer.weight, "part": torch.arange(9)[1:8:3]}
    tensors["half"] = torch.tensor([1.5, -2.25]).bfloat16()
    written = {"state_dict": tensors, "layer": layer.state_dict()}
    path = tmp_path / "model.pth"
    torch.save(written, path, _use_new_zipfile_serialization=not is_legacy)
    found = load_torch(str(path))
    kernel = layer.weight.detach().numpy()
    weights |= {"parameter": kernel, "part": np.array([1, 4, 7])}
    weights["half"] = np.array([1.5, -2.25], np.float32)
    _assert_same(found["state_dict"], weights)
    np.testing.assert_array_equal(found["layer"]["weight"], kernel)


def test_pytorch_reads_what_the_tests_write(tmp_path, rng):
    """Shows that the writer above is no invention of ours."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: it is the reader here")
    content = _checkpoint(rng)
    for is_legacy in (False, True):
        torch_writer.save(tmp_path / "model.pth", content, is_legacy=is_legacy)
        found = torch.load(tmp_path / "model.pth", weights_only=False)
        for key, value in content["state_dict"].items():
            np.testing.assert_array_equal(found["state_dict"][key].numpy(), value)


def test_tensors_are_parts_of_storages(load):
    """Two views of one storage: its transpose from the second number on, and a diagonal."""
    held = storage("0", 4)
    opcodes = b"(" + tensor(held, 0, [2, 2], [1, 2]) + tensor(held, 1, [3], [1]) + b"t"
    turned, rest = load(opcodes, {"0": FOUR})
    np.testing.assert_array_equal(turned, [[0, 2], [1, 3]])
    np.testing.assert_array_equal(rest, [1, 2, 3])
    with pytest.raises(ValueError, match="read-only"):
        rest[0] = 5


def test_bfloat16_is_the_upper_half_of_float32(load):
    values = np.array([1.0, -2.5, 3.0e38], np.float32)
    halves = (values.view(np.uint32) >> 16).astype(np.uint16)
    found = load(tensor(storage("0", 3, "BFloat16"), 0, [3], [1]), {"0": halves})
    expected = (halves.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(found, expected)
    assert found[1] == -2.5


def test_older_calls_and_parts(load):
    view = b"(" + text("1") + number(1) + number(2) + b"t"
    held = storage("0", 4, part=view)
    old = call("torch._utils._rebuild_tensor", held, number(0), numbers([2]), numbers([1]))
    parameter = call(
        "torch._utils._rebuild_parameter", old, b"\x88", call("collections.OrderedDict")
    )
    np.testing.assert_array_equal(load(parameter, {"0": FOUR}), [1, 2])


@pytest.mark.parametrize("case", sorted(hostile.RUNNING))
def test_gadgets_are_refused_by_name(load, case):
    content, dotted = hostile.RUNNING[case]
    opcodes = content[2 if content[:1] == b"\x80" else 0 : -1]
    with pytest.raises(UnsafeFile, match="not on the allow-list") as error:
        load(b"}(" + text("state_dict") + opcodes + b"u")
    assert repr(dotted) in str(error.value) and "model.pth" in str(error.value)
    assert "state_dict alone" in str(error.value)


def test_a_gadget_in_the_head_of_an_old_file_is_refused(tmp_path):
    path = tmp_path / "model.pth"
    for content, dotted in (hostile.RUNNING["reduce"], hostile.RUNNING["stack_global"]):
        path.write_bytes(pickle.dumps(torch_writer.MAGIC, 2) + content)
        with pytest.raises(UnsafeFile, match="not on the allow-list") as error:
            load_torch(str(path))
        assert repr(dotted) in str(error.value)


def test_a_whole_model_is_refused_with_the_remedy(load):
    with pytest.raises(UnsafeFile, match="torch.nn.modules.conv.Conv2d.*state_dict alone"):
        load(name("torch.nn.modules.conv.Conv2d") + b")\x81}b")


_BIG = 1 << 47
_HELD = storage("0", 4)
# Name -> (opcodes, text that the reason must hold); the storage "0" has four numbers.
MISUSED = {
    "beyond": (tensor(_HELD, 1, [4], [1]), "beyond its storage"),
    "long_strides": (tensor(_HELD, 0, [2, 2], [3, 1]), "beyond its storage"),
    "more_than_there_are": (tensor(_HELD, 0, [_BIG], [0]), "beyond its storage"),
    "negative_offset": (tensor(_HELD, -1, [2], [1]), "strange sizes"),
    "negative_stride": (tensor(_HELD, 3, [2], [-1]), "strange sizes"),
    "negative_size": (tensor(_HELD, 0, [-2], [1]), "strange sizes"),
    "fewer_strides": (tensor(_HELD, 0, [2, 2], [1]), "strange sizes"),
    "many_dimensions": (tensor(_HELD, 0, [1] * 40, [1] * 40), "strange sizes"),
    "text_as_size": (
        call("torch._utils._rebuild_tensor", _HELD, number(0), b"(" + text("a") + b"t", b"(K\x01t"),
        "strange sizes",
    ),
    "no_storage": (tensor(b"N", 0, [1], [1]), "something else than a storage"),
    "few_arguments": (call("torch._utils._rebuild_tensor_v2", _HELD), "something else"),
    "state_of_a_tensor": (tensor(_HELD, 0, [1], [1]) + b"}b", "something else than a storage"),
    "parameter_of_text": (
        call("torch._utils._rebuild_parameter", text("a"), b"\x88", b"N"),
        "something else than a tensor",
    ),
    "call_of_a_storage": (call("torch.FloatStorage", number(4)), "calls 'torch.FloatStorage'"),
    "storage_as_a_value": (name("torch.FloatStorage"), "itself as a value"),
    "other_id": (b"(" + text("module") + text("0") + b"tQ", "no storage"),
    "text_id": (text("0") + b"Q", "no storage"),
    "id_of_another_type": (
        b"(" + text("storage") + name("collections.OrderedDict") + text("0") + text("cpu")
        + number(4) + b"tQ",
        "no storage",
    ),
    "negative_storage": (storage("0", -4), "no storage"),
    "part_of_text": (storage("0", 4, part=text("a")), "no storage"),
    "two_types": (b"(" + _HELD + storage("0", 4, "Int") + b"t", "in two ways"),
    "two_sizes": (b"(" + _HELD + storage("0", 3) + b"t", "in two ways"),
    "huge_storage": (storage("0", _BIG), ""),
    "other_storage": (storage("9", 4), ""),
    "id_as_key": (b"}" + _HELD + b"K\x01s", "as a key"),
    "huge_key": (b"}" + number(1 << 70) + b"K\x01s", "as a key"),
    "set_state_of_a_dict": (b"}}b", "no new object"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(MISUSED))
def test_misuse_of_what_is_allowed_is_refused(load, case):
    opcodes, reason = MISUSED[case]
    with pytest.raises(UnsafeFile) as error:
        load(opcodes, {"0": FOUR} if text("0") + text("cpu") in opcodes else {})
    assert reason in str(error.value) and "model.pth" in str(error.value)


def test_many_wide_keys_are_refused(load):
    """Numbers beyond 2^31 may be keys, addresses in old optimizers, but not by the thousand."""
    few, many = (
        b"}(" + b"".join(number((i + 1) << 40) + b"N" for i in range(n)) + b"u"
        for n in (100, 10_001)
    )
    assert len(load(few)) == 100
    with pytest.raises(UnsafeFile, match="as a key"):
        load(many)


def test_too_large_files_are_refused(load):
    with pytest.raises(UnsafeFile, match="max_bytes"):
        load(tensor(_HELD, 0, [4], [1]), {"0": FOUR}, max_bytes=100)


def _archive(tmp_path, **kwargs):
    path = tmp_path / "model.pth"
    torch_writer.write_archive(path, tensor(_HELD, 0, [4], [1]), {"0": FOUR}, **kwargs)
    return path


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        ({"compression": zipfile.ZIP_DEFLATED}, "packed"),
        ({"folder": "a/b"}, ""),
        ({"more": {"other/data.pkl": b"N."}}, "one data.pkl"),
        ({"more": {"archive/data/0": b"1234"}}, "repeated members"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_odd_archives(tmp_path, kwargs, reason):
    path = _archive(tmp_path, **kwargs)
    if not reason:  # the folder's name is free
        np.testing.assert_array_equal(load_torch(str(path)), [0, 1, 2, 3])
        return
    with pytest.raises(UnsafeFile, match=reason):
        load_torch(str(path))


def test_big_endian_files_are_refused(tmp_path):
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02N.")
        archive.writestr("a/byteorder", "big")
    with pytest.raises(UnsafeFile, match="big-endian"):
        load_torch(str(path))
    machine = {**torch_writer.MACHINE, "little_endian": False}
    head = (torch_writer.MAGIC, torch_writer.PROTOCOL, machine)
    torch_writer.write_legacy(path, b"N", head=head)
    with pytest.raises(UnsafeFile, match="big-endian"):
        load_torch(str(path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no whole pickle"),
        (b"PK\x03\x04", "no whole PyTorch file"),
        (b"<html>not found</html>", "is refused"),
        (pickle.dumps({"a": 1}, 2), "does not begin"),
        (pickle.dumps(torch_writer.MAGIC, 2), "no whole pickle"),
    ],
    ids=["empty", "zip_start", "html", "plain_pickle", "magic_alone"],
)
def test_other_files_are_refused(tmp_path, content, reason):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(UnsafeFile, match=reason):
        load_torch(str(path))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="none.pth does not exist"):
        load_torch(str(tmp_path / "none.pth"))


@pytest.mark.parametrize("key_list", [["0", "0"], ["1"], [0], "0"], ids=str)
def test_old_files_list_their_storages_truly(tmp_path, key_list):
    path = tmp_path / "model.pth"
    head = [torch_writer.MAGIC, torch_writer.PROTOCOL, torch_writer.MACHINE]
    opcodes = b"\x80\x02" + tensor(_HELD, 0, [4], [1]) + b"."
    storages = (struct.pack("<q", 4) + FOUR.tobytes()) * 2
    content = b"".join(pickle.dumps(value, 2) for value in head) + opcodes
    path.write_bytes(content + pickle.dumps(key_list, 2) + storages)
    with pytest.raises(UnsafeFile, match="storage"):
        load_torch(str(path))


@pytest.mark.parametrize("is_legacy", [False, True])
def test_every_damage_is_refused_or_harmless(tmp_path, rng, is_legacy):
    """Cut files never load; changed bytes load as data or are refused, with no other error."""
    path = tmp_path / "model.pth"
    torch_writer.save(path, {"state_dict": {"w": np.ones([2, 2], np.float32)}}, is_legacy=is_legacy)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UnsafeFile):
            load_torch(str(path))
    n_refused = 0
    for _ in range(300):
        changed = bytearray(whole)
        changed[rng.integers(len(whole))] = rng.integers(256)
        path.write_bytes(changed)
        try:
            load_torch(str(path))
        except UnsafeFile:
            n_refused += 1
    assert n_refused > 30
