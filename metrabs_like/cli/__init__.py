"""Command-line programs; the only place that reads flags."""

import os

# On a machine without a GPU TensorFlow reports an error at every start; real ones are raised too.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
