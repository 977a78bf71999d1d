"""CenterNet's networks: outputs of each backbone, DLA's parameters, precision, files."""

import dataclasses
import hashlib

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.layers.deformable import DeformableConv2D
from metrabs_like.systems.centernet import upsampling
from metrabs_like.systems.centernet.config import Config, tiny_config
from metrabs_like.systems.centernet.heads import add_head
from metrabs_like.systems.centernet.model import NormalizedBgr, build_dla_model, build_model
from metrabs_like.training.checkpoints import load_weights, save_weights

HEADS = {"hm": 1, "wh": 2}
# Weight files are read by the order of layers, about which both Keras generations must agree.
ORDER_SHA256 = {
    "dla34": "e6112b5a0c78a425",
    "resnet18": "4cfc9c4e88ecb6ee",
    "tiny": "94fe9c8bda24b3e9",
}


def _inputs(rng, n=1, height=64, width=64):
    return {
        "image": rng.uniform(size=[n, height, width, 3]).astype(np.float32),
        "input_from_image": np.tile(np.eye(3, dtype=np.float32), [n, 1, 1]),
    }


def _config(**kwargs):
    return dataclasses.replace(tiny_config(), **kwargs)


def _small(backbone):
    """A config whose network is built and run quickly."""
    return Config(backbone=backbone, deformable=False, head_width=8, width=0.25)


@pytest.fixture(scope="module", params=ORDER_SHA256)
def network(request):
    tf.keras.utils.set_random_seed(0)
    config = _small(request.param)
    return build_model(config), config


@pytest.fixture(scope="module")
def tiny():
    tf.keras.utils.set_random_seed(0)
    return build_model(tiny_config())


@pytest.mark.parametrize("is_compiled", [True, False])
def test_compilation_of_deformable_layers_is_a_field_of_the_config(is_compiled):
    model = build_model(Config(head_width=8, compile_deformable=is_compiled))
    deformable = [layer for layer in model.layers if isinstance(layer, DeformableConv2D)]
    assert deformable
    assert {layer.jit_compile for layer in deformable} == {is_compiled}


def test_outputs(network, rng):
    model, config = network
    outputs = model(_inputs(rng, 2, 64, 96), training=False)
    assert list(outputs) == list(config.heads)
    for name, channels in config.heads.items():
        assert outputs[name].shape == (2, 16, 24, channels)
        assert outputs[name].dtype == tf.float32
    assert model.get_layer(config.backbone).trainable_variables


def test_order_of_layers_is_the_same_in_both_lanes(network):
    model, config = network
    names = " ".join(layer.name for layer in model.layers)
    digest = hashlib.sha256(names.encode()).hexdigest()
    assert digest.startswith(ORDER_SHA256[config.backbone])


def test_training_changes_every_variable(network, rng):
    model, config = network
    with tf.GradientTape() as tape:
        outputs = model(_inputs(rng, 2), training=True)
        loss = tf.add_n(
            [
                tf.reduce_sum(x * rng.normal(size=x.shape).astype(np.float32))
                for x in outputs.values()
            ]
        )
    for gradient in tape.gradient(loss, model.trainable_variables):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


