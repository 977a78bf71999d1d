"""Counters of optimizer updates."""


def adjusted_train_counter(train_counter, grad_accum_steps):
    """Converts a count of micro-batches to a count of optimizer updates.

    Args:
      train_counter: int or integer tensor, micro-batches seen so far.
      grad_accum_steps: int >= 1, micro-batches per update.

    Returns:
      `train_counter // grad_accum_steps`, of the counter's type.

    Raises:
      ValueError: if `grad_accum_steps` is below 1.

    References:
      Released code of Neural Localizer Fields.
    """
    if grad_accum_steps < 1:
        raise ValueError(f"grad_accum_steps={grad_accum_steps}: must be at least 1.")
    return train_counter // grad_accum_steps
