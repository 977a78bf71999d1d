"""The systems that the commands know: one literal dict, the only place that names them."""

from types import ModuleType

from metrabs_like.systems import metrabs

SYSTEMS: dict[str, ModuleType] = {"metrabs": metrabs}

# Flag names of the original programs, kept beside the generated ones: alias -> config field.
ALIASES: dict[str, dict[str, str]] = {
    "metrabs": {
        "proc_side": "proc_side",
        "box_size_m": "box_size_m",
        "absloss_factor": "absloss_factor",
        "absloss_start_step": "absloss_start_step",
    }
}
TRAIN_ALIASES: dict[str, str] = {"grad_accum_steps": "grad_accum_steps"}


def get(name: str) -> ModuleType:
    """Returns the system of a name.

    Raises:
      ValueError: if there is none, with the names that exist.
    """
    if name not in SYSTEMS:
        raise ValueError(f"--system={name}: there is no such system; one of {', '.join(SYSTEMS)}")
    return SYSTEMS[name]
