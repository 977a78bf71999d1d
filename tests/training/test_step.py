"""One update: micro-batches, skips, counters."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.training import optimizers, step
from metrabs_like.training.config import TrainConfig
from metrabs_like.training.variables import resource_variables
from tests.training import toy


def run(n_updates=3, **kwargs):
    train_step, model, average = toy.make_step(**kwargs)
    logs = [toy.logs_of(train_step, toy.toy_batch(12, seed=i)) for i in range(n_updates)]
    return logs, model, average, train_step


def gate(pred):
    """About half of any predictions."""
    return tf.sin(20 * pred) > 0


def gated_loss(outputs, targets, step):
    return toy.masked_square(outputs, targets, step, mask=gate)


@pytest.mark.parametrize("loss", [toy.masked_square, gated_loss], ids=["targets", "predictions"])
@pytest.mark.parametrize("expected", [toy.expected_counts, None], ids=["expected", "unknown"])
def test_micro_batches_equal_one_batch(expected, loss):
    one, model1, average1, _ = run(loss=loss, momentum=0.9)
    many, model2, average2, _ = run(loss=loss, expected=expected, grad_accum_steps=4, momentum=0.9)
    for a, b in zip(one, many, strict=True):
        assert a == pytest.approx(b, rel=2e-6, abs=1e-6)
    np.testing.assert_allclose(toy.weights_of(model1), toy.weights_of(model2), atol=2e-6)
    for a, b in zip(average1.averages, average2.averages, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=2e-6)


def test_mean_of_masked_means_would_differ():
    """The comparison above can fail: micro-batches' own counts give another loss by percents."""
    batch = toy.as_tensors(toy.toy_batch(12))
    model = toy.toy_model()

    def loss(part):
        inputs, targets = toy.prepare({"main": part}, None)
        return float(toy.masked_square(model(inputs), targets, 0)["square"].mean())

    parts = [{k: v[i : i + 3] for k, v in batch["main"].items()} for i in range(0, 12, 3)]
    assert abs(np.mean([loss(p) for p in parts]) / loss(batch["main"]) - 1) > 0.02


def test_batch_norm_statistics_are_per_micro_batch_and_advance_once_each():
    model = toy.toy_model(batch_norm=True)
    norm = next(x for x in model.layers if isinstance(x, tf.keras.layers.BatchNormalization))
    hidden = tf.keras.Model(model.inputs, norm.input)
    batch = toy.toy_batch(12)
    features = hidden({"x": batch["main"]["x"]}).numpy().reshape(3, 4, 8)
    expected = np.zeros(8)
    for part in features:
        expected = 0.5 * expected + 0.5 * part.mean(0)
    train_step, _, _ = toy.make_step(model, grad_accum_steps=3, loss=gated_loss)
    toy.logs_of(train_step, batch)  # takes two passes: the first one's advances are undone
    np.testing.assert_allclose(norm.moving_mean.numpy(), expected, atol=1e-6)


def test_step_schedule_and_average_advance_once_per_update():
    train_step, model, average = toy.make_step(
        grad_accum_steps=4, ema_momentum=0.9, ema_warmup=False
    )
    start = [v.numpy() for v in average.averages]
    toy.logs_of(train_step, toy.toy_batch(8))
    after1 = toy.weights_of(model)
    toy.logs_of(train_step, toy.toy_batch(8, seed=1))
    start, after2 = np.concatenate([np.ravel(v) for v in start]), toy.weights_of(model)
    now = np.concatenate([np.ravel(v.numpy()) for v in average.averages])
    np.testing.assert_allclose(now, 0.81 * start + 0.09 * after1 + 0.1 * after2, atol=1e-6)
    assert int(train_step.step) == int(average.n_updates) == 2


def test_learning_rate_follows_updates_not_micro_batches():
    settings = dict(schedule="cosine", steps=4, learning_rate=0.5, final_factor=0.01)
    _, one, _, _ = run(4, **settings)
    _, many, _, _ = run(4, grad_accum_steps=4, **settings)
    np.testing.assert_allclose(toy.weights_of(one), toy.weights_of(many), atol=1e-5)


