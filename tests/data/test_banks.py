"""Banks of backgrounds and objects, from folders, prepared data sets and drawn."""

import functools

import cv2
import numpy as np
import pytest

from metrabs_like.data import banks, preparation
from metrabs_like.data.masks import encode_mask
from tests.data import toy

RED = np.array([220, 30, 20])


def write_picture(path, colour, size=(40, 60), alpha=None):
    picture = np.broadcast_to(np.uint8(colour), (*size, 3))[..., ::-1]
    if alpha is not None:
        picture = np.concatenate([picture, alpha[..., np.newaxis]], axis=-1)
    assert cv2.imwrite(str(path), np.ascontiguousarray(picture))


def disc(size, center, radius):
    y, x = np.mgrid[: size[0], : size[1]]
    return np.uint8(255 * ((x - center[0]) ** 2 + (y - center[1]) ** 2 < radius**2))


def masked_shard(shard_index, n_images=6):
    """Records with one red person each, whose mask is a disc of radius 40 px."""
    del shard_index
    rng = np.random.default_rng(0)
    for i in range(n_images):
        record = toy.make_record(rng, str(i), n_people=2)
        mask = disc((240, 320), (60 + 30 * i, 100), 40)
        image = np.where(mask[..., np.newaxis] > 0, np.uint8(RED), np.uint8(20))
        record.image_bytes = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
        record.people[1].mask, record.people[1].mask_box = encode_mask(mask)
        yield record


def write_records(folder, task, n_shards=2):
    tasks = [task] * n_shards
    preparation.write_dataset(tasks, str(folder), toy.make_info(), n_processes=1, progress=False)
    return str(folder)


def test_backgrounds_of_a_folder(tmp_path):
    (tmp_path / "below").mkdir()
    for i in range(6):
        folder = tmp_path / "below" if i % 2 else tmp_path
        write_picture(folder / f"{i}.{'png' if i % 3 else 'JPG'}", [40 * i, 100, 50])
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    with pytest.warns(UserWarning, match="broken.png"):
        bank = banks.load_backgrounds(str(tmp_path), 24, 100, 0)
    assert bank.shape == (6, 24, 24, 3) and bank.dtype == np.uint8
    reds = np.sort(bank[..., 0].mean(axis=(1, 2)))
    np.testing.assert_allclose(reds, np.arange(6) * 40, atol=3)
    write_picture(tmp_path / "broken.png", [0, 100, 50])
    few = banks.load_backgrounds(str(tmp_path), 24, 3, 0)
    assert len(few) == 3
    np.testing.assert_array_equal(few, banks.load_backgrounds(str(tmp_path), 24, 3, 0))
    assert any(
        np.any(few != banks.load_backgrounds(str(tmp_path), 24, 3, seed)) for seed in range(1, 4)
    )


def test_backgrounds_are_whole_squares(tmp_path):
    ramp = np.tile(np.arange(200, dtype=np.uint8), (100, 1))
    cv2.imwrite(str(tmp_path / "wide.png"), ramp)
    starts = []
    for seed in range(8):
        picture = banks.load_backgrounds(str(tmp_path), 50, 1, seed)[0, ..., 0].astype(float)
        np.testing.assert_allclose(np.diff(picture, axis=1), 2, atol=1)  # the aspect is kept
        starts.append(picture[0, 0])
    assert len(set(starts)) > 4


def test_backgrounds_of_a_data_set_show_nobody(tmp_path):
    make = functools.partial(toy.make_shard, n_images=6, n_people=(1, 0, 2))
    folder = write_records(tmp_path, make)
    bank = banks.load_backgrounds(folder, 32, 100, 0)
    assert bank.shape == (4, 32, 32, 3)
    np.testing.assert_array_equal(bank, 51)  # the toy's grey, without spots
    np.testing.assert_array_equal(banks.load_backgrounds(folder, 32, 1, 0).shape, (1, 32, 32, 3))


