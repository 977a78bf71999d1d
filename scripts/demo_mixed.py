"""Launches the demo of mixed data sets from a checkout: native fixtures, then all its steps.

    make demo-mixed COCO_DIR=coco     (or: python scripts/demo_mixed.py --coco_dir=coco)

The fixtures are those of the tests: synthetic people in the native layouts of the five data sets.
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from metrabs_like.cli import demo_mixed  # noqa: E402
from tests.native import agora, behave, coco, densepose, mads, scene  # noqa: E402


def write_native(name, folder, n_pictures):
    """Writes a fixture.

    Args:
      name: of the data set, a key of `demo_mixed.NATIVE`.
      folder: to write to.
      n_pictures: how many pictures, before several cameras see each.
    """
    seed = 5000 + sorted(demo_mixed.NATIVE).index(name)
    n_people = 2 if name in ("agora3", "coco") else 1
    records = scene.people(n_pictures, seed, n_people=n_people)
    if name == "agora3":
        agora.write(folder, records, names=tuple(agora.CAMERAS))
    else:
        modules = {"behave": behave, "mads": mads, "coco": coco, "densepose_coco": densepose}
        modules[name].write(folder, records)


if __name__ == "__main__":
    sys.exit(demo_mixed.main(write_native=write_native))
