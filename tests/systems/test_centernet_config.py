"""The config refuses what makes no sense, and tells what the network has."""

import dataclasses

import pytest

from metrabs_like.systems.centernet import Config, tiny_config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("backbone", "dla60"),
        ("down_ratio", 3),
        ("segmentation", "5x5"),
        ("regression_loss", "l2"),
        ("seg_loss", "l2"),
        ("proc_side", 500),
        ("proc_side", 0),
        ("head_width", -1),
        ("head_width", 2.5),
        ("max_objects", 0),
        ("top_k", 0),
        ("hm_gauss", 0),
        ("wh_weight", -0.1),
        ("hm_weight", float("nan")),
        ("joint_threshold", float("inf")),
        ("width", 0.0),
        ("skeleton", "no_such_skeleton"),
    ],
)
def test_bad_values_are_named(field, value):
    with pytest.raises(ValueError, match=field if field != "skeleton" else "no_such_skeleton"):
        dataclasses.replace(Config(), **{field: value})


def test_only_dla_reads_pytorch_files():
    assert Config(weights="dla34.pth").weights == "dla34.pth"
    with pytest.raises(ValueError, match="weights='dla34.pth'.*'tiny'"):
        Config(backbone="tiny", weights="dla34.pth")


def test_heads_follow_the_switches():
    assert Config().heads == {"hm": 1, "wh": 2, "hps": 34, "reg": 2, "hm_hp": 17, "hp_offset": 2}
    assert list(Config().heads) == ["hm", "wh", "hps", "reg", "hm_hp", "hp_offset"]
    assert list(Config(reg_offset=False, hm_hp=False).heads) == ["hm", "wh", "hps"]
    assert "hp_offset" not in Config(reg_hp_offset=False).heads
    assert Config(skeleton="smpl_24").heads["hps"] == 48
    assert Config(segmentation="3x3").heads["seg"] == 432
    assert Config(segmentation="1x1", seg_channels=8).heads["seg"] == 8
    assert Config(segmentation="1x1").heads["seg_feat"] == 48


def test_what_the_pipeline_takes_over():
    config = dataclasses.replace(tiny_config(), segmentation="1x1")
    fields = {"proc_side": 64, "max_objects": 8, "with_masks": True}
    assert config.pipeline_fields() == fields
    assert config.map_side == 16


def test_json_must_be_an_object():
    with pytest.raises(ValueError, match="list"):
        Config.from_json("[]")
