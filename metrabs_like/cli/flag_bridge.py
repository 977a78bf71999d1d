"""Command-line flags generated from frozen configuration dataclasses.

Conventions: a config field `learning_rate` under prefix `train` is the flag
  `--train_learning_rate`; type and default
come from the dataclass, so that a default is written once; the help text is the field's line in the
class docstring's `Attributes:` section (or `metadata={"help": ...}`). Nothing here touches
`flags.FLAGS`: every function takes the `FlagValues` it works on.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Mapping

from absl import flags


def flag_name(prefix: str, field: str) -> str:
    """Returns the name of a field's flag: `train`, `learning_rate` make `train_learning_rate`."""
    return f"{prefix}_{field}"


def config_fields(config_class, exclude=()) -> list[dataclasses.Field]:
    """Lists the fields of a config that become flags: all that its constructor takes, in order.

    Args:
      config_class: a dataclass.
      exclude: names of fields that the command sets itself.

    Raises:
      ValueError: if a name in `exclude` is no field.
    """
    fields = [field for field in dataclasses.fields(config_class) if field.init]
    unknown = set(exclude) - {field.name for field in fields}
    if unknown:
        raise ValueError(f"{config_class.__name__} has no field {sorted(unknown)} to exclude")
    return [field for field in fields if field.name not in exclude]


def field_help(config_class) -> dict[str, str]:
    """Reads one help text per field: its metadata, or the docstring's `Attributes:` section.

    Raises:
      ValueError: if a field has neither: a flag without help is not allowed.
    """
    described = _attributes_section(inspect.getdoc(config_class) or "")
    texts = {}
    for field in dataclasses.fields(config_class):
        text = field.metadata.get("help") or described.get(field.name)
        if not text:
            raise ValueError(
                f"{config_class.__name__}.{field.name} is not described: "
                "add it to the Attributes section"
            )
        texts[field.name] = text
    return texts


def define_flags(
    config_class,
    prefix: str,
    flag_values: flags.FlagValues,
    *,
    aliases: Mapping[str, str] | None = None,
    exclude=(),
) -> None:
    """Defines one flag per field of a config.

    Args:
      config_class: a dataclass whose fields are bool, int, float, str, `Literal[...]`, tuples of
        one of int, float and str, one of these `| None`, or `str | SomeObject`.
      prefix: first part of the flag names.
      flag_values: where the flags are defined.
      aliases: other name -> field, e.g. `{"proc_side": "proc_side"}` for `--proc_side`.
      exclude: names of fields that get no flag.

    Raises:
      ValueError: for a field that has no help, no default or another type.
    """
    helps = field_help(config_class)
    hints = typing.get_type_hints(config_class)
    for field in config_fields(config_class, exclude):
        default = _default(config_class, field)
        _define(
            flag_name(prefix, field.name),
            hints[field.name],
            default,
            helps[field.name],
            flag_values,
        )
    for alias, field_name in (aliases or {}).items():
        flags.DEFINE_alias(alias, flag_name(prefix, field_name), flag_values)


def build(config_class, prefix: str, flag_values: flags.FlagValues, *, exclude=(), **overrides):
    """Builds a config from the parsed flags.

    Args:
      config_class: the dataclass given to `define_flags`.
      prefix: the prefix given there.
      flag_values: parsed flags.
      exclude: fields without flags; they take their default or an override.
      **overrides: field values that the command sets itself.

    Returns:
      An instance of `config_class`.

    Raises:
      ValueError: what the config's own validation says, with the flags' prefix added.
    """
    hints = typing.get_type_hints(config_class)
    values = {}
    for field in config_fields(config_class, exclude):
        value = flag_values[flag_name(prefix, field.name)].value
        if _is_tuple(_typed_form(hints[field.name])) and value is not None:
            value = tuple(value)
        values[field.name] = value
    values.update(overrides)
    try:
        return config_class(**values)
    except ValueError as error:
        raise ValueError(f"{error} (flags --{prefix}_...)") from error


