"""The networks of plain convolutions outside TensorFlow: LiteRT's built-in operations, and ONNX."""

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
import tf2onnx
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from metrabs_like.systems.centernet.config import Config
from metrabs_like.systems.centernet.model import build_model

BACKBONES = [
    "tiny",
    pytest.param("resnet18", marks=pytest.mark.slow),
    pytest.param("dla34", marks=pytest.mark.slow),
]


def _inputs(rng, n, height, width):
    return {
        "image": rng.uniform(size=[n, height, width, 3]).astype(np.float32),
        "input_from_image": np.tile(np.eye(3, dtype=np.float32), [n, 1, 1]),
    }


def _model(backbone, rng):
    """A small network whose statistics are not those of the start."""
    tf.keras.utils.set_random_seed(0)
    model = build_model(Config(backbone=backbone, deformable=False, head_width=8, width=0.25))
    model(_inputs(rng, 1, 64, 64), training=True)
    return model


def _function(model, specs):
    @tf.function(input_signature=[specs], autograph=False)
    def call(inputs):
        return model(inputs, training=False)

    return call


def _assert_same(found, expected):
    expected = np.asarray(expected)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_lite_rt(backbone, rng):
    """Its built-in operations suffice, and give the same numbers."""
    model, inputs = _model(backbone, rng), _inputs(rng, 1, 64, 64)
    specs = {name: tf.TensorSpec(value.shape, tf.float32, name) for name, value in inputs.items()}
    concrete = _function(model, specs).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [convert_variables_to_constants_v2(concrete)]
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        value = next(v for v in inputs.values() if v.ndim == len(detail["shape"]))
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    found = [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
    # LiteRT forgets the names of outputs: each of ours must be among its own
    for value in model(inputs, training=False).values():
        candidates = [f for f in found if f.shape == tuple(value.shape)]
        _assert_same(min(candidates, key=lambda f: np.abs(f - value).max()), value)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_onnx(backbone, rng):
    """One file for every batch and image size, outputs by name, with the same numbers."""
    model = _model(backbone, rng)
    specs = {
        "image": tf.TensorSpec([None, None, None, 3], tf.float32, name="image"),
        "input_from_image": tf.TensorSpec([None, 3, 3], tf.float32, name="input_from_image"),
    }
    exported, _ = tf2onnx.convert.from_function(
        _function(model, specs), input_signature=[specs], opset=17
    )
    assert {node.domain for node in exported.graph.node} == {""}  # standard operations alone
    session = onnxruntime.InferenceSession(
        exported.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for shape in ((1, 64, 64), (2, 96, 128)):
        inputs = _inputs(rng, *shape)
        fed = {i.name: inputs[i.name] for i in session.get_inputs()}
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(names, fed), strict=True))
        for name, value in model(inputs, training=False).items():
            _assert_same(found[name], value)
