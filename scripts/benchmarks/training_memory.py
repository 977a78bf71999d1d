"""Peak memory of an update with several micro-batches against one, each in a process of its own.

The micro-batch stays the same, so the update's batch grows k-fold; only its compact input (uint8
windows and labels) grows with it. `python training_memory.py K` is one such process.
"""

import json
import pathlib
import re
import subprocess
import sys

_FOLDER = pathlib.Path(__file__).resolve().parent
_MICRO_BATCH = 32
_N_MICRO_BATCHES = 4
_N_UPDATES = 4
_TARGET = 1.15


def rows(device):
    """Measures peak memory for one and for four micro-batches of the tiny model.

    Args:
      device: "cpu" (maximal resident size of the process) or "gpu" (TensorFlow's allocator).

    Yields:
      Rows with `name`, `value`, `unit` and `target`.
    """
    peaks = {}
    for k in (1, _N_MICRO_BATCHES):
        peaks[k] = _measured_apart(k, device)
        for name, value in peaks[k].items():
            yield {
                "name": f"{k} x {_MICRO_BATCH} images, {name}",
                "value": value,
                "unit": "MB",
                "target": None,
            }
    ratio = peaks[_N_MICRO_BATCHES]["peak"] / peaks[1]["peak"]
    yield {
        "name": f"peak with {_N_MICRO_BATCHES} micro-batches over that with one",
        "value": ratio,
        "unit": "x",
        "target": f"<= {_TARGET}",
    }


def _measured_apart(k, device):
    command = [sys.executable, __file__, str(k), device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-1000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _child(k, device):
    """Prints the peak memory of some updates, and what the process had before the first."""
    sys.path.insert(0, str(_FOLDER.parents[1]))
    import tensorflow as tf

    from metrabs_like.systems import metrabs
    from scripts.benchmarks import training_step

    with tf.device("/GPU:0" if device == "gpu" else "/CPU:0"):
        config = metrabs.Config(backbone="tiny", proc_side=128, stride=16)
        batch = training_step.made_up_batch(config, k * _MICRO_BATCH)
        step = training_step.whole_step(config, batch, k)
        before = _memory_mb(device)
        for _ in range(_N_UPDATES):
            step()
    print(json.dumps({"before the first update": before, "peak": _memory_mb(device)}))


def _memory_mb(device):
    if device == "gpu":
        import tensorflow as tf

        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e6
    # not `ru_maxrss`: a child process starts with its parent's
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e6


if __name__ == "__main__":
    _child(int(sys.argv[1]), sys.argv[2])
