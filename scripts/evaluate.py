"""Launches `metrabs-like-evaluate` from a checkout."""

import sys

from metrabs_like.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
