"""Launches `metrabs-like-convert-weights` from a checkout."""

import sys

from metrabs_like.cli.convert_weights import main

if __name__ == "__main__":
    sys.exit(main())
