"""Launches `metrabs-like-export` from a checkout."""

import sys

from metrabs_like.cli.export import main

if __name__ == "__main__":
    sys.exit(main())
