import os
import struct

import cv2
import numpy as np
import pytest

from metrabs_like.data import image_files
from metrabs_like.data.cameras import intrinsics_from_fov


def encoded(extension, size=(20, 30), noise=True):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (*size, 3)) if noise else np.zeros((*size, 3))
    return cv2.imencode(extension, image.astype(np.uint8))[1].tobytes()


def with_orientation(jpeg, orientation, order):
    entry = struct.pack(order + "HHIH2x", 0x0112, 3, 1, orientation)
    tiff = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HIH", 42, 8, 1) + entry
    payload = b"Exif\0\0" + tiff + b"\0\0\0\0"
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def read(tmp_path, content):
    path = tmp_path / "image"
    path.write_bytes(content)
    return image_files.read_image(str(path))


@pytest.mark.parametrize(("extension", "kind"), [(".jpg", "jpeg"), (".png", "png")])
def test_good_images(tmp_path, extension, kind):
    content, header = read(tmp_path, encoded(extension))
    assert content == encoded(extension)
    assert header == (kind, 30, 20, 1)


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_orientation(tmp_path, order):
    jpeg = encoded(".jpg")
    assert read(tmp_path, with_orientation(jpeg, 1, order))[1].orientation == 1
    with pytest.raises(image_files.UnusableImage, match="EXIF orientation 6"):
        read(tmp_path, with_orientation(jpeg, 6, order))


@pytest.mark.parametrize("extension", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
def test_truncated_images(tmp_path, extension, share):
    content = encoded(extension)
    with pytest.raises(image_files.UnusableImage, match="truncated|JPEG"):
        read(tmp_path, content[: max(9, int(len(content) * share))])


def test_corrupt_other_and_missing_files(tmp_path):
    png = bytearray(encoded(".png"))
    png[60:70] = b"0123456789"
    with pytest.raises(image_files.UnusableImage, match="corrupt"):
        read(tmp_path, bytes(png))
    for content in (b"", b"GIF89a", encoded(".bmp")):
        with pytest.raises(image_files.UnusableImage, match="neither JPEG nor PNG; convert"):
            read(tmp_path, content)
    with pytest.raises(image_files.UnusableImage, match="cannot be read"):
        image_files.read_image(str(tmp_path / "absent.jpg"))


def test_oversized_images_are_refused_before_decoding(tmp_path):
    png = bytearray(encoded(".png"))
    png[16:24] = struct.pack(">II", 60000, 60000)
    with pytest.raises(image_files.UnusableImage, match="60000 x 60000 px"):
        read(tmp_path, bytes(png))


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("pipe.jpg", "folder.jpg"):  # a pipe without a writer would wait for ever
        with pytest.raises(image_files.UnusableImage, match="no regular file"):
            image_files.read_image(str(tmp_path / name))


def test_files_have_a_limit(tmp_path, monkeypatch):
    content = encoded(".png")
    monkeypatch.setattr(image_files, "MAX_FILE_BYTES", len(content))
    assert read(tmp_path, content)[0] == content
    monkeypatch.setattr(image_files, "MAX_FILE_BYTES", len(content) - 1)
    with pytest.raises(image_files.UnusableImage, match="more than .* bytes"):
        read(tmp_path, content)


def test_paths_are_confined(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"")
    os.symlink(tmp_path / "secret.jpg", root / "link.jpg")
    assert image_files.confined_path(str(root), "a/../b.jpg") == str(root / "b.jpg")
    for bad in ("../secret.jpg", "/etc/passwd", "a/../../secret.jpg", "link.jpg"):
        with pytest.raises(ValueError, match="leaves the source folder"):
            image_files.confined_path(str(root), bad)
    with pytest.raises(ValueError, match="holds a NUL"):
        image_files.confined_path(str(root), "a\0.jpg")


def test_intrinsics_from_fov_by_hand():
    k = intrinsics_from_fov(90, 641, 481)
    np.testing.assert_allclose(k, [[320.5, 0, 320], [0, 320.5, 240], [0, 0, 1]], rtol=1e-6)
