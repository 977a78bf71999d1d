"""Configs of systems as JSON, for run folders and presets."""

import dataclasses
import json


class JsonConfig:
    """Mixin for config dataclasses: to a JSON object and back."""

    def to_json(self):
        """Returns the config as a JSON object, one line a field."""
        return json.dumps(dataclasses.asdict(self), indent=2)

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
