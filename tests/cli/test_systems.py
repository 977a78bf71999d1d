"""Which system a preset or a folder belongs to."""

import json

import pytest

from metrabs_like.cli import systems


@pytest.mark.parametrize(
    ("content", "system"),
    [
        ({}, "metrabs"),
        ({"backbone": "dla34"}, "centernet"),
        ({"backbone": "resnet18", "proc_side": 512}, "centernet"),
        ({"backbone": "tiny", "head_width": 8}, "centernet"),
        ({"backbone": "tiny", "stride": 16}, "metrabs"),
        ({"head_width": "8", "hm_weight": 1}, "centernet"),
        ({"head_width": 8, "hm_wieght": 1, "width": 1}, "centernet"),
        ({"stride": 16, "dept": 8}, "metrabs"),
    ],
)
def test_a_folder_belongs_to_whom_its_config_fits(content, system, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert systems.of_preset(str(tmp_path)) == system


@pytest.mark.parametrize("text", ["", "[1]", "3"])
def test_a_broken_config_is_left_to_the_loading(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    assert systems.of_preset(str(tmp_path)) == "metrabs"


def test_shipped_presets_of_all_systems_are_known_and_named(tmp_path):
    assert systems.of_preset("synthetic_long") == "metrabs"
    assert systems.of_preset("synthetic_crowds") == "centernet"
    with pytest.raises(ValueError, match="shipped: synthetic_crowds, synthetic_long"):
        systems.of_preset(str(tmp_path))
