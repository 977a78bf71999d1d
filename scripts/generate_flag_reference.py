"""Writes flags/README.md from the flags that the commands define."""

import pathlib

from metrabs_like.cli import flag_reference

FLAGS_DIR = pathlib.Path(__file__).resolve().parents[1] / "flags"

if __name__ == "__main__":
    target = FLAGS_DIR / "README.md"
    target.write_text(flag_reference.markdown(str(FLAGS_DIR)))
    print(f"written: {target}")
