import os

import cv2
import numpy as np
import pytest

from metrabs_like.data import image_files, reencoding


@pytest.fixture
def picture(rng):
    """A smooth colour picture, BGR."""
    small = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(small, (160, 120), interpolation=cv2.INTER_CUBIC)


def test_png_becomes_jpeg(tmp_path, picture):
    path = str(tmp_path / "a.png")
    cv2.imwrite(path, picture)
    content, header = reencoding.read_as_jpeg(path)
    assert header == image_files.parse_header(content) and header.format == "jpeg"
    assert (header.width, header.height) == (160, 120)
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decoded.astype(int) - picture).mean() < 2
    assert len(reencoding.read_as_jpeg(path, quality=30)[0]) < len(content)


def test_jpeg_keeps_its_bytes(tmp_path, picture):
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), picture)
    assert reencoding.read_as_jpeg(str(path))[0] == path.read_bytes()


def test_pixels_are_rgb(tmp_path, picture):
    path = str(tmp_path / "a.png")
    cv2.imwrite(path, picture)
    pixels, header = reencoding.read_pixels(path)
    np.testing.assert_array_equal(pixels, picture[..., ::-1])
    assert header.format == "png"
    cv2.imwrite(path, picture[..., 0])
    np.testing.assert_array_equal(reencoding.read_pixels(path)[0][..., 2], picture[..., 0])


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    for read in (reencoding.read_pixels, reencoding.read_as_jpeg):
        with pytest.raises(image_files.UnusableImage, match="no regular file"):
            read(str(tmp_path / "a.png"))


def test_unusable_pictures_are_refused(tmp_path, picture, monkeypatch):
    path = tmp_path / "a.png"
    with pytest.raises(image_files.UnusableImage, match="cannot be read"):
        reencoding.read_as_jpeg(str(path))
    path.write_bytes(b"hello")
    with pytest.raises(image_files.UnusableImage, match="neither JPEG nor PNG"):
        reencoding.read_as_jpeg(str(path))
    cv2.imwrite(str(path), picture)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(image_files.UnusableImage, match="truncated or corrupt"):
        reencoding.read_as_jpeg(str(path))
    cv2.imwrite(str(path), picture)
    monkeypatch.setattr(image_files, "MAX_PIXELS", 1000)
    with pytest.raises(image_files.UnusableImage, match="fewer than 1000 px"):
        reencoding.read_as_jpeg(str(path))
