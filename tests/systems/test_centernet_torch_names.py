"""PyTorch's names: layouts of kernels, what is missing, too much or without effect."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.data.safe_loading import UnsafeFile
from metrabs_like.layers.backbones.dla import build_dla
from metrabs_like.layers.deformable import DeformableConv2D
from metrabs_like.layers.upsampling import LearnedUpsampling
from metrabs_like.systems.centernet import torch_names
from metrabs_like.systems.centernet.config import Config
from metrabs_like.systems.centernet.model import build_model
from tests.data import hostile, torch_writer

WIDTH = 0.0625


@pytest.fixture(scope="module")
def base():
    tf.keras.utils.set_random_seed(0)
    return build_dla(width=WIDTH)


def _random_state(model, rng, **kwargs):
    entries = torch_names.torch_entries(model, **kwargs)
    return {name: rng.normal(size=e.shape).astype(np.float32) for name, e in entries.items()}


def _with_what_is_not_needed(state):
    """Adds what an ImageNet checkpoint holds beside: counters, classifier, dead projections."""
    counters = {
        name.replace("running_mean", "num_batches_tracked"): np.array(5)
        for name in state
        if name.endswith("running_mean")
    }
    dead = {"level3.project.0.weight": np.ones([8, 4, 1, 1]), "level4.project.1.bias": np.ones(16)}
    classifier = {"fc.weight": np.ones([10, 32, 1, 1]), "fc.bias": np.ones(10)}
    return {**state, **counters, **dead, **classifier}


def test_entries_of_each_kind_of_layer():
    image = tf.keras.Input([8, 8, 4])
    layers = [
        DeformableConv2D(6, name="a.conv"),
        LearnedUpsampling(2, name="b"),
        tf.keras.layers.Conv2DTranspose(5, 4, 2, use_bias=False, name="c"),
        tf.keras.layers.Conv2D(2, (1, 3), name="d"),
        tf.keras.layers.ReLU(name="e"),
    ]
    x = image
    for layer in layers:
        x = layer(x)
    entries = torch_names.torch_entries(tf.keras.Model(image, x), "x.")
    assert {name: entry.shape for name, entry in entries.items()} == {
        "x.a.conv.weight": (6, 4, 3, 3),
        "x.a.conv.bias": (6,),
        "x.a.conv.conv_offset_mask.weight": (27, 4, 3, 3),
        "x.a.conv.conv_offset_mask.bias": (27,),
        "x.b.weight": (6, 1, 4, 4),
        "x.c.weight": (6, 5, 4, 4),  # (input, output, ...), as PyTorch keeps transposed ones
        "x.d.weight": (2, 5, 1, 3),
        "x.d.bias": (2,),
    }


def test_convention_pytorch_keeps_output_input_height_width():
    image = tf.keras.Input([8, 8, 2])
    model = tf.keras.Model(image, tf.keras.layers.Conv2D(3, (1, 2), name="c")(image))
    entry = torch_names.torch_entries(model)["c.weight"]
    array = np.arange(12).reshape(3, 2, 1, 2)
    ours = entry.to_ours(array)
    assert ours.shape == (1, 2, 2, 3)
    assert ours[0, 1, 0, 2] == array[2, 0, 0, 1]


def test_state_round_trip(base, rng):
    state = _random_state(base, rng)
    report = torch_names.load_state(base, state)
    found = torch_names.state_dict_of(base)
    assert list(found) == list(report.used) == list(state)
    for name, array in state.items():
        np.testing.assert_array_equal(found[name], array)


def test_depthwise_kernels_round_trip(rng):
    image = tf.keras.Input([None, None, 3])
    model = tf.keras.Model(image, LearnedUpsampling(2, name="up")(image))
    state = _random_state(model, rng)
    torch_names.load_state(model, state)
    kernel = model.get_layer("up").kernel.numpy()
    np.testing.assert_array_equal(kernel[..., 1], state["up.weight"][1, 0])
    np.testing.assert_array_equal(torch_names.state_dict_of(model)["up.weight"], state["up.weight"])


def test_what_has_no_effect_is_reported(base, rng):
    state = _with_what_is_not_needed(_random_state(base, rng))
    report = torch_names.load_state(base, state)
    assert report.dead == ("level3.project.0.weight", "level4.project.1.bias")
    assert report.classifier == ("fc.weight", "fc.bias")
    n_normalizations = sum(name.endswith("running_mean") for name in state)
    assert len(report.counters) == n_normalizations
    assert len(report.used) + n_normalizations + 4 == len(state)
    text = "\n".join(report.lines())
    assert "level3.project.0.weight" in text and "fc.bias" in text
    assert f"{len(report.used)} entries used" in text


def test_living_projections_are_not_dead(base, rng):
    """Level 2 and 5 are single trees: their projection matters."""
    state = _random_state(base, rng)
    assert "level2.project.0.weight" in state and "level4.tree1.project.0.weight" in state
    del state["level5.project.0.weight"]
    with pytest.raises(ValueError, match="1 missing entries: level5.project.0.weight"):
        torch_names.load_state(base, state)


def test_all_that_does_not_fit_is_named_and_nothing_is_changed(base, rng):
    before = base.get_weights()
    state = _random_state(base, rng)
    del state["level2.root.bn.weight"]
    state["level0.0.weight"] = np.zeros([2, 1, 3, 3], np.float32)
    state["level7.0.weight"] = state["level2.project.2.weight"] = np.zeros(1, np.float32)
    with pytest.raises(ValueError) as error:
        torch_names.load_state(base, state, source="my.pth")
    for text in (
        "my.pth does not fit",
        "1 missing entries: level2.root.bn.weight",
        "2 entries that the network does not have: level7.0.weight, level2.project.2.weight",
        "1 entries of another shape: level0.0.weight is (2, 1, 3, 3), not (1, 1, 3, 3)",
    ):
        assert text in str(error.value)
    for old, new in zip(before, base.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_long_lists_are_complete(base):
    names = list(torch_names.torch_entries(base))
    assert len(names) > 100
    with pytest.raises(ValueError, match=f"{len(names)} missing entries: {', '.join(names)};"):
        torch_names.load_state(base, {})


@pytest.mark.parametrize("is_legacy", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("is_nested", [False, True])
def test_layouts_of_files(tmp_path, rng, is_legacy, prefix, is_nested):
    weights = {"a.weight": rng.normal(size=[2, 3]).astype(np.float32), "a.n": np.array(3)}
    content = {prefix + name: array for name, array in weights.items()}
    if is_nested:
        content = {"epoch": 3, "state_dict": content}
    torch_writer.save(tmp_path / "model.pth", content, is_legacy=is_legacy)
    state = torch_names.read_state(str(tmp_path / "model.pth"))
    assert list(state) == list(weights)
    np.testing.assert_array_equal(state["a.weight"], weights["a.weight"])


@pytest.mark.parametrize(
    "content", [{}, {"epoch": 3}, {"state_dict": 4}, [1], {"state_dict": {"a": "b"}}], ids=str
)
def test_files_without_weights_are_named(tmp_path, content):
    if isinstance(content, dict):
        torch_writer.save(tmp_path / "model.pth", content)
    else:
        torch_writer.write_archive(tmp_path / "model.pth", b"]K\x01a")
    with pytest.raises(ValueError, match="model.pth holds no state_dict.*torch.save"):
        torch_names.read_state(str(tmp_path / "model.pth"))


def test_imagenet_weights_of_the_base_alone(tmp_path, rng):
    """`weights` of the config gives them to the base and leaves the rest."""
    config = Config(deformable=False, head_width=8)
    model = build_model(config)
    base = model.get_layer("dla34")
    state = _with_what_is_not_needed(_random_state(base, rng))
    path = str(tmp_path / "dla34.pth")
    torch_writer.save(path, state, is_legacy=True)
    heads = [w.copy() for w in model.get_layer("hps.2").get_weights()]
    report = torch_names.load_base(base, path)
    assert len(report.used) == 5 * len(report.counters)  # one kernel to four of a normalization
    for name, array in torch_names.state_dict_of(base).items():
        np.testing.assert_array_equal(array, state[name])
    for old, new in zip(heads, model.get_layer("hps.2").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_config_weights_become_those_of_the_base(tmp_path, rng):
    """By the config alone; the heads begin as without them."""
    config = Config(deformable=False, head_width=8)
    tf.keras.utils.set_random_seed(1)
    plain = build_model(config)
    state = _random_state(plain.get_layer("dla34"), rng)
    path = str(tmp_path / "dla34.pth")
    torch_writer.save(path, _with_what_is_not_needed(state))
    tf.keras.utils.set_random_seed(1)
    model = build_model(dataclasses.replace(config, weights=path))
    found = torch_names.state_dict_of(model.get_layer("dla34"))
    assert sorted(found) == sorted(state)
    for name, array in found.items():
        np.testing.assert_array_equal(array, state[name], err_msg=name)
    for name in ("hm.0", "hps.2"):
        for old, new in zip(
            *(m.get_layer(name).get_weights() for m in (plain, model)), strict=True
        ):
            np.testing.assert_array_equal(new, old)


def test_config_weights_are_read(tmp_path):
    config = Config(deformable=False, head_width=8, weights=str(tmp_path / "none.pth"))
    with pytest.raises(ValueError, match="none.pth does not exist"):
        build_model(config)


def test_code_in_the_file_is_refused(tmp_path):
    hostile.TRACES.clear()
    torch_writer.write_archive(tmp_path / "model.pth", hostile.GADGET)
    with pytest.raises(UnsafeFile, match="not on the allow-list"):
        torch_names.read_state(str(tmp_path / "model.pth"))
    assert not hostile.TRACES