def test_objects_of_a_data_set_are_its_masked_people(tmp_path):
    folder = write_records(tmp_path, masked_shard)
    bank = banks.load_objects(folder, 48, 9, 0)
    assert bank.shape == (9, 48, 48, 4) and bank.dtype == np.uint8
    alpha = bank[..., 3] / 255
    # A disc that touches all sides of its square.
    np.testing.assert_allclose(alpha.mean(axis=(1, 2)), np.pi / 4, atol=0.03)
    inside = bank[alpha > 0.99][:, :3]
    np.testing.assert_allclose(inside, np.broadcast_to(RED, inside.shape), atol=2)
    np.testing.assert_array_equal(bank, banks.load_objects(folder, 48, 9, 0))


def test_objects_of_a_folder_keep_their_aspect(tmp_path):
    alpha = np.zeros((80, 100), np.uint8)
    alpha[30:60, 10:70] = 255  # 60 x 30
    write_picture(tmp_path / "thing.png", RED, (80, 100), alpha)
    write_picture(tmp_path / "opaque.png", RED)
    write_picture(tmp_path / "tiny.png", RED, (80, 100), disc((80, 100), (30, 30), 5))
    write_picture(tmp_path / "photo.jpg", RED)
    (thing,) = banks.load_objects(str(tmp_path), 40, 10, 0)
    assert np.all(thing[10:30, :, 3] == 255) and thing[..., 3].mean() == pytest.approx(127.5)
    np.testing.assert_allclose(thing[15, 20, :3], RED, atol=1)


def test_folders_without_anything_are_named(tmp_path):
    for load in (banks.load_backgrounds, banks.load_objects):
        with pytest.raises(ValueError, match="absent is no folder"):
            load(str(tmp_path / "absent"), 16, 4, 0)
        with pytest.raises(ValueError, match="limit = 0"):
            load(str(tmp_path), 16, 0, 0)
    with pytest.raises(ValueError, match="no picture without people.*put pictures"):
        banks.load_backgrounds(str(tmp_path), 16, 4, 0)
    with pytest.raises(ValueError, match="no object.*transparent surroundings"):
        banks.load_objects(str(tmp_path), 16, 4, 0)


def test_data_sets_without_anything_are_named(tmp_path):
    make = functools.partial(toy.make_shard, n_images=2, n_people=(1,))
    folder = write_records(tmp_path, make, n_shards=1)
    with pytest.raises(ValueError, match="no picture without people.*prepare it with images"):
        banks.load_backgrounds(folder, 16, 4, 0)
    with pytest.raises(ValueError, match="no object.*has masks"):
        banks.load_objects(folder, 16, 4, 0)


def test_procedural_objects():
    bank = banks.procedural_objects(40, 32, 5)
    assert bank.shape == (40, 32, 32, 4) and bank.dtype == np.uint8
    opaque = np.mean(bank[..., 3] > 127, axis=(1, 2))
    assert opaque.min() > 0.05 and opaque.max() < 0.8
    colours = [np.median(b[b[..., 3] > 200][:, :3], axis=0) for b in bank]
    assert np.std(colours, axis=0).min() > 30
    np.testing.assert_array_equal(bank, banks.procedural_objects(40, 32, 5))
    assert np.any(bank != banks.procedural_objects(40, 32, 6))
    assert banks.procedural_objects(0, 32, 5).shape == (0, 32, 32, 4)


def test_procedural_backgrounds():
    bank = banks.procedural_backgrounds(20, 64, 5)
    assert bank.shape == (20, 64, 64, 3) and bank.dtype == np.uint8
    assert np.std(bank.mean(axis=(1, 2))) > 20
    assert np.mean(bank.std(axis=(1, 2)) > 5) > 0.8
    np.testing.assert_array_equal(bank, banks.procedural_backgrounds(20, 64, 5))
    assert np.any(bank != banks.procedural_backgrounds(20, 64, 6))
    assert banks.procedural_backgrounds(0, 64, 5).shape == (0, 64, 64, 3)
