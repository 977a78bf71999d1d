"""How every command runs: flags on a fresh `FlagValues`, errors as one clear line, exit codes.

A command is a module with `define_flags(flag_values)`, `run(flag_values)` and `main(argv=None)`,
the last being `return app.run_command(define_flags, run, argv, __doc__)`. Its flags never touch
`flags.FLAGS`, so commands can be called from one another's process (tests, `make demo`, notebooks).

Conventions: exit code 0 done, 1 the work could not be done, 2 the command line is wrong.
"""

import contextlib
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence

from absl import flags

DONE, FAILED, MISUSED = 0, 1, 2
COMMON_FLAGS = ("help", "h", "debug")
# What the library raises for input, files and diverged runs; its messages are for users.
_EXPECTED = (ValueError, OSError, FloatingPointError, flags.Error)


def run_command(
    define_flags: Callable[[flags.FlagValues], None],
    run: Callable[[flags.FlagValues], None],
    argv: Sequence[str] | None,
    description: str,
) -> int:
    """Parses `argv`, runs the command and turns failures into a message and an exit code.

    Args:
      define_flags: defines the command's flags on the given `FlagValues`.
      run: does the work; raises ValueError, OSError, ImportError, FloatingPointError or TensorFlow
        errors whose messages tell field, value and remedy.
      argv: arguments with the program's name first; None takes `sys.argv`.
      description: what `--help` prints above the flags.

    Returns:
      The exit code. Errors of other kinds are defects of this program and keep their traceback;
      `--debug` shows the traceback of every error.
    """
    argv = list(sys.argv if argv is None else argv)
    program = os.path.basename(argv[0])
    try:
        values = parse(define_flags, argv)
    except (flags.Error, ValueError) as error:
        return _fail(f"{error} (`{program} --help` lists the flags)", MISUSED)
    if values.help:
        print(f"{description.strip()}\n\nflags:\n{values.get_help()}")
        return DONE
    try:
        run(values)
    except ImportError as error:
        if error.name:  # a broken installation, not a package that an option asks for
            raise
        return _fail(str(error), FAILED, debug=values.debug)
    except _EXPECTED as error:
        return _fail(_describe(error), FAILED, debug=values.debug)
    except Exception as error:
        if not _is_tensorflow_error(error):
            raise
        return _fail(_describe(error), FAILED, debug=values.debug)
    return DONE


def parse(
    define_flags: Callable[[flags.FlagValues], None], argv: Sequence[str]
) -> flags.FlagValues:
    """Parses `argv` (program name first) on fresh flags; `--flagfile=` works.

    Raises:
      absl.flags.Error: for an unknown flag (with the close matches) or a value that does not fit.
      ValueError: for an argument that is no flag, or a missing flagfile.
    """
    values = flags.FlagValues()
    flags.DEFINE_boolean("help", False, "Prints the flags and exits.", values, short_name="h")
    flags.DEFINE_boolean("debug", False, "Shows the traceback of errors.", values)
    define_flags(values)
    rest = values(list(argv))[1:]
    if rest:
        raise ValueError(f"unexpected argument {rest[0]!r}: every argument is a --flag=value")
    return values


def require(values: flags.FlagValues, *names: str) -> None:
    """Checks that flags without a default were given.

    Raises:
      ValueError: naming the missing flag.
    """
    for name in names:
        if not values[name].value:
            raise ValueError(f"--{name} is missing: {values[name].help}")


def writable_folder(path: str, flag: str) -> str:
    """Creates a folder and checks that it can be written to, before any work is done.

    Raises:
      ValueError: naming the flag and the path.
    """
    try:
        os.makedirs(path, exist_ok=True)
        probe = os.path.join(path, f".writable-{os.getpid()}")
        with open(probe, "w"):
            pass
        os.remove(probe)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"--{flag}={path} cannot be written to ({reason}): name a folder that you own"
        ) from error
    return path


@contextlib.contextmanager
def plain_warnings() -> Iterator[list[Warning]]:
    """Shows the warnings that are given inside as one line each, at the end, also of an error.

    Yields:
      A list that holds them after the block, each text once: one folder may serve two sources.
    """
    messages = []
    caught = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            yield messages
    finally:
        messages += {str(warning.message): warning.message for warning in caught}.values()
        for message in messages:
            print(f"warning: {message}", file=sys.stderr)


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """Yields a hidden file beside `path` that takes its place at the end, if all went well.

    An earlier file is never half overwritten.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{os.getpid()}-{name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def _is_tensorflow_error(error) -> bool:
    """Tells whether TensorFlow raised it, without importing TensorFlow itself."""
    errors = getattr(sys.modules.get("tensorflow"), "errors", None)
    return errors is not None and isinstance(error, errors.OpError)


def _describe(error) -> str:
    """One paragraph for an error: TensorFlow's carry graph locations that no user can act on."""
    if _is_tensorflow_error(error):
        first_line = str(error.message).split("\n", 1)[0]
        return re.sub(r"\{\{[^}]*\}\}\s*|\s*\[Op:\w*\].*", "", first_line)
    return str(error)


def _fail(message, code, *, debug=False) -> int:
    if debug:
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)
    return code
