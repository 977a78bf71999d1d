"""Launches the demo of the detector from a checkout: crowds, training, evaluation, prediction."""

import sys

from metrabs_like.cli.demo_centernet import main

if __name__ == "__main__":
    sys.exit(main())
