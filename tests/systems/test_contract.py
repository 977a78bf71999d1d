"""What every system promises; a new system adds one line to `CASES`."""

import dataclasses
import json
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.systems import centernet, metrabs
from tests.systems import centernet_batches, metrabs_batches

NAMES = (
    "Config",
    "build_model",
    "compute_loss",
    "decode",
    "draw",
    "encode_targets",
    "evaluate",
    "expected_counts",
    "loss_terms",
    "prepare",
    "tiny_config",
)


@dataclasses.dataclass(frozen=True)
class Case:
    """One system, or one head of it: its module, its smallest config, how to make a pipeline batch
    and where its ideal loss is zero."""

    module: ModuleType
    config: object
    make_batch: Callable  # (rng, n, config) -> batch
    with_masked: Callable  # (batch, value) -> batch with the value at every invalid point
    zero_loss_config: Callable  # config -> config whose loss is 0 for ideal outputs
    supervised_kind: str  # sub-batch with complete targets
    assert_is_truth: Callable  # (decoded, truth), of ideal outputs
    ideal_outputs: Callable  # (truth, config) -> what a perfect network says


CASES = {
    "metrabs": Case(
        metrabs,
        metrabs.tiny_config(),
        metrabs_batches.make_batch,
        metrabs_batches.with_masked,
        lambda config: dataclasses.replace(config, nll_loss=False),
        "kp3d",
        metrabs_batches.assert_is_truth,
        metrabs.encode_targets,
    ),
    "metrabs, field": Case(
        metrabs,
        dataclasses.replace(
            metrabs.tiny_config(), head="field", field_width=16, n_surface_points=5
        ),
        metrabs_batches.make_batch_of_all_kinds,
        metrabs_batches.with_masked,
        lambda config: dataclasses.replace(config, nll_loss=False),
        "kp3d",
        metrabs_batches.assert_is_truth,
        metrabs.encode_targets,
    ),
    "centernet": Case(
        centernet,
        centernet.tiny_config(),
        centernet_batches.make_batch,
        centernet_batches.with_masked,
        lambda config: config,
        "kp2d",
        centernet_batches.assert_is_truth,
        centernet_batches.ideal_outputs,
    ),
}
SEED = np.array([3, 4], np.int32)


@pytest.fixture(params=list(CASES))
def case(request):
    """One system's case."""
    return CASES[request.param]


@pytest.fixture(scope="module")
def models():
    """Built models by system, so that each is built once."""
    return {name: case.module.build_model(case.config) for name, case in CASES.items()}


@pytest.fixture
def model(request, models):
    """The system's tiny model."""
    return models[request.node.callspec.params["case"]]


def test_names_exist(case):
    missing = [name for name in NAMES if not hasattr(case.module, name)]
    assert not missing


def test_config_round_trip_through_json(case):
    config = case.config
    assert case.module.Config.from_json(config.to_json()) == config
    assert json.loads(config.to_json()) == dataclasses.asdict(config)
    assert hash(config) == hash(case.module.Config.from_json(config.to_json()))
    assert case.module.tiny_config() == case.module.tiny_config()


def test_config_refuses_an_unknown_field(case):
    with pytest.raises(ValueError, match="no_such_field"):
        case.module.Config.from_json('{"no_such_field": 1}')


def test_decode_traces_once_for_all_batches(case, model, rng):
    """Of the first call the sizes are taken as they are; the second relaxes them, for good."""
    module, config, n_traces = case.module, case.config, []

    @tf.function(reduce_retracing=True)
    def decode(outputs, inputs):
        n_traces.append(1)
        return module.decode(outputs, inputs, config)

    def predict(inputs):
        return decode(model(inputs, training=False), inputs)

    for n in (1, 3, 2, 5):
        batch = case.make_batch(rng, n, config)
        inputs, _ = module.prepare(
            {case.supervised_kind: batch[case.supervised_kind]}, config, None
        )
        assert all(value.shape[0] == n for value in predict(inputs).values())
    assert len(n_traces) == 2


@pytest.mark.parametrize("value", [7.0, np.nan])
def test_masked_points_move_neither_loss_nor_gradient(case, model, rng, value):
    module, config = case.module, case.config
    batch = case.make_batch(rng, 2, config)
    expected, expected_gradients = _loss_and_gradients(module, model, config, batch)
    changed = case.with_masked(batch, value)
    loss, gradients = _loss_and_gradients(module, model, config, changed)
    np.testing.assert_array_equal(loss, expected)
    assert any(np.abs(g).max() > 0 for g in gradients)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_array_equal(gradient, wanted)