@pytest.mark.parametrize("k", [1, 3])
def test_non_finite_micro_batch_skips_the_whole_update(k):
    train_step, model, average = toy.make_step(
        toy.toy_model(batch_norm=True), grad_accum_steps=k, momentum=0.9
    )
    toy.logs_of(train_step, toy.toy_batch(6))
    before = toy.weights_of(model), [v.numpy() for v in average.averages]
    broken = toy.toy_batch(6, seed=1)
    broken["main"]["x"][5] = np.nan  # reaches BatchNorm's statistics too
    broken["main"]["valid"][5] = True
    logs = toy.logs_of(train_step, broken)
    assert logs["applied"] == 0 and not np.isfinite(logs["loss"])
    np.testing.assert_array_equal(toy.weights_of(model), before[0])
    for a, b in zip(average.averages, before[1], strict=True):
        np.testing.assert_array_equal(a.numpy(), b)
    assert (int(train_step.step), int(train_step.skipped_nonfinite)) == (1, 1)
    assert int(train_step.consecutive_skips) == 1
    assert toy.logs_of(train_step, toy.toy_batch(6, seed=2))["applied"] == 1
    assert (int(train_step.step), int(train_step.consecutive_skips)) == (2, 0)


def test_non_finite_entries_that_are_masked_do_not_skip():
    batch = toy.toy_batch(6)
    batch["main"]["valid"][2] = False
    batch["main"]["y"][2] = np.nan
    train_step, model, _ = toy.make_step(grad_accum_steps=2)
    assert toy.logs_of(train_step, batch)["applied"] == 1
    assert np.isfinite(toy.weights_of(model)).all()


@pytest.mark.parametrize("k", [1, 2])
def test_update_without_valid_entries_is_skipped(k):
    train_step, model, _ = toy.make_step(toy.toy_model(batch_norm=True), grad_accum_steps=k)
    before = toy.weights_of(model)
    batch = toy.toy_batch(6)
    batch["main"]["valid"][:] = False
    assert toy.logs_of(train_step, batch)["applied"] == 0
    np.testing.assert_array_equal(toy.weights_of(model), before)
    assert int(train_step.skipped_empty) == 1 and int(train_step.skipped_nonfinite) == 0


def test_update_without_examples_is_skipped():
    train_step, model, _ = toy.make_step()
    before = toy.weights_of(model)
    assert train_step(toy.as_tensors(toy.toy_batch(0))) is None
    np.testing.assert_array_equal(toy.weights_of(model), before)
    assert int(train_step.skipped_empty) == 1


def test_clipping_bounds_the_applied_norm_and_logs_the_true_one():
    def change(clip_norm):
        train_step, model, _ = toy.make_step(
            clip_norm=clip_norm, learning_rate=1.0, momentum=0.0, grad_accum_steps=2
        )
        before = toy.weights_of(model)
        norm = toy.logs_of(train_step, toy.toy_batch(8))["grad_norm"]
        return norm, np.linalg.norm(toy.weights_of(model) - before)

    norm, free = change(0.0)
    assert free == pytest.approx(norm, rel=1e-5) and norm > 0.2
    assert change(0.1) == pytest.approx((norm, 0.1), rel=1e-4)
    assert change(10.0) == pytest.approx((norm, norm), rel=1e-5)


def test_backbone_learning_rate_factor():
    def change(factor):
        train_step, model, _ = toy.make_step(backbone_lr_factor=factor, momentum=0.0)
        layers = [model.get_layer(name) for name in ("backbone", "head")]
        before = [layer.get_weights()[0] for layer in layers]
        toy.logs_of(train_step, toy.toy_batch(8))
        return [x.get_weights()[0] - b for x, b in zip(layers, before, strict=True)]

    (backbone1, head1), (backbone2, head2) = change(1.0), change(0.25)
    np.testing.assert_allclose(head2, head1, atol=1e-7)
    np.testing.assert_allclose(backbone2, 0.25 * backbone1, atol=1e-7)
    assert np.abs(backbone1).max() > 1e-4


