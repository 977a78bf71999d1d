"""Launches `metrabs-like-inspect-data` from a checkout."""

import sys

from metrabs_like.cli.inspect_data import main

if __name__ == "__main__":
    sys.exit(main())
