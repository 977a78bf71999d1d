import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.serving.augmentation import make_views


def test_single_view_is_the_plain_crop():
    views = make_views(tf.constant(1))
    assert [np.array(field).tolist() for field in views] == [[0], [1], [False]]


def test_convention_five_views():
    views = make_views(tf.constant(5))
    np.testing.assert_allclose(np.rad2deg(views.roll), [-25, -12.5, 0, 12.5, 25], atol=1e-5)
    np.testing.assert_allclose(views.scale, [0.8, 0.9, 1.0, 1.05, 1.1], rtol=1e-6)
    assert views.mirror.numpy().tolist() == [False, True, False, True, False]


@pytest.mark.parametrize("n_views", [2, 3, 4, 8, 11])
def test_any_number(n_views):
    views = make_views(tf.constant(n_views), rotation_range_degrees=10.0)
    assert [len(field) for field in views] == [n_views] * 3
    assert np.abs(views.roll).max() <= np.deg2rad(10) + 1e-6
    np.testing.assert_allclose(np.sum(views.roll), 0, atol=1e-5)
    assert np.min(views.scale) >= 0.8 and np.max(views.scale) <= 1.1 + 1e-6
    if n_views % 2:
        middle = n_views // 2
        assert views.roll[middle] == 0 and views.scale[middle] == 1 and not views.mirror[middle]
