"""Optimizers by name, learning-rate factors for parts of a model, and both optimizer generations.

Conventions: gradients given to `apply` are final: already summed over replicas, unscaled, clipped.
"""

from __future__ import annotations

import inspect

import tensorflow as tf

from metrabs_like.training import schedules
from metrabs_like.training.config import TrainConfig
from metrabs_like.training.variables import resource_variables

_KERAS = dict(
    adadelta="Adadelta",
    adafactor="Adafactor",
    adagrad="Adagrad",
    adam="Adam",
    adamax="Adamax",
    adamw="AdamW",
    ftrl="Ftrl",
    lion="Lion",
    nadam="Nadam",
    rmsprop="RMSprop",
    sgd="SGD",
)
ADDONS_COMMAND = "pip install 'metrabs_like[addons]'"


class SplitOptimizer(tf.Module):
    """Several optimizers, each for its own variables, used as one.

    For learning rates that differ between parts of a model, such as a pretrained backbone and the
    head.
    """

    def __init__(self, groups):
        """Stores the groups.

        Args:
          groups: list of (optimizer, variables); no variable may be in two.
        """
        super().__init__(name="split_optimizer")
        self.optimizers = [optimizer for optimizer, _ in groups]
        self._groups = [[_identity(v) for v in variables] for _, variables in groups]

    def select(self, variables):
        """Returns, per optimizer, the indices of its variables in the list `variables`."""
        keys = [_identity(v) for v in variables]
        return [[i for i, key in enumerate(keys) if key in group] for group in self._groups]

    @property
    def learning_rate(self):
        """The learning rate of the last group (the head)."""
        return self.optimizers[-1].learning_rate


def make_optimizer(config: TrainConfig, variables, backbone_variables=()):
    """Builds the optimizer that `config.optimizer` names, with its schedule.

    Args:
      config: reads `optimizer`, the schedule's fields, `weight_decay`, `momentum`,
        `backbone_lr_factor`.
      variables: all variables to be trained (vectors among them are exempt from weight decay).
      backbone_variables: those whose learning rate is multiplied by `backbone_lr_factor`.

    Returns:
      A Keras optimizer, or a `SplitOptimizer` if the backbone's rate differs. Under a distribution
      strategy call this inside its scope.

    Raises:
      ValueError: for an unknown name, or a backbone factor without backbone variables.
      ImportError: for `tfa.*` where TensorFlow Addons is not installed, with the remedy.
    """
    factor = config.backbone_lr_factor
    if factor == 1:
        return _make_one(config, variables, 1.0)
    if not backbone_variables:
        raise ValueError(
            f"backbone_lr_factor={factor}: no backbone variables were given; pass "
            "backbone_variables= or set the factor to 1."
        )
    backbone = {_identity(v) for v in backbone_variables}
    parts = [v for v in variables if _identity(v) in backbone]
    rest = [v for v in variables if _identity(v) not in backbone]
    groups = [(_make_one(config, parts, factor), parts), (_make_one(config, rest, 1.0), rest)]
    return SplitOptimizer([group for group in groups if group[1]])


def build(optimizer, variables):
    """Creates the optimizer's slots now: needed before tracing under a strategy, and for restoring.

    Bridges three generations: Keras 3 and Keras 2.15 have `build`; the legacy class (TensorFlow
    Addons) creates its slots on request through `_create_all_weights`.
    """
    variables = list(variables)
    if isinstance(optimizer, SplitOptimizer):
        indices = optimizer.select(variables)
        if sum(map(len, indices)) != len(variables):
            raise ValueError(
                "the optimizer's groups do not cover the objective's variables once each."
            )
        for part, chosen in zip(optimizer.optimizers, indices, strict=True):
            build(part, [variables[i] for i in chosen])
    elif hasattr(optimizer, "build"):
        optimizer.build(variables)
    else:
        optimizer._create_all_weights(resource_variables(variables))


