"""The config that a released checkpoint's entries tell."""

import numpy as np
import pytest

from metrabs_like.systems.centernet import checkpoint, torch_names
from metrabs_like.systems.centernet.config import Config
from metrabs_like.systems.centernet.model import build_model


def _state(config, *, n_aggregations=3):
    """The entries that `config_of` looks at, as a checkpoint of this config has them."""
    state = {"base.level5.root.conv.weight": np.zeros([1, 1, 1, 1])}
    for i in range(n_aggregations):
        state[f"dla_up.ida_{i}.up_1.weight"] = np.zeros([1, 1, 4, 4])
    for i in range(1, n_aggregations):
        state[f"ida_up.up_{i}.weight"] = np.zeros([1, 1, 4, 4])
    if config.deformable:
        state["dla_up.ida_0.proj_1.conv.conv_offset_mask.bias"] = np.zeros(27)
    for name, channels in config.heads.items():
        if config.head_width:
            state[f"{name}.0.weight"] = np.zeros([config.head_width, 64, 3, 3])
            state[f"{name}.2.bias"] = np.zeros(channels)
        else:
            state[f"{name}.bias"] = np.zeros(channels)
    return state


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(deformable=False),
        Config(head_width=64, reg_offset=False),
        Config(head_width=0, hm_hp=False, reg_hp_offset=False),
        Config(reg_hp_offset=False),
        Config(segmentation="3x3"),
        Config(segmentation="1x1", seg_channels=8, hm_hp=False, reg_hp_offset=False),
        Config(skeleton="smpl_24"),
    ],
    ids=lambda config: ",".join(config.heads) + f",{config.head_width}",
)
def test_config_is_found(config):
    assert checkpoint.config_of(_state(config), skeleton=config.skeleton) == config


@pytest.mark.parametrize(("n_aggregations", "ratio"), [(4, 2), (3, 4), (2, 8), (1, 16)])
def test_down_ratio_is_found(n_aggregations, ratio):
    found = checkpoint.config_of(_state(Config(), n_aggregations=n_aggregations))
    assert found.down_ratio == ratio


@pytest.mark.parametrize(
    "config",
    [Config(head_width=8), Config(head_width=0, deformable=False, segmentation="3x3")],
    ids=["deformable", "plain,0,masks"],
)
def test_a_missing_entry_is_named_alone(config):
    """Whichever it is: the network is still told by the others."""
    model = build_model(config)
    shapes = {name: entry.shape for name, entry in torch_names.torch_entries(model).items()}
    state = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    for name in state:
        rest = {key: array for key, array in state.items() if key != name}
        assert checkpoint.config_of(rest) == config, name
        with pytest.raises(ValueError) as error:
            torch_names.load_state(model, rest, source="my.pth")
        assert str(error.value) == (
            f"my.pth does not fit: 1 missing entries: {name}; give a checkpoint of this network"
        )


@pytest.fixture(scope="module")
def published():
    """A network of the published size but for its heads, and entries that fit it."""
    model = build_model(Config(head_width=8))
    entries = torch_names.torch_entries(model)
    return model, {
        name: np.broadcast_to(np.float32(0), entry.shape) for name, entry in entries.items()
    }


@pytest.mark.parametrize("part", ["dla_up.ida_2.", "dla_up.", "ida_up."])
def test_a_missing_part_is_named_entry_by_entry(part, published):
    model, state = published
    rest = {key: array for key, array in state.items() if not key.startswith(part)}
    assert checkpoint.config_of(rest) == Config(head_width=8)
    with pytest.raises(ValueError) as error:
        torch_names.load_state(model, rest, source="my.pth")
    missing = [name for name in state if name.startswith(part)]
    assert f"{len(missing)} missing entries: {', '.join(missing)};" in str(error.value)


def test_without_any_up_sampling_the_published_network_is_meant(published):
    _, state = published
    rest = {key: array for key, array in state.items() if "_up." not in key}
    assert checkpoint.config_of(rest) == Config(head_width=8)


def test_entries_that_are_not_finite_are_named(published):
    model, state = published
    broken = {
        "hm.2.bias": np.float32([np.nan]),
        "base.level0.0.weight": state["base.level0.0.weight"] + np.inf,
    }
    with pytest.raises(ValueError, match="2 entries with NaN or infinity: .*hm.2.bias"):
        torch_names.load_state(model, {**state, **broken})


@pytest.mark.parametrize("head", Config().heads)
def test_a_head_without_its_last_convolution_is_still_one(head):
    state = {key: array for key, array in _state(Config()).items() if key != f"{head}.2.bias"}
    assert f"{head}.0.weight" in state
    assert checkpoint.config_of(state) == Config()


def test_one_head_of_another_width_does_not_decide():
    state = {**_state(Config()), "hm.0.weight": np.zeros([7, 64, 3, 3])}
    assert checkpoint.config_of(state).head_width == 256


def test_masks_without_known_channels_are_named():
    state = _state(Config(segmentation="3x3"))
    del state["seg.2.bias"]
    with pytest.raises(ValueError, match="my.pth lacks the last convolution of the head seg,"):
        checkpoint.config_of(state, source="my.pth")


def _without(name):
    return {key: value for key, value in _state(Config()).items() if not key.startswith(name)}


@pytest.mark.parametrize(
    ("state", "named"),
    [
        ({}, "no head hm, wh, hps.*heads: none.*multi_pose"),
        (_without("hps"), "no head hps .*heads: hm, wh, reg"),
        (_without("base"), "no entries base.level5"),
        ({**_state(Config()), "hm.2.bias": np.zeros(80)}, "80 classes"),
        ({**_state(Config()), "hps.2.bias": np.zeros(26)}, "13 joints.*coco_17.*17"),
        ({**_state(Config()), "hps.2.bias": np.zeros(35)}, "35 channels"),
        ({**_state(Config()), "hm_hp.2.bias": np.zeros(13)}, "hm_hp: 13"),
        ({**_state(Config()), "seg.2.bias": np.zeros(9)}, "seg_feat and seg with 0 and 9"),
        (
            {**_state(Config(segmentation="3x3")), "seg.2.bias": np.zeros(48 * 4)},
            "48 and 192 channels",
        ),
        ({"level5.root.conv.weight": np.zeros(1)}, "image classifier alone.*weights="),
    ],
)
def test_what_does_not_fit_is_named(state, named):
    with pytest.raises(ValueError, match=f"my.pth .*{named}"):
        checkpoint.config_of(state, source="my.pth")


def test_unknown_skeletons_are_named():
    with pytest.raises(ValueError, match="elephant"):
        checkpoint.config_of(_state(Config()), skeleton="elephant")
