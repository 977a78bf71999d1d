"""Starting from other weights: what is kept when the skeleton changes; presets on disk."""

import dataclasses

import numpy as np
import pytest

from metrabs_like.systems.metrabs import (
    Config,
    build_model,
    initialize_from,
    load_preset,
    preset_names,
    save_preset,
    tiny_config,
)
from metrabs_like.systems.metrabs.model import HEAD_LAYER


@pytest.fixture(scope="module")
def source():
    config = tiny_config()
    return build_model(config), config


def _kernel(model, config):
    kernel = model.get_layer(HEAD_LAYER).get_weights()[0]
    return kernel.reshape([kernel.shape[2], config.n_points, 2 + config.depth])


def test_points_of_the_same_name_keep_their_weights(source):
    config = dataclasses.replace(tiny_config(), skeleton="coco_17+smpl_24")
    model = build_model(config)
    before = _kernel(model, config)
    report = initialize_from(model, config, *source)
    after, given = _kernel(model, config), _kernel(*source)
    np.testing.assert_array_equal(after[:, 17:], given)
    np.testing.assert_array_equal(after[:, :17], before[:, :17])
    assert len(report.matched_points) == 24
    assert len(report.new_points) == 17
    assert "nose_coco" in str(report)
    for mine, theirs in zip(
        model.get_layer("tiny").get_weights(),
        source[0].get_layer("tiny").get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, theirs)


def test_same_config_copies_everything_also_between_sizes(source):
    config = dataclasses.replace(tiny_config(), proc_side=128, stride=32)
    model = build_model(config)
    report = initialize_from(model, config, *source)
    assert not report.new_points
    for mine, theirs in zip(model.get_weights(), source[0].get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_other_depth_keeps_the_backbone_only(source):
    config = dataclasses.replace(tiny_config(), depth=4)
    model = build_model(config)
    before = _kernel(model, config)
    report = initialize_from(model, config, *source)
    assert not report.matched_points
    np.testing.assert_array_equal(_kernel(model, config), before)


def test_other_backbone_is_refused(source):
    config = dataclasses.replace(tiny_config(), width=0.5)
    with pytest.raises(ValueError, match="width=0.25.*width=0.5"):
        initialize_from(build_model(config), config, *source)


def test_preset_round_trip(source, tmp_path):
    save_preset(tmp_path / "mine", *source)
    model, config = load_preset(str(tmp_path / "mine"))
    assert config == source[1]
    for mine, theirs in zip(model.get_weights(), source[0].get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_weights_of_another_config_are_refused(source, tmp_path):
    save_preset(tmp_path, *source)
    other = dataclasses.replace(source[1], skeleton="coco_17")
    (tmp_path / "config.json").write_text(other.to_json())
    with pytest.raises(ValueError, match=r"model\.weights\.h5"):
        load_preset(str(tmp_path))


def test_truncated_weights_are_refused(source, tmp_path):
    save_preset(tmp_path, *source)
    path = tmp_path / "model.weights.h5"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model\.weights\.h5"):
        load_preset(str(tmp_path))


def test_unknown_preset_names_the_known_ones():
    with pytest.raises(ValueError, match="no_such_preset"):
        load_preset("no_such_preset")


def test_shipped_presets_load():
    assert "synthetic_long" in preset_names()
    for name in preset_names():
        model, config = load_preset(name)
        assert isinstance(config, Config)
        assert model.get_layer(HEAD_LAYER).get_weights()[0].std() > 0
    assert preset_names() == tuple(sorted(preset_names()))


def _field_config(**changes):
    config = dataclasses.replace(tiny_config(), head="field", field_width=16, field_link_dim=8)
    return dataclasses.replace(config, **changes)


def _answers(model, config, rng):
    """Absolute numbers that a field gives for one image and some canonical points."""
    inputs = {
        "image": rng.uniform(size=[1, config.proc_side, config.proc_side, 3]).astype(np.float32),
        "intrinsics": np.eye(3, dtype=np.float32)[np.newaxis],
        "canonical_points": rng.uniform(-1, 1, [1, 6, 3]).astype(np.float32),
    }
    return {k: v.numpy() for k, v in model(inputs, training=False).items()}


def test_a_field_keeps_its_points_with_another_skeleton():
    config, source_config = _field_config(skeleton="coco_17+smpl_24"), _field_config()
    model, source_model = build_model(config), build_model(source_config)
    field = source_model.get_layer(HEAD_LAYER)
    field.joint_positions.assign(field.joint_positions + 0.01)
    report = initialize_from(model, config, source_model, source_config)
    assert len(report.matched_points) == 24
    expected = _answers(source_model, source_config, np.random.default_rng(0))
    found = _answers(model, config, np.random.default_rng(0))
    for key in ("points_coords3d_rel", "points_uncert"):
        np.testing.assert_allclose(found[key], expected[key], atol=1e-5)
    np.testing.assert_allclose(found["coords2d"][:, 17:], expected["coords2d"], atol=1e-4)


@pytest.mark.parametrize("other", [{"field_width": 24}, {"head": "fixed"}])
def test_another_head_keeps_the_backbone_only(other):
    config, source_config = _field_config(), _field_config(**other)
    model, source_model = build_model(config), build_model(source_config)
    before = [w.copy() for w in model.get_layer(HEAD_LAYER).get_weights()]
    report = initialize_from(model, config, source_model, source_config)
    assert not report.matched_points and len(report.new_points) == 24
    for mine, old in zip(model.get_layer(HEAD_LAYER).get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, old)