def apply(optimizer, gradients, variables):
    """Applies final gradients in a replica context, without another sum over replicas.

    Args:
      optimizer: a Keras optimizer of any generation, or a `SplitOptimizer`.
      gradients: list of tensors, already summed over replicas.
      variables: as many variables.
    """
    if isinstance(optimizer, SplitOptimizer):
        for part, chosen in zip(optimizer.optimizers, optimizer.select(variables), strict=True):
            apply(part, [gradients[i] for i in chosen], [variables[i] for i in chosen])
        return
    parameters = inspect.signature(optimizer.apply_gradients).parameters
    if "experimental_aggregate_gradients" in parameters:  # the legacy class
        pairs = zip(gradients, resource_variables(variables), strict=True)
        optimizer.apply_gradients(pairs, experimental_aggregate_gradients=False)
    elif "skip_gradients_aggregation" in parameters:  # Keras 2.15
        pairs = zip(gradients, variables, strict=True)
        optimizer.apply_gradients(pairs, skip_gradients_aggregation=True)
    else:  # Keras 3 always sums over replicas
        n = tf.distribute.get_strategy().num_replicas_in_sync
        gradients = [g / n for g in gradients] if n > 1 else gradients
        optimizer.apply_gradients(zip(gradients, variables, strict=True))


def current_learning_rate(optimizer, step) -> float:
    """Returns the rate of the present update as a float, for logs.

    Args:
      optimizer: a Keras optimizer of any generation, or a `SplitOptimizer` (its last group's).
      step: number of updates done.
    """
    rate = optimizer.learning_rate
    return float(tf.convert_to_tensor(rate(step) if callable(rate) else rate).numpy())


def _make_one(config, variables, factor):
    schedule = schedules.make_schedule(config, factor)
    # AdamW without decay is Adam; Keras' AdamW would still spend an operation on each variable.
    is_adam = config.optimizer == "adamw" and not config.weight_decay
    cls = _optimizer_class("adam" if is_adam else config.optimizer)
    accepted = inspect.signature(cls.__init__).parameters
    settings = dict(learning_rate=schedule)
    if config.weight_decay:
        if "weight_decay" not in accepted:
            raise ValueError(
                f"optimizer={config.optimizer!r} has no weight decay but weight_decay="
                f"{config.weight_decay}: set it to 0 or choose 'adamw'."
            )
        settings["weight_decay"] = config.weight_decay
    if config.optimizer in ("sgd", "rmsprop"):
        settings["momentum"] = config.momentum
    try:
        optimizer = cls(**settings)
    except TypeError as error:
        raise ValueError(
            f"optimizer={config.optimizer!r} cannot be built from a learning rate alone ({error}): "
            "choose another."
        ) from error
    exempt = [v for v in variables if len(v.shape) <= 1]
    if config.weight_decay and exempt and hasattr(optimizer, "exclude_from_weight_decay"):
        optimizer.exclude_from_weight_decay(var_list=exempt)
    return optimizer


def _optimizer_class(name):
    if name.startswith("tfa."):
        return _addons_class(name)
    class_name = _KERAS.get(name.lower())
    if class_name is None or not hasattr(tf.keras.optimizers, class_name):
        known = ", ".join(k for k, v in _KERAS.items() if hasattr(tf.keras.optimizers, v))
        raise ValueError(f"optimizer={name!r}: use one of {known}, or tfa.NAME in the addons lane.")
    return getattr(tf.keras.optimizers, class_name)


def _addons_class(name):
    try:
        import tensorflow_addons as tfa
    except Exception as error:  # its import dies in many ways beside a newer TensorFlow
        raise ImportError(
            f"optimizer={name!r} needs TensorFlow Addons, which TensorFlow {tf.__version__} here "
            f"does not have: run `{ADDONS_COMMAND}` in a Python 3.10 or 3.11 environment "
            "(in a checkout: `make install-addons`)."
        ) from error
    cls = getattr(tfa.optimizers, name.removeprefix("tfa."), None)
    if not (inspect.isclass(cls) and hasattr(cls, "apply_gradients")):
        raise ValueError(f"optimizer={name!r}: tensorflow_addons.optimizers has no such optimizer.")
    return cls


def _identity(variable):
    """A key by which the same variable is found again, wrapped or not."""
    return id(resource_variables([variable])[0])