@pytest.mark.parametrize("is_compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_deformable_network_trains(is_compiled, rng):
    """One step: every weight gets a gradient, also those that say where to sample."""
    tf.keras.utils.set_random_seed(0)
    model = build_model(Config(head_width=8, compile_deformable=is_compiled))
    for layer in model.layers:
        if isinstance(layer, DeformableConv2D):  # not at whole pixels, where it begins
            layer.conv_offset_mask.bias.assign(rng.uniform(-0.6, 0.6, 27))
    optimizer = tf.keras.optimizers.SGD(1e-3)
    before = [tf.identity(variable) for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        outputs = model(_inputs(rng, 2), training=True)
        shapes = [value.shape for value in outputs.values()]
        weights = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
        pairs = zip(outputs.values(), weights, strict=True)
        loss = tf.add_n([tf.reduce_sum(value * weight) for value, weight in pairs])
    gradients = tape.gradient(loss, model.trainable_variables)
    for gradient, variable in zip(gradients, model.trainable_variables, strict=True):
        assert np.isfinite(gradient).all() and np.any(gradient), variable.name
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    for old, variable in zip(before, model.trainable_variables, strict=True):
        assert np.any(old != tf.convert_to_tensor(variable)), variable.name


def test_weights_file_round_trip(network, rng, tmp_path):
    model, config = network
    save_weights(model, tmp_path / "model.weights.h5")
    other = build_model(config)
    load_weights(other, tmp_path / "model.weights.h5")
    inputs = _inputs(rng)
    outputs, expected = other(inputs, training=False), model(inputs, training=False)
    for name, value in expected.items():
        np.testing.assert_array_equal(outputs[name], value)


def test_deformable_convolutions_stand_behind_the_base_alone():
    model = build_model(Config(head_width=8))
    kinds = [isinstance(layer, DeformableConv2D) for layer in model.layers]
    assert sum(kinds) == 16  # 2 * (1 + 2 + 3) of dla_up and 2 * 2 of ida_up
    base = model.get_layer("dla34")
    assert not any(isinstance(layer, DeformableConv2D) for layer in base.layers)
    plain = build_model(Config(head_width=8, deformable=False))
    assert not any(isinstance(layer, DeformableConv2D) for layer in plain.layers)
    names = [layer.name for layer in model.layers if layer.weights]
    assert names == [layer.name for layer in plain.layers if layer.weights]


@pytest.mark.parametrize(
    ("backbone", "down_ratio"),
    [("resnet18", 2), ("resnet18", 16), ("tiny", 2), ("tiny", 8), ("tiny", 16)],
)
def test_down_ratios(backbone, down_ratio, rng):
    model = build_model(dataclasses.replace(_small(backbone), down_ratio=down_ratio))
    shape = model(_inputs(rng), training=False)["hm"].shape
    assert shape == (1, 64 // down_ratio, 64 // down_ratio, 1)


def _levels(side=64):
    return [tf.keras.Input([side >> i, side >> i, 4 << i]) for i in range(6)]


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"first_level": 1}, (32, 32, 8)),
        ({"first_level": 2}, (16, 16, 16)),
        ({"first_level": 3}, (8, 8, 32)),
        ({"first_level": 4}, (4, 4, 64)),
        ({"first_level": 2, "last_level": 3}, (16, 16, 16)),
        ({"first_level": 2, "last_level": 4}, (16, 16, 16)),
        ({"first_level": 2, "last_level": 6}, (16, 16, 16)),
        ({"first_level": 2, "out_channels": 5}, (16, 16, 5)),
        ({"first_level": 4, "out_channels": 5, "deformable": True}, (4, 4, 5)),
    ],
    ids=str,
)
def test_feature_of_dla(options, shape):
    feature = upsampling.dla_feature(_levels(), **{"deformable": False, **options})
    assert tuple(feature.shape)[1:] == shape


