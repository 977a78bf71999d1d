import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.data import masks, person_masks


def png_of(mask):
    return masks.encode_mask(mask)[0]


@pytest.mark.parametrize("mapped", [False, True])
def test_masks_keep_their_place_and_the_others_are_empty(rng, mapped):
    mask = rng.uniform(size=(8, 8)) > 0.5
    mask[[0, -1]] = mask[:, [0, -1]] = True  # else the mask would be cut
    pngs = tf.constant([b"", png_of(mask), b""])
    if mapped:
        dataset = tf.data.Dataset.from_tensors(pngs)
        (squares,) = dataset.map(lambda p: person_masks.decode_masks(p, 8))
    else:
        squares = person_masks.decode_masks(pngs, 8)
    assert squares.dtype == tf.uint8
    np.testing.assert_array_equal(squares[1], np.where(mask, 255, 0))
    assert not np.any(squares[0]) and not np.any(squares[2])


def test_oblong_masks_fill_the_square():
    mask = np.zeros((4, 16), bool)
    mask[:, :8] = mask[3, 15] = mask[0, 15] = True
    (square,) = person_masks.decode_masks(tf.constant([png_of(mask)]), 8).numpy()
    np.testing.assert_array_equal(square[:, :3], 255)
    np.testing.assert_array_equal(square[2:6, 5:7], 0)


def test_what_shrinks_is_averaged(rng):
    mask = rng.uniform(size=(64, 64)) > 0.5
    mask[[0, -1]] = mask[:, [0, -1]] = True
    (square,) = person_masks.decode_masks(tf.constant([png_of(mask)]), 8).numpy()
    np.testing.assert_allclose(square.mean(), 255 * mask.mean(), rtol=0.05)
    assert np.all((square > 60) & (square < 220))


def test_nobody_and_nobody_with_a_mask():
    assert person_masks.decode_masks(tf.zeros([0], tf.string), 5).shape == (0, 5, 5)
    assert not np.any(person_masks.decode_masks(tf.constant(["", ""]), 5))


def test_the_number_of_people_is_static_in_a_graph():
    dataset = tf.data.Dataset.from_tensors(tf.constant(["", ""]))
    mapped = dataset.map(lambda p: person_masks.decode_masks(p, 5))
    assert mapped.element_spec.shape == (2, 5, 5)
