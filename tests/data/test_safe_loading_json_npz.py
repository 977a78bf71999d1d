"""JSON and npz: honest files come in whole, bombs and odd paths are refused; image paths too."""

import io
import json
import os
import zipfile

import numpy as np
import pytest

from metrabs_like.data.image_files import confined_path
from metrabs_like.data.safe_loading import UnsafeFile, load_json, load_npz, parse_json


def test_json(tmp_path):
    path = tmp_path / "a.json"
    content = {"a": [1, 2.5, None, "ä"], "b": {"c": [[[]]]}}
    path.write_text(json.dumps(content), encoding="utf-8")
    assert load_json(str(path)) == content
    assert load_json(str(path), max_depth=5) == content
    with pytest.raises(UnsafeFile, match="nested more than 3 deep"):
        load_json(str(path), max_depth=3)
    with pytest.raises(UnsafeFile, match="more than max_bytes = 10"):
        load_json(str(path), max_bytes=10)
    with pytest.raises(ValueError, match="does not exist"):
        load_json(str(tmp_path / "absent.json"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested more than"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested more than"),
        ("[" * 100_000, "nested more than"),
        ("[" * 60 + "]" * 60, "nested more than 50 deep"),
        ("9" * 100_000, "no JSON"),
        ("{", "no JSON"),
        ("", "no JSON"),
        ("[1, 2", "no JSON"),
        (b"\xff\xfe", "no JSON"),
    ],
)
def test_json_bombs_are_refused(tmp_path, content, reason):
    path = tmp_path / "a.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UnsafeFile, match=reason):
        load_json(str(path))


def test_json_of_text():
    assert parse_json(b'{"a": 1}', "a.jsonl line 1") == {"a": 1}
    assert parse_json(b"\xef\xbb\xbf[1]", "a.jsonl line 1") == [1]
    for text, reason in (
        (b"[" * 100_000, "line 1 is refused: it is nested more than 50 deep"),
        (b"[" * 60 + b"]" * 60, "nested more than 50 deep"),
        (b"\xff\xfe", "no JSON"),
        (b"[1, 2]", "more than max_bytes = 5"),
    ):
        with pytest.raises(UnsafeFile, match=reason):
            parse_json(text, "a.jsonl line 1", max_bytes=5 if len(text) == 6 else 10**6)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    path = str(tmp_path / "a.npz")
    written = {
        "poses": np.arange(12.0).reshape(3, 4),
        "gender": np.array("female"),
        "f": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        "empty": np.zeros((0, 3), np.float32),
        "big_endian": np.arange(3, dtype=">f4"),
        "fields": np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
    }
    save(path, **written)
    read = load_npz(path)
    assert list(read) == list(written)
    for name, array in written.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def npy(array):
    """The bytes of one member."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def archive(path, members, compression=zipfile.ZIP_DEFLATED):
    """Writes members `(name, bytes)`, also repeated ones."""
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            file.writestr(info, content)
    return str(path)


@pytest.mark.parametrize(
    "name", ["../a.npy", "a/../../b.npy", "/etc/a.npy", "..\\a.npy", "./a.npy", "a//b.npy", "a.txt"]
)
def test_npz_with_odd_names_is_refused(tmp_path, name):
    path = archive(tmp_path / "a.npz", [("ok.npy", npy(np.ones(2))), (name, npy(np.ones(2)))])
    with pytest.raises(UnsafeFile, match=r"with the path|odd or repeated"):
        load_npz(path)
    assert os.listdir(tmp_path) == ["a.npz"]


def test_npz_bombs_are_refused(tmp_path):
    path = str(tmp_path / "a.npz")
    np.savez_compressed(path, a=np.zeros(10**6))
    assert os.path.getsize(path) < 20_000
    with pytest.raises(UnsafeFile, match="declares 8000128 bytes of arrays, more than max_bytes"):
        load_npz(path, max_bytes=20_000)
    assert load_npz(path)["a"].size == 10**6  # a few MB of zeros are fine
    np.savez_compressed(path, a=np.zeros(3 << 20), b=np.ones(2))
    with pytest.raises(UnsafeFile, match="declares 25165952 bytes in 'a.npy', of which"):
        load_npz(path)
    assert list(load_npz(path, names=["b"])) == ["b"]
    np.savez(path, **{f"a{i}": np.zeros(1) for i in range(20)})
    with pytest.raises(UnsafeFile, match="20 members, more than 10"):
        load_npz(path, max_members=10)


def test_npz_of_elements_without_bytes_is_refused(tmp_path):
    """They would be any number in a member of 128 bytes."""
    honest = npy(np.ones(0, "S9"))
    bomb = honest.replace(b"'|S9'", b"'|S0'").replace(b"(0,), }", b"(1000000,), }").strip()
    header = bomb[10:].ljust(117) + b"\n"
    bomb = bomb[:8] + len(header).to_bytes(2, "little") + header
    with pytest.raises(UnsafeFile, match="elements of no bytes"):
        load_npz(archive(tmp_path / "a.npz", [("a.npy", bomb)]))


def test_npz_with_false_headers_is_refused(tmp_path):
    honest = npy(np.ones(4))
    header = b"(4,)"
    assert header in honest
    for shape in (b"(9,)", b"(-4)", b"'ab'", b"[4,]", b"(1_)"):
        path = archive(tmp_path / "a.npz", [("a.npy", honest.replace(header, shape))])
        with pytest.raises(UnsafeFile, match="declares the shape|no whole npz"):
            load_npz(path)
    code = honest.replace(b"'<f8'", b"id(1)")
    with pytest.raises(UnsafeFile, match="no whole npz"):
        load_npz(archive(tmp_path / "a.npz", [("a.npy", code)]))


def test_npz_of_objects_is_refused_unread(tmp_path):
    class Gadget:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    path = str(tmp_path / "a.npz")
    np.savez(path, a=np.array([Gadget()], object), b=np.ones(2))
    assert list(load_npz(path, names=["b", "absent"])) == ["b"]
    with pytest.raises(UnsafeFile, match="Python objects.* in 'a.npy'"):
        load_npz(path)
    assert not (tmp_path / "pwned").exists()
    with np.load(path, allow_pickle=True) as file:  # shows that it would have run
        np.asarray(file["a"])
    assert (tmp_path / "pwned").exists()


def test_damaged_npz_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.arange(1000))
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    for damaged in (b"", b"hello", content[:-30], bytes(flipped), content[:100]):
        path.write_bytes(damaged)
        with pytest.raises(UnsafeFile, match="npz"):
            load_npz(str(path))
    members = [("a.npy", npy(np.ones(2))), ("a.npy", npy(np.ones(3)))]
    with pytest.warns(UserWarning, match="Duplicate"):
        repeated = archive(path, members)
    with pytest.raises(UnsafeFile, match="repeated"):
        load_npz(repeated)
    with pytest.raises(UnsafeFile, match="unusual compression"):
        load_npz(archive(path, members[:1], zipfile.ZIP_LZMA))


@pytest.mark.parametrize("relative", ["../a.jpg", "/etc/passwd", "in/../../a.jpg", "link/a.jpg"])
def test_image_paths_stay_inside(tmp_path, relative):
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    assert confined_path(str(root), "in/a.jpg") == str(root / "in" / "a.jpg")
    with pytest.raises(ValueError, match="leaves the source folder"):
        confined_path(str(root), relative)