def test_every_level_reaches_the_feature():
    levels = _levels()[2:]
    outputs = upsampling.dla_feature([None, None, *levels], first_level=2, deformable=False)
    model = tf.keras.Model(levels, outputs)
    values = [tf.ones([1, *level.shape[1:]]) for level in levels]
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = tf.reduce_sum(model(values, training=True) ** 3)
    for gradient in tape.gradient(total, values):
        assert np.abs(gradient).max() > 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"first_level": 2, "last_level": 2}, "last_level=2: must be 3 to 6"),
        ({"first_level": 2, "last_level": 7}, "last_level=7"),
    ],
)
def test_bad_features_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        upsampling.dla_feature(_levels(), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"down_ratio": 2},
        {"down_ratio": 16, "dilation": 2},
        {"down_ratio": 8, "root_kernel_size": 3, "final_kernel": 3},
        {"has_residual_root": True, "out_channels": 24, "last_level": 4, "head_width": 0},
        pytest.param({"base": "dla46_c"}, marks=pytest.mark.slow),
        pytest.param({"base": "dla60", "last_level": 6}, marks=pytest.mark.slow),
        pytest.param({"base": "dla102", "down_ratio": 8}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_parameters_of_the_released_code(options, rng):
    options = {"deformable": False, "head_width": 8, **options}
    model = build_dla_model(HEADS, **options)
    outputs = model(_inputs(rng, 1, 32, 64), training=False)
    ratio = options.get("down_ratio", 4)
    for name, channels in HEADS.items():
        assert outputs[name].shape == (1, 32 // ratio, 64 // ratio, channels)
    last = model.get_layer("hm" if options["head_width"] == 0 else "hm.2")
    size = options.get("final_kernel", 1)
    assert last.kernel.shape[:2] == (size, size)
    if "out_channels" in options:
        assert last.kernel.shape[2] == options["out_channels"]
    base = model.get_layer(options.get("base", "dla34"))
    root = base.get_layer("level5.root.conv").kernel.shape
    assert root[0] == options.get("root_kernel_size", 1)
    is_dilated = base.get_layer("level5.tree2.conv1").dilation_rate == (2, 2)
    assert is_dilated == ("dilation" in options)
    has_sums = any(layer.name == "level5.root.add" for layer in base.layers)
    assert has_sums == (options.get("has_residual_root", False) or base.name == "dla102")


def test_other_down_ratios_are_refused():
    with pytest.raises(ValueError, match="down_ratio=3"):
        build_dla_model(HEADS, down_ratio=3)


@pytest.mark.parametrize("width", [0, 8])
def test_heat_maps_begin_at_a_tenth(width):
    feature = tf.keras.Input([4, 4, 6])
    for name, expected in (("hm", -2.19), ("hm_hp", -2.19), ("wh", 0.0), ("seg_feat", 0.0)):
        model = tf.keras.Model(feature, add_head(feature, name, 3, width=width))
        last = model.layers[-1]
        assert last.name == (f"{name}.2" if width else name)
        np.testing.assert_allclose(last.bias, [expected] * 3)
    assert abs(1 / (1 + np.exp(2.19)) - 0.1) < 1e-3


@pytest.mark.parametrize(
    ("fields", "heads"),
    [
        ({"hm_hp": False}, {"hm": 1, "wh": 2, "hps": 34, "reg": 2}),
        ({"reg_offset": False, "reg_hp_offset": False}, {"hm": 1, "wh": 2, "hps": 34, "hm_hp": 17}),
        ({"segmentation": "3x3", "hm_hp": False}, {"hm": 1, "wh": 2, "hps": 34, "reg": 2,
                                                   "seg_feat": 48, "seg": 432}),
        ({"segmentation": "1x1", "seg_channels": 5, "head_width": 0, "hm_hp": False},
         {"hm": 1, "wh": 2, "hps": 34, "reg": 2, "seg_feat": 5, "seg": 5}),
    ],
    ids=str,
)  # fmt: skip
def test_heads_of_the_config(fields, heads, rng):
    model = build_model(_config(**fields))
    outputs = model(_inputs(rng, 1, 32, 32), training=False)
    assert {name: value.shape[-1] for name, value in outputs.items()} == heads


def test_zero_batch_and_unknown_sizes_in_one_trace(tiny, rng):
    n_traces = []
    spec = {
        "image": tf.TensorSpec([None, None, None, 3]),
        "input_from_image": tf.TensorSpec([None, 3, 3]),
    }

    @tf.function(input_signature=[spec], autograph=False)
    def call(inputs):
        n_traces.append(1)
        return tiny(inputs, training=False)

    for n, height, width in ((1, 32, 64), (0, 64, 64), (3, 96, 32)):
        outputs = call(_inputs(rng, n, height, width))
        assert outputs["wh"].shape == (n, height // 4, width // 4, 2)
    assert len(n_traces) == 1


def test_placement_and_neighbours_do_not_matter(tiny, rng):
    inputs = _inputs(rng, 3)
    moved = {**inputs, "input_from_image": inputs["input_from_image"] * 7}
    alone = {key: value[1:2] for key, value in inputs.items()}
    together = tiny(inputs, training=False)
    for name, value in tiny(moved, training=False).items():
        np.testing.assert_array_equal(value, together[name])
    for name, value in tiny(alone, training=False).items():
        np.testing.assert_allclose(value[0], together[name][1], rtol=1e-4, atol=1e-5)


def test_convention_red_is_first_and_reaches_the_network_last():
    image = np.zeros([1, 32, 32, 3], np.float32)
    image[..., 0] = 1
    found = NormalizedBgr()(image)[0, 0, 0]
    red = (1 - 0.47026115) / 0.27809835
    np.testing.assert_allclose(
        found, [-0.40789654 / 0.28863828, -0.44719302 / 0.27408164, red], rtol=1e-6
    )


@pytest.mark.parametrize(("height", "width"), [(30, 64), (64, 33), (1, 1), (500, 333)])
def test_sides_that_are_no_multiples_of_32_are_refused(tiny, rng, height, width):
    with pytest.raises(ValueError, match=f"{height} x {width}.*multiples of 32"):
        tiny(_inputs(rng, 1, height, width))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("backbone", ["tiny", "dla34"])
def test_outputs_are_float32_under_every_policy(policy, backbone, rng):
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        model = build_model(_small(backbone))
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    finest = model.get_layer(backbone).outputs[0]
    assert tf.as_dtype(finest.dtype) == tf.as_dtype(policy.removeprefix("mixed_"))
    for training in (False, True):
        outputs = model(_inputs(rng, 2), training=training)
        for value in outputs.values():
            assert value.dtype == tf.float32
            assert np.isfinite(value).all()


def test_tiny_is_small_and_shrinks_with_its_width():
    n_weights = build_model(Config(backbone="tiny", head_width=32)).count_params()
    assert 0.5e6 < n_weights < 1.2e6 and 4 * n_weights < 6e6
    assert build_model(tiny_config()).count_params() < 0.1 * n_weights


def test_keras_file_round_trip(tiny, rng, tmp_path):
    tiny.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    inputs = _inputs(rng)
    expected = tiny(inputs, training=False)
    for name, value in loaded(inputs, training=False).items():
        np.testing.assert_array_equal(value, expected[name])
