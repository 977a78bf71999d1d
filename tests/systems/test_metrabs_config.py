"""Config of metrabs: derived values, what it refuses, tracing by value."""

import dataclasses
import json

import pytest
import tensorflow as tf

from metrabs_like import skeletons
from metrabs_like.systems.metrabs import Config, tiny_config


def test_defaults_are_those_of_the_released_code():
    config = Config()
    assert (config.proc_side, config.stride, config.depth, config.box_size_m) == (256, 32, 8, 2.2)
    assert (config.uncert_bias, config.uncert_bias2) == (0, 0.001)
    assert (config.absloss_factor, config.absloss_start_step) == (0.1, 5000)
    assert (config.loss_factor_param, config.loss_factor_kp3d) == (1, 0.75)
    assert (config.loss_factor_dense, config.loss_factor_kp2d) == (0.05, 0.1)
    assert config.full_perspective_start_step == 500
    assert config.n_points == 41
    assert config.root_index == -1


def test_loss_config_and_grid_follow_the_fields():
    config = dataclasses.replace(Config(), proc_side=128, stride=16, beta_nll=0.5, nll_loss=False)
    assert config.grid == config.loss_config.grid
    assert (config.grid.proc_side, config.grid.stride) == (128, 16)
    assert (config.loss_config.beta_nll, config.loss_config.nll_loss) == (0.5, False)


def test_root_joint_by_name():
    assert dataclasses.replace(Config(), skeleton="smpl_24", root_joint="pelv").root_index == 0


def test_own_skeleton_file(tmp_path):
    path = tmp_path / "mine.json"
    skeleton = {"name": "mine", "joint_names": ["hip", "lkne", "rkne"], "edges": [[0, 1], [0, 2]]}
    path.write_text(json.dumps({**skeleton, "suffix": "mine"}))
    config = Config(skeleton=str(path))
    assert config.joints.joint_names == ("hip", "lkne", "rkne")
    union = Config(skeleton=f"smpl_24+{path}", root_joint="hip_mine")
    path.unlink()
    for kept in (config, union):
        again = Config.from_json(kept.to_json())
        assert again == kept
        assert again.joints == kept.joints
    assert again.root_index == 24
    assert Config(skeleton=f"{skeletons.SMPL_24.name}").n_points == 24


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("backbone", "resnet9000"),
        ("skeleton", "smpl_99"),
        ("proc_side", 100),
        ("proc_side", 32),
        ("stride", 7),
        ("depth", 1),
        ("box_size_m", 0.0),
        ("box_size_m", float("nan")),
        ("width", -1.0),
        ("uncert_bias2", 0.0),
        ("absloss_factor", -0.1),
        ("n_surface_points", 1.5),
        ("field_width", 0),
        ("head", "both"),
        ("absloss_start_step", -1),
        ("full_perspective_start_step", -1),
        ("loss_factor_kp2d", float("inf")),
        ("root_joint", "tail"),
    ],
)
def test_bad_values_are_named(field, value):
    with pytest.raises(ValueError, match=str(value)):
        dataclasses.replace(Config(), **{field: value})


@pytest.mark.parametrize("text", ["[1, 2]", "3"])
def test_json_that_is_no_object(text):
    with pytest.raises(ValueError, match="JSON object"):
        Config.from_json(text)


def test_equal_configs_share_a_trace():
    n_traces = []

    @tf.function
    def call(x, config):
        n_traces.append(config.depth)
        return x * config.box_size_m

    for _ in range(2):
        call(tf.constant(1.0), tiny_config())
    call(tf.constant(1.0), dataclasses.replace(tiny_config(), depth=4))
    assert n_traces == [8, 4]
