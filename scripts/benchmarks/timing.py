"""The timer that all benchmark modules share."""

import statistics
import time

import tensorflow as tf

_CALLS_PER_TURN = 5


def median_seconds(fn, *, warmup=3, repeats=20):
    """Returns the median wall time of a call.

    Args:
      fn: takes nothing; what it starts on an accelerator is waited for.
      warmup: calls before the clock starts (tracing, compiling, caches).
      repeats: calls that are timed one by one.

    Returns:
      Seconds.
    """
    return median_seconds_interleaved([fn], warmup=warmup, repeats=repeats)[0]


def median_seconds_interleaved(fns, *, warmup=3, repeats=20):
    """Returns the median wall time of several functions, timed in turns of up to five calls.

    A machine that slows down for a while then slows all of them, and their ratios stay fair. Turns
    of several calls leave each function its own caches.

    Args:
      fns: list of functions as for `median_seconds`.
      warmup: calls of each before the clock starts.
      repeats: timed calls of each.

    Returns:
      List of seconds.
    """
    for fn in fns:
        for _ in range(warmup):
            _run(fn)
    seconds = [[] for _ in fns]
    for done in range(0, repeats, _CALLS_PER_TURN):
        for fn, times in zip(fns, seconds, strict=True):
            for _ in range(min(_CALLS_PER_TURN, repeats - done)):
                start = time.perf_counter()
                _run(fn)
                times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in seconds]


def _run(fn):
    """Calls the function and waits for accelerators, without a copy that would be timed too."""
    fn()
    tf.test.experimental.sync_devices()
