"""Training step of the tiny model: images/s, and the share of it that is not the network.

The network's part is what no supervision could do without: forward and backward pass of backbone
and head convolution (against a trivial loss), and the optimizer's update. The rest is the warp, the
photometric augmentation, heatmap decoding, reconstruction, losses, and what the step adds.
"""

import resource
import tempfile
import time

import numpy as np
import tensorflow as tf

from metrabs_like.data import pipeline, preparation
from metrabs_like.data.readers import synthetic as synthetic_reader
from metrabs_like.data.synthetic import SyntheticConfig
from metrabs_like.systems import metrabs
from metrabs_like.systems.metrabs.model import HEAD_LAYER
from metrabs_like.training import optimizers
from metrabs_like.training.config import TrainConfig
from metrabs_like.training.step import make_objective, make_train_step

_N_EXAMPLES = 32
_N_ROUNDS = 7
_N_CALLS = 4
_N_WARM, _N_UPDATES = 10, 60
_SHARE_TARGET, _WAIT_TARGET = 0.2, 0.05


def rows(device):
    """Measures the demo's training step.

    Args:
      device: "cpu" or "gpu".

    Yields:
      Rows with `name`, `images_per_s`, `cpu_ms_per_image`, `share_of_step` (wall time); those of
      all that is not the network also by CPU time, which other programs disturb less; the last,
      updates on prepared records, with the share of the time that they wait for data.
    """
    with tf.device("/GPU:0" if device == "gpu" else "/CPU:0"):
        config = metrabs.Config(backbone="tiny", proc_side=128, stride=16)
        batch = made_up_batch(config, _N_EXAMPLES)
        results = measure(
            {
                "whole step": whole_step(config, batch, 1),
                "whole step, 2 micro-batches": whole_step(config, batch, 2),
                "network (forward, backward, update)": network_step(config, _N_EXAMPLES, 1),
                "network, 2 micro-batches": network_step(config, _N_EXAMPLES, 2),
                "prepare (warp, photometric augmentation)": prepare_step(config, batch),
                "decoding, reconstruction, losses": loss_step(config, batch),
            }
        )
    whole, _ = results["whole step"]
    for name, (seconds, cpu_seconds) in results.items():
        yield {
            "name": f"tiny 128 px, batch {_N_EXAMPLES}: {name}",
            "images_per_s": _N_EXAMPLES / seconds,
            "cpu_ms_per_image": 1e3 * cpu_seconds / _N_EXAMPLES,
            "share_of_step": seconds / whole,
        }
    for whole_name, network_name in (
        ("whole step", "network (forward, backward, update)"),
        ("whole step, 2 micro-batches", "network, 2 micro-batches"),
    ):
        shares = [
            1 - n / w for n, w in zip(results[network_name], results[whole_name], strict=True)
        ]
        yield {
            "name": f"tiny 128 px: share of the {whole_name} that is not the network",
            "share_of_step": shares[0],
            "share_of_cpu_time": shares[1],
            "target": f"<= {_SHARE_TARGET}",
        }
    with tf.device("/GPU:0" if device == "gpu" else "/CPU:0"):
        yield end_to_end(config)


def end_to_end(config):
    """Returns the row of updates on prepared records, the pipeline running beside the step."""
    people = SyntheticConfig(n_images=512, images_per_shard=128)
    crops = pipeline.PipelineConfig(proc_side=config.proc_side)
    with tempfile.TemporaryDirectory() as folder:
        info, tasks = synthetic_reader.plan(people)
        preparation.write_dataset(tasks, folder, info, n_processes=1, progress=False)
        batches = iter(
            pipeline.make_train_dataset(
                [f"kp3d:{folder}:{_N_EXAMPLES}"], crops, skeleton=config.joints, seed=0
            )
        )
        step = train_step(config, 1)
        for _ in range(_N_WARM):
            _wait(step(next(batches)))
        waited, start = 0.0, time.perf_counter()
        for _ in range(_N_UPDATES):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            _wait(step(batch))
        seconds = time.perf_counter() - start
    return {
        "name": f"tiny 128 px, batch {_N_EXAMPLES}: from records, end to end",
        "images_per_s": _N_EXAMPLES * _N_UPDATES / seconds,
        "share_waited_for_data": waited / seconds,
        "target": f"<= {_WAIT_TARGET}",
    }


def whole_step(config, batch, grad_accum_steps):
    """Returns a function that makes one update on the batch."""
    step = train_step(config, grad_accum_steps)
    return lambda: step(batch)


def train_step(config, grad_accum_steps):
    """Returns the function from a batch to one update that `train` uses."""
    train_config = TrainConfig(learning_rate=1e-4, grad_accum_steps=grad_accum_steps)
    model = metrabs.build_model(config)
    optimizer = optimizers.make_optimizer(train_config, model.trainable_variables)
    objective = make_objective(
        model,
        lambda outputs, targets, step: metrabs.loss_terms(outputs, targets, config, step),
        optimizer,
        expected_counts=lambda targets: metrabs.expected_counts(targets, config),
    )
    return make_train_step(
        [objective],
        train_config,
        lambda batch, seed: metrabs.prepare(batch, config, seed),
        model_state=model.non_trainable_variables,
    )


def network_step(config, n_examples, n_parts):
    """Returns a function that updates backbone and head alone, from images at hand."""
    model = metrabs.build_model(config)
    shape = [n_examples // n_parts, config.proc_side, config.proc_side, 3]
    image = tf.random.stateless_uniform(shape, [1, 2])
    backbone, head = model.get_layer(config.backbone), model.get_layer(HEAD_LAYER)
    variables = model.trainable_variables
    optimizer = optimizers.make_optimizer(TrainConfig(learning_rate=1e-4), variables)
    optimizers.build(optimizer, variables)

    @tf.function
    def step():
        sums = [tf.zeros_like(variable) for variable in variables]
        for _ in range(n_parts):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(head(backbone(image, training=True))))
            sums = [a + b for a, b in zip(sums, tape.gradient(loss, variables), strict=True)]
        optimizers.apply(optimizer, sums, variables)
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
