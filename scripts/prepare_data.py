"""Launches `metrabs-like-prepare-data` from a checkout."""

import sys

from metrabs_like.cli.prepare_data import main

if __name__ == "__main__":
    sys.exit(main())