def flagfile_text(flag_values: flags.FlagValues, names) -> str:
    """Writes flags as a flagfile that repeats the command.

    One line per flag whose value is not None, sorted by name.

    Args:
      flag_values: parsed flags.
      names: which of them.
    """
    lines = []
    for name in sorted(names):
        serialized = flag_values[name].serialize()
        if serialized:
            lines.append(serialized)
    return "\n".join(lines) + "\n"


def _attributes_section(doc: str) -> dict[str, str]:
    """Parses the Google-style `Attributes:` section into name -> text."""
    match = re.search(r"^Attributes:\n((?:[ \t]+.*\n?|\n)*)", doc, flags=re.MULTILINE)
    entries, name = {}, None
    for line in match.group(1).splitlines() if match else ():
        start = re.match(r"  (\w+)(?: \([^)]*\))?:\s*(.*)", line)
        if start:
            name = start.group(1)
            entries[name] = start.group(2)
        elif name and line.strip():
            entries[name] += " " + line.strip()
    return {key: value.strip() for key, value in entries.items()}


def _default(config_class, field):
    """Returns a field's default; flags are optional, so each field needs one."""
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    raise ValueError(f"{config_class.__name__}.{field.name} has no default, so it cannot be a flag")


def _typed_form(hint):
    """Turns `X | None` into `X`, and `str | Object` into `str`: an object cannot be typed."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        if len(options) == 1:
            return options[0]
        if str in options:
            return str
    return hint


def _is_tuple(hint) -> bool:
    return hint is tuple or typing.get_origin(hint) is tuple


def _define(name, hint, default, text, flag_values) -> None:
    """Defines one flag by its annotated type."""
    hint = _typed_form(hint)
    if typing.get_origin(hint) is typing.Literal:
        flags.DEFINE_enum(name, default, list(typing.get_args(hint)), text, flag_values)
    elif _is_tuple(hint):
        _define_tuple(name, hint, default, text, flag_values)
    elif hint in _DEFINERS:
        _DEFINERS[hint](name, default, text, flag_values)
    else:
        raise ValueError(f"--{name}: a field of type {hint} cannot be a flag")


def _define_tuple(name, hint, default, text, flag_values) -> None:
    """Defines a comma-separated flag for a tuple of equal element types."""
    elements = {element for element in typing.get_args(hint) if element is not Ellipsis}
    converter = elements.pop() if len(elements) == 1 else None
    if converter not in (int, float, str):
        raise ValueError(f"--{name}: a tuple field must hold one of int, float, str, not {hint}")
    length = None if Ellipsis in typing.get_args(hint) else len(typing.get_args(hint))
    parser = _TupleParser(converter, length)
    default = None if default is None else ",".join(str(value) for value in default)
    flags.DEFINE(parser, name, default, text, flag_values, serializer=_TupleSerializer())


class _TupleParser(flags.ArgumentParser):
    """Parses `1,2,3` into a list of one element type, of a fixed length where there is one."""

    def __init__(self, converter, length):
        super().__init__()
        self._converter = converter
        self._length = length

    def parse(self, argument):
        """Returns the list; raises ValueError naming what does not fit."""
        parts = argument.split(",") if isinstance(argument, str) and argument else list(argument)
        try:
            values = [self._converter(part) for part in parts]
        except ValueError as error:
            kind = self._converter.__name__
            raise ValueError(f"expected {kind}s separated by commas, not {argument!r}") from error
        if self._length is not None and len(values) != self._length:
            raise ValueError(
                f"expected {self._length} values separated by commas, not {argument!r}"
            )
        return values

    def flag_type(self):
        """Names the type in help texts."""
        return f"comma separated {self._converter.__name__}s"


class _TupleSerializer(flags.ArgumentSerializer):
    def serialize(self, value):
        """Writes the list as it is typed."""
        return ",".join(str(element) for element in value)


_DEFINERS = {
    bool: lambda name, default, text, values: flags.DEFINE_boolean(name, default, text, values),
    int: lambda name, default, text, values: flags.DEFINE_integer(
        name, default, text, flag_values=values
    ),
    float: lambda name, default, text, values: flags.DEFINE_float(
        name, default, text, flag_values=values
    ),
    str: lambda name, default, text, values: flags.DEFINE_string(name, default, text, values),
}
