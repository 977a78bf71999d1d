"""What demos are made of: ordinary commands, printed before they run, and the time they took."""

import os
import shlex
import subprocess
import sys
import time


def run_command(name: str, *arguments: str) -> None:
    """Runs a command of the package in its own process, as a user would.

    Args:
      name: of the command's module, for example `prepare_data`.
      arguments: its flags.

    Raises:
      ValueError: if the command fails (its own message stands above).
    """
    shown = " ".join(shlex.quote(argument) for argument in arguments)
    console = f"metrabs-like-{name.replace('_', '-')}"
    print(f"\n$ {console} {shown}", flush=True)
    code = subprocess.call([sys.executable, "-m", f"metrabs_like.cli.{name}", *arguments])
    if code:
        raise ValueError(f"{console} ended with exit code {code}")


def print_files(*folders: str) -> None:
    """Prints the paths of the pictures and numbers in folders."""
    print("\npictures and numbers:")
    for folder in folders:
        for name in sorted(os.listdir(folder)):
            if name.endswith((".png", ".json", ".csv")):
                print(f"  {os.path.join(folder, name)}")


class Clock:
    """Seconds of each step, told by `str`."""

    def __init__(self):
        """Starts."""
        self._start = self._last = time.monotonic()
        self._laps = []

    def lap(self, name: str) -> None:
        """Ends the step of that name."""
        now = time.monotonic()
        self._laps.append((name, now - self._last))
        self._last = now

    def __str__(self):
        laps = ", ".join(f"{name} {seconds:.0f}" for name, seconds in self._laps)
        return f"demo: {self._last - self._start:.0f} s ({laps})"
