"""Runs all benchmarks of scripts/benchmarks in this one process: one table, and JSON.

    python scripts/benchmark.py --device=cpu --output=benchmark.json

Each module there with a function `rows(device)` contributes: it yields mappings with a `name`
and the measured numbers. A module that cannot run on the device says so in a row of its own; one
that raises becomes a row with its error, and the exit code is 1. `--only=a,b` picks modules; those
that take long (`IS_LONG = True`) run only when picked.
"""

import argparse
import importlib
import json
import os
import pathlib
import platform
import sys
import time
import traceback

FOLDER = pathlib.Path(__file__).resolve().parent / "benchmarks"
sys.path.insert(0, str(FOLDER.parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def modules(only):
    """Yields (name, module) of the benchmarks; helpers without `rows` are named and left out.

    Args:
      only: names to take, or none for all.

    Raises:
      SystemExit: if a name is no benchmark.
    """
    names = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise SystemExit(f"error: --only={','.join(unknown)}: choose from {', '.join(names)}")
    for name in only or names:
        module = importlib.import_module(f"scripts.benchmarks.{name}")
        if hasattr(module, "rows") and (only or not getattr(module, "IS_LONG", False)):
            yield name, module
        elif hasattr(module, "rows"):
            print(f"{name}: takes long, run it with --only={name}", flush=True)
        else:
            print(f"{name}: has no rows(device): a helper, or a program of its own", flush=True)


def measure(name, module, device):
    """Returns the rows of one module; an exception becomes a row, so that the others still run."""
    print(f"\n== {name}", flush=True)
    start, found = time.monotonic(), []
    try:
        for row in module.rows(device):
            found.append({"benchmark": name, **row})
            print(line(found[-1]), flush=True)
    except Exception as error:
        traceback.print_exc()
        found.append({"benchmark": name, "name": "FAILED", "error": f"{error}"})
    print(f"   {time.monotonic() - start:.0f} s", flush=True)
    return found


def line(row):
    """Formats one row: its name, then its values, lists left to the JSON."""
    values = [
        f"{key} {_number(value)}"
        for key, value in row.items()
        if key not in ("benchmark", "name") and not isinstance(value, (list, dict))
    ]
    return f"{row.get('name', ''):<56} " + "  ".join(values)


def _number(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def check_device(device):
    """Ends the program where the asked-for device is missing, rather than measure another one."""
    import tensorflow as tf

    if device == "gpu" and not tf.config.list_physical_devices("GPU"):
        raise SystemExit("error: --device=gpu: TensorFlow finds no GPU here; nothing was measured")
    return {
        "device": device,
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load_average": os.getloadavg()[0],
    }


def main():
    """Runs the benchmarks; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--only", default="", help="modules, comma separated")
    parser.add_argument("--output", default="", help="JSON file to write")
    arguments = parser.parse_args()
    machine = check_device(arguments.device)
    print("  ".join(f"{key} {value}" for key, value in machine.items()))
    only = [name for name in arguments.only.split(",") if name]
    results = []
    for name, module in modules(only):
        results += measure(name, module, arguments.device)
    print("\n" + "\n".join(f"{row['benchmark']:<16} {line(row)}" for row in results))
    if arguments.output:
        pathlib.Path(arguments.output).write_text(
            json.dumps({"machine": machine, "rows": results}, indent=1, default=float) + "\n"
        )
        print(f"written: {arguments.output}")
    failed = [row for row in results if "error" in row]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
