"""Starting a detector from another one."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.systems import centernet

CONFIG = centernet.tiny_config()


def built(seed, **changes):
    """A model with random weights, and its config."""
    tf.keras.utils.set_random_seed(seed)
    config = dataclasses.replace(CONFIG, **changes)
    return centernet.build_model(config), config


def weights_of(model, name):
    return model.get_layer(name).get_weights()


def test_the_same_network_is_copied_whole():
    source, target = built(1), built(2)
    report = centernet.initialize_from(*target, *source)
    assert report.n_copied == report.n_layers and not report.new_layers
    for ours, theirs in zip(target[0].get_weights(), source[0].get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert "17 of 17 joints" in str(report)


def test_joints_match_by_name_and_the_rest_stays():
    source, target = built(1), built(2, skeleton="smpl_24")
    before = [w.copy() for w in weights_of(target[0], "hps.2")]
    report = centernet.initialize_from(*target, *source)
    names = target[1].joints.joint_names
    assert set(report.matched_points) | set(report.new_points) == set(names)
    source_names = source[1].joints.joint_names
    kernel = weights_of(target[0], "hps.2")[0].reshape(16, 24, 2)
    taken = weights_of(source[0], "hps.2")[0].reshape(16, 17, 2)
    for i, name in enumerate(names):
        if name in report.matched_points:
            expected = taken[:, source_names.index(name)]
        else:
            expected = before[0].reshape(16, 24, 2)[:, i]
        np.testing.assert_array_equal(kernel[:, i], expected)


def test_heads_that_the_source_lacks_are_named():
    source, target = built(1, hm_hp=False), built(2)
    report = centernet.initialize_from(*target, *source)
    assert {"hm_hp.0", "hm_hp.2", "hp_offset.0", "hp_offset.2"} <= set(report.new_layers)
    assert "new are" in str(report)


def test_joints_keep_nothing_where_no_layer_of_theirs_fits():
    source, target = built(1), built(2, head_width=8)
    before = [w.copy() for name in ("hps.2", "hm_hp.2") for w in weights_of(target[0], name)]
    report = centernet.initialize_from(*target, *source)
    after = [w for name in ("hps.2", "hm_hp.2") for w in weights_of(target[0], name)]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new, old)
    assert report.matched_points == () and report.new_points == target[1].joints.joint_names
    assert "0 of 17 joints keep their weights; new are" in str(report)


def test_joints_keep_their_weights_by_one_layer_of_two():
    """The source has no joint heat maps, but the regressed joints."""
    report = centernet.initialize_from(*built(2), *built(1, hm_hp=False))
    assert "hm_hp.2" in report.new_layers and "17 of 17 joints" in str(report)


def test_other_backbones_are_refused():
    with pytest.raises(ValueError, match="width=0.5.*width=0.25"):
        centernet.initialize_from(*built(2), *built(1, width=0.5))