def test_seeds_differ_between_micro_batches_and_updates_and_repeat_between_runs():
    def noisy(batch, seed):
        inputs, targets = toy.prepare(batch, seed)
        noise = tf.random.experimental.stateless_split(seed, 2)[0]
        return {"x": inputs["x"] + tf.cast(noise[0] % 1000, tf.float32) * 1e-3}, targets

    def losses(seed):
        train_step, _, _ = toy.make_step(
            prepare_fn=noisy, seed=seed, grad_accum_steps=2, learning_rate=0.0
        )
        batch = toy.toy_batch(4)
        batch["main"] = {k: np.concatenate([v, v]) for k, v in batch["main"].items()}
        return [toy.logs_of(train_step, batch)["loss"] for _ in range(3)]

    first = losses(5)
    assert len(set(first)) == 3 and first == losses(5) and first != losses(6)


def test_whole_step_under_xla_gives_the_same_numbers():
    kwargs = dict(optimizer="adamw", weight_decay=0.01, grad_accum_steps=2, clip_norm=1.0)
    plain, model1, _, _ = run(loss=gated_loss, **kwargs)
    compiled, model2, _, _ = run(loss=gated_loss, jit_compile=True, **kwargs)
    for a, b in zip(plain, compiled, strict=True):
        assert a == pytest.approx(b, rel=1e-5)
    np.testing.assert_allclose(toy.weights_of(model1), toy.weights_of(model2), atol=1e-4)


def test_several_objectives_take_gradients_at_the_same_weights():
    model = toy.toy_model()
    head, backbone = (model.get_layer(n).trainable_variables for n in ("head", "backbone"))
    config = TrainConfig(learning_rate=0.1, optimizer="sgd", schedule="constant", momentum=0.0)

    def down(outputs, targets, step):
        return {"square": toy.masked_square(outputs, targets, step)["square"]}

    def up(outputs, targets, step):
        return {"square": down(outputs, targets, step)["square"]._replace(weight=-1.0)}

    objectives = [
        step.make_objective(
            model, loss, optimizers.make_optimizer(config, part), variables=part, name=name
        )
        for name, loss, part in (("down", down, head), ("up", up, backbone))
    ]
    train_step = step.make_train_step(objectives, config, toy.prepare)
    inputs, targets = toy.prepare(toy.as_tensors(toy.toy_batch(6)), None)
    with tf.GradientTape() as tape:
        loss = down(model(inputs), targets, 0)["square"].mean()
    variables = resource_variables([*head, *backbone])
    gradients = tape.gradient(loss, variables)
    signs = [-1, -1, 1, 1]
    wanted = [
        v.numpy() + s * 0.1 * g.numpy() for v, s, g in zip(variables, signs, gradients, strict=True)
    ]
    logs = toy.logs_of(train_step, toy.toy_batch(6))
    for variable, value in zip(variables, wanted, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, atol=1e-6)
    assert logs["down/loss"] == pytest.approx(-logs["up/loss"]) == pytest.approx(float(loss))


def test_batch_that_does_not_divide_names_the_entry_and_the_remedy():
    train_step, _, _ = toy.make_step(grad_accum_steps=4)
    with pytest.raises(ValueError, match=r"main/x.*6 examples.*multiple of 4"):
        train_step(toy.as_tensors(toy.toy_batch(6)))


def test_terms_without_expected_counts_are_named():
    train_step, _, _ = toy.make_step(
        grad_accum_steps=2, expected=lambda targets: {"square": tf.constant(1.0)}
    )
    with pytest.raises(ValueError, match="near.*give both the same names"):
        train_step(toy.as_tensors(toy.toy_batch(4)))
