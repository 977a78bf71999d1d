"""Launches the demo from a checkout: data, training, evaluation, export, prediction."""

import sys

from metrabs_like.cli.demo import main

if __name__ == "__main__":
    sys.exit(main())