def test_ideal_outputs_decode_to_the_truth_and_cost_nothing(case, rng):
    module = case.module
    config = case.zero_loss_config(case.config)
    batch = case.make_batch(rng, 4, config, share_invalid=0)
    batch = {case.supervised_kind: batch[case.supervised_kind]}
    inputs, targets = module.prepare(batch, config, None)
    truth = targets[case.supervised_kind]
    ideal = case.ideal_outputs(truth, config)
    decoded = module.decode(ideal, inputs, config)
    case.assert_is_truth(decoded, truth)
    loss, _ = module.compute_loss(ideal, targets, config, 10**6)
    worse = {key: value + 0.1 for key, value in ideal.items()}
    worse_loss, _ = module.compute_loss(worse, targets, config, 10**6)
    assert 0 <= loss < 0.01 * worse_loss


@pytest.mark.parametrize("form", ["model.keras", "saved_model"])
def test_saved_model_gives_the_same_numbers(case, model, rng, tmp_path, form):
    config, path = case.config, str(tmp_path / form)
    inputs, _ = case.module.prepare(case.make_batch(rng, 2, config), config, None)
    expected = model(inputs, training=False)
    if form == "model.keras":
        model.save(path)
        outputs = tf.keras.models.load_model(path)(inputs, training=False)
    else:
        serving = tf.function(lambda x: model(x, training=False), [_input_spec(model)])
        holder = tf.Module()
        holder.model, holder.serve = model, serving
        tf.saved_model.save(holder, path, serving.get_concrete_function())
        loaded = tf.saved_model.load(path)  # must outlive the call: it owns the variables
        outputs = loaded.serve(inputs)
    assert sorted(outputs) == sorted(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(outputs[key], value, rtol=1e-5, atol=1e-5)


def test_some_steps_lower_the_loss(case, rng):
    module, config = case.module, case.config
    batch = case.make_batch(rng, 4, config)
    tf.keras.utils.set_random_seed(1)
    model = module.build_model(config)
    optimizer = tf.keras.optimizers.Adam(3e-3)
    optimizer.build(model.trainable_variables)

    @tf.function
    def update():
        inputs, targets = module.prepare(batch, config, SEED)
        with tf.GradientTape() as tape:
            loss, _ = module.compute_loss(model(inputs, training=True), targets, config, 10**6)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    losses = [float(update()) for _ in range(12)]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("seed", [None, SEED])
def test_zero_size_batch_is_ordinary(case, model, rng, seed):
    module, config = case.module, case.config
    batch = case.make_batch(rng, 0, config)
    loss, gradients = _loss_and_gradients(module, model, config, batch, seed)
    assert loss == 0
    assert all((np.asarray(g) == 0).all() for g in gradients)
    inputs, targets = module.prepare(batch, config, seed)
    decoded = module.decode(model(inputs, training=False), inputs, config)
    assert all(value.shape[0] == 0 for value in decoded.values())
    for total, count in module.evaluate(decoded, targets, config).values():
        assert (np.asarray(total) == 0).all()
        assert (np.asarray(count) == 0).all()


def test_expected_counts_bound_the_counts(case, model, rng):
    module, config = case.module, case.config
    inputs, targets = module.prepare(case.make_batch(rng, 3, config), config, None)
    terms = module.loss_terms(model(inputs, training=False), targets, config, 0)
    expected = module.expected_counts(targets, config)
    assert sorted(expected) == sorted(terms)
    assert all(0 < float(term.count) <= float(expected[name]) for name, term in terms.items())


def test_prepare_is_a_function_of_its_seed(case, rng):
    module = case.module
    config = dataclasses.replace(case.config, photometric=True)
    batch = case.make_batch(rng, 2, config)
    first, again, other = (
        tf.nest.flatten(module.prepare(batch, config, seed)) for seed in (SEED, SEED, SEED + 1)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def _loss_and_gradients(module, model, config, batch, seed=SEED):
    """The loss and its gradients; batch normalization at its moving averages."""
    inputs, targets = module.prepare(batch, config, seed)
    with tf.GradientTape() as tape:
        loss, _ = module.compute_loss(model(inputs, training=False), targets, config, 10**6)
    gradients = tape.gradient(
        loss, model.trainable_variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return loss.numpy(), [g.numpy() for g in gradients]


def _input_spec(model):
    """Signature of the model's input dict with unknown batch."""
    return {
        key: tf.TensorSpec([None, *value.shape[1:]], tf.float32, name=key)
        for key, value in model.input.items()
    }
