"""Launches `metrabs-like-train` from a checkout."""

import sys

from metrabs_like.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
