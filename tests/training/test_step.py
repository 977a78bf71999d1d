"""One update: micro-batches, skips, counters."""

import numpy as np
import pytest
import tensorflow as tf

from tests.training import toy


def run(n_updates=3, **kwargs):
    train_step, model, average = toy.make_step(**kwargs)
    logs = [toy.logs_of(train_step, toy.toy_batch(12, seed=i)) for i in range(n_updates)]
    return logs, model, average, train_step


def gate(pred):
    return pred[..., :1] > 0.0


def gated_loss(outputs, targets, step):
    return toy.masked_square(outputs, targets, step, mask=gate)


@pytest.mark.parametrize("loss", [toy.masked_square, gated_loss], ids=["targets", "predictions"])
@pytest.mark.parametrize("expected", [toy.expected_counts, None], ids=["expected", "unknown"])
@pytest.mark.parametrize("k", [2, 4])
def test_micro_batches_equal_one_batch(k, expected, loss):
    one, model1, average1, _ = run(loss=loss, momentum=0.9)
    many, model2, average2, _ = run(loss=loss, expected=expected, grad_accum_steps=k, momentum=0.9)
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
