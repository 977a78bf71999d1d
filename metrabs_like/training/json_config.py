"""Configs of systems as JSON, for run folders and presets."""

import dataclasses
import json
import numbers

import numpy as np

_TYPES = {
    bool: ((bool, np.bool_), "true or false"),
    int: (numbers.Integral, "an integer"),
    float: (numbers.Real, "a number"),
    str: (str, "a text"),
}


def check_types(config):
    """Refuses values of fields that are not of the type they are declared with.

    Args:
      config: dataclass; fields of other types than bool, int, float and str are not looked at.

    Raises:
      ValueError: naming the field, its value and what it must be.
    """
    for field in dataclasses.fields(config):
        allowed, words = _TYPES.get(field.type, (object, ""))
        value = getattr(config, field.name)
        is_bool_for_number = isinstance(value, bool) and field.type in (int, float)
        if not isinstance(value, allowed) or is_bool_for_number or _is_too_large(value):
            raise ValueError(f"{field.name}={value!r}: must be {words}")


def _is_too_large(value):
    """Whether it is a whole number beyond what computers calculate with."""
    return isinstance(value, int) and value.bit_length() > 64


class JsonConfig:
    """Mixin for config dataclasses: to a JSON object and back."""

    def to_json(self):
        """Returns the config as a JSON object, one line a field."""
        # numbers of numpy are numbers, too
        return json.dumps(dataclasses.asdict(self), indent=2, default=lambda value: value.item())

    @classmethod
    def from_json(cls, text):
        """Reads what `to_json` wrote; absent fields get their defaults.

        Raises:
          ValueError: no JSON object, an unknown field, or a value the config refuses.
        """
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError(f"a config must be a JSON object, this is a {type(values).__name__}")
        unknown = sorted(set(values) - {f.name for f in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"the config has unknown fields {unknown}; remove them")
        return cls(**values)
