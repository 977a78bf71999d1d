"""Launches `metrabs-like-predict` from a checkout."""

import sys

from metrabs_like.cli.predict import main

if __name__ == "__main__":
    sys.exit(main())
