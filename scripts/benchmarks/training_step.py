"""Training step of the tiny model: images/s, and the share of it that is not the network.

The network's part is what no supervision could do without: forward and backward pass of backbone
and head convolution (against a trivial loss), and the optimizer's update. The rest is the warp, the
photometric augmentation, heatmap decoding, reconstruction, losses, and what the step adds.
"""

import resource
import time

import numpy as np
import tensorflow as tf

from metrabs_like.systems import metrabs
from metrabs_like.systems.metrabs.model import HEAD_LAYER
from metrabs_like.training import optimizers
from metrabs_like.training.config import TrainConfig
from metrabs_like.training.step import make_objective, make_train_step

_N_EXAMPLES = 32
_N_ROUNDS = 7
_N_CALLS = 4
_SHARE_TARGET = 0.2


def rows(device):
    """Measures the demo's training step.

    Args:
      device: "cpu" or "gpu".

    Yields:
      Rows with `name`, `images_per_s`, `cpu_ms_per_image`, `share_of_step` (wall time); the last,
      all that is not the network, also by CPU time, which other programs disturb less.
    """
    with tf.device("/GPU:0" if device == "gpu" else "/CPU:0"):
        config = metrabs.Config(backbone="tiny", proc_side=128, stride=16)
        batch = made_up_batch(config, _N_EXAMPLES)
        results = measure(
            {
                "whole step": whole_step(config, batch, 1),
                "whole step, 2 micro-batches": whole_step(config, batch, 2),
                "network (forward, backward, update)": network_step(config, _N_EXAMPLES),
                "prepare (warp, photometric augmentation)": prepare_step(config, batch),
                "decoding, reconstruction, losses": loss_step(config, batch),
            }
        )
    whole, whole_cpu = results["whole step"]
    for name, (seconds, cpu_seconds) in results.items():
        yield {
            "name": f"tiny 128 px, batch {_N_EXAMPLES}: {name}",
            "images_per_s": _N_EXAMPLES / seconds,
            "cpu_ms_per_image": 1e3 * cpu_seconds / _N_EXAMPLES,
            "share_of_step": seconds / whole,
        }
    network, network_cpu = results["network (forward, backward, update)"]
    yield {
        "name": "tiny 128 px: share that is not the network",
        "share_of_step": 1 - network / whole,
        "share_of_cpu_time": 1 - network_cpu / whole_cpu,
        "target": f"<= {_SHARE_TARGET}",
    }


def whole_step(config, batch, grad_accum_steps):
    """Returns a function that makes one update as `train` does."""
    train_config = TrainConfig(learning_rate=1e-4, grad_accum_steps=grad_accum_steps)
    model = metrabs.build_model(config)
    optimizer = optimizers.make_optimizer(train_config, model.trainable_variables)
    objective = make_objective(
        model,
        lambda outputs, targets, step: metrabs.loss_terms(outputs, targets, config, step),
        optimizer,
        expected_counts=lambda targets: metrabs.expected_counts(targets, config),
    )
    step = make_train_step(
        [objective],
        train_config,
        lambda batch, seed: metrabs.prepare(batch, config, seed),
        model_state=model.non_trainable_variables,
    )
    return lambda: step(batch)


def network_step(config, n_examples):
    """Returns a function that updates backbone and head alone, from images at hand."""
    model = metrabs.build_model(config)
    image = tf.random.stateless_uniform([n_examples, config.proc_side, config.proc_side, 3], [1, 2])
    backbone, head = model.get_layer(config.backbone), model.get_layer(HEAD_LAYER)
    variables = model.trainable_variables
    optimizer = optimizers.make_optimizer(TrainConfig(learning_rate=1e-4), variables)
    optimizers.build(optimizer, variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(head(backbone(image, training=True))))
        optimizers.apply(optimizer, tape.gradient(loss, variables), variables)
        return loss

    return step


def prepare_step(config, batch):
    """Returns a function that prepares the batch."""
    seed = tf.constant([1, 2])
    return tf.function(lambda: metrabs.prepare(batch, config, seed)[0]["image"])


def loss_step(config, batch):
    """Returns a function from the head's logits to their gradient."""
    model = metrabs.build_model(config)
    inputs, targets = metrabs.prepare(batch, config, np.array([1, 2], np.int32))
    logits = model.get_layer(HEAD_LAYER)(model.get_layer(config.backbone)(inputs["image"]))
    decoder, step_number = model.get_layer("decoder"), tf.constant(10**6, tf.int64)

    @tf.function
    def step(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss, _ = metrabs.compute_loss(decoder(logits), targets, config, step_number)
        return tape.gradient(loss, logits)

    return lambda: step(logits)


def measure(functions):
    """Times functions in turn, so that a disturbance hits all alike.

    Returns:
      Dict name -> (seconds, CPU seconds) of one call, each the smallest over the rounds.
    """
    for function in functions.values():
        _wait(function())
    times = {name: [] for name in functions}
    for _ in range(_N_ROUNDS):
        for name, function in functions.items():
            cpu, wall = _cpu_seconds(), time.perf_counter()
            for _ in range(_N_CALLS):
                result = function()
            _wait(result)
            spent = time.perf_counter() - wall, _cpu_seconds() - cpu
            times[name].append([value / _N_CALLS for value in spent])
    return {name: tuple(np.min(values, axis=0)) for name, values in times.items()}


def made_up_batch(config, n):
    """Returns a batch of the pipeline's form: noise windows, people 4 m away, a mild lens."""
    rng = np.random.default_rng(0)
    side = config.proc_side
    window_side = side * 3 // 2
    intrinsics = np.array([[1.5 * side, 0, side / 2], [0, 1.5 * side, side / 2], [0, 0, 1]])
    points = rng.uniform(-0.8, 0.8, [n, config.n_points, 3]) + [0, 0, 4]
    projected = points @ intrinsics.T
    floats = {
        "window_intrinsics": np.tile(intrinsics * [[1.5], [1.5], [1]], [n, 1, 1]),
        "distortion_coeffs": rng.normal(size=[n, 12]) * 0.01,
        "crop_from_camera": np.tile(np.eye(3), [n, 1, 1]),
        "intrinsics": np.tile(intrinsics, [n, 1, 1]),
        "coords3d_true": points,
        "coords2d_true": projected[..., :2] / projected[..., 2:],
    }
    sub = {key: tf.constant(value, tf.float32) for key, value in floats.items()}
    window = rng.integers(0, 256, [n, window_side, window_side, 3], np.uint8)
    valid = np.ones([n, config.n_points], bool)
    return {"kp3d": {**sub, "window": tf.constant(window), "point_validity": tf.constant(valid)}}


def _cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _wait(result):
    """Waits until the result is computed, on a GPU too."""
    return tf.nest.map_structure(lambda x: x.numpy(), result)
