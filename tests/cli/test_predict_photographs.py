import io
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from metrabs_like.cli import photographs


@pytest.fixture
def picture():
    """Four flat quarters that survive JPEG: red, green, blue, grey."""
    image = np.zeros([64, 96, 3], np.uint8)
    image[:32, :48], image[:32, 48:] = [220, 30, 30], [30, 200, 30]
    image[32:, :48], image[32:, 48:] = [30, 30, 210], [128, 128, 128]
    return image


def save(path, image, **options):
    """Writes with Pillow; `image` is an array or a Pillow image."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **options)
    return str(path)


def assert_close(found, expected, atol):
    assert found.dtype == np.uint8 and found.shape == expected.shape
    difference = np.abs(found.astype(int) - expected.astype(int))
    assert np.median(difference) <= atol and np.mean(difference) <= atol + 1


def test_colour(picture, tmp_path):
    np.testing.assert_array_equal(photographs.read(save(tmp_path / "a.png", picture)), picture)
    assert_close(photographs.read(save(tmp_path / "a.jpg", picture, quality=95)), picture, 3)


def test_name_does_not_matter_content_does(picture, tmp_path):
    path = save(tmp_path / "a.jpg", picture, format="PNG")
    np.testing.assert_array_equal(photographs.read(path), picture)


def test_grey_palette_and_sixteen_bit(picture, tmp_path):
    grey = picture[..., 0]
    expected = np.repeat(grey[..., np.newaxis], 3, axis=-1)
    np.testing.assert_array_equal(photographs.read(save(tmp_path / "a.png", grey)), expected)
    assert_close(photographs.read(save(tmp_path / "a.jpg", grey, quality=95)), expected, 2)
    palette = Image.fromarray(picture).convert("P", palette=Image.Palette.ADAPTIVE)
    assert_close(photographs.read(save(tmp_path / "p.png", palette)), picture, 2)
    for name, image in {"c": picture[..., ::-1], "g": grey}.items():
        path = str(tmp_path / f"{name}.png")
        cv2.imwrite(path, image.astype(np.uint16) * 257)
        wanted = picture if name == "c" else expected
        np.testing.assert_array_equal(photographs.read(path), wanted)


def test_transparency_is_put_on_white(picture, tmp_path):
    opacity = np.full([64, 96, 1], 255, np.uint8)
    opacity[:32], opacity[32:, :48] = 0, 51
    path = save(tmp_path / "a.png", np.concatenate([picture, opacity], axis=-1))
    expected = picture.copy()
    expected[:32] = 255
    expected[32:, :48] = np.round(0.2 * picture[40, 10] + 0.8 * 255)
    np.testing.assert_array_equal(photographs.read(path), expected)


def test_cmyk_jpeg(picture, tmp_path):
    path = save(tmp_path / "a.jpg", Image.fromarray(picture).convert("CMYK"), quality=95)
    assert_close(photographs.read(path), picture, 6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture_upright(picture, tmp_path, orientation):
    stored = {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture, 1),
        7: picture[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(picture, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.jpg", np.ascontiguousarray(stored), quality=95, exif=exif)
    assert_close(photographs.read(path), picture, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_cut_short(picture, tmp_path, rng, kind, kept):
    noisy = np.clip(picture + rng.integers(0, 30, picture.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, format=kind)
    content = buffer.getvalue()
    path = tmp_path / "short"
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=f"--image=.*short is a damaged or incomplete {kind}"):
        photographs.read(path)


@pytest.mark.parametrize("content", [b"", b"GIF89a....", b"<svg/>", b"\xff\xd8"])
def test_other_files(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match="--image=.*neither JPEG nor PNG.*convert"):
        photographs.read(tmp_path / "a.jpg")


@pytest.mark.parametrize("start", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_garbage_behind_a_good_start(tmp_path, rng, start):
    (tmp_path / "a").write_bytes(start + rng.bytes(500))
    with pytest.raises(ValueError, match="--image=.*(damaged|million)"):
        photographs.read(tmp_path / "a")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ValueError, match="--image=.*nothing.png cannot be read .No such file"):
        photographs.read(tmp_path / "nothing.png")
    with pytest.raises(ValueError, match="cannot be read .Is a directory"):
        photographs.read(tmp_path)


def test_oversized_png_is_refused_before_it_unpacks(tmp_path):
    def chunk(kind, body):
        whole = kind + body
        return len(body).to_bytes(4, "big") + whole + zlib.crc32(whole).to_bytes(4, "big")

    header = (40000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(ValueError, match="40000 x 40000 pixels, more than 100 million: scale"):
        photographs.read(tmp_path / "bomb.png")


def test_oversized_jpeg_is_refused(picture, tmp_path, monkeypatch):
    monkeypatch.setattr("metrabs_like.data.image_files.MAX_PIXELS", 5_000)
    with pytest.raises(ValueError, match="96 x 64 pixels"):
        photographs.read(save(tmp_path / "a.jpg", picture))
