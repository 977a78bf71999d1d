"""What prepare_data says about a finished data set."""

import pytest

from metrabs_like import skeletons
from metrabs_like.cli import prepared_report
from metrabs_like.data.dataset_info import COUNT_OF_KIND, DatasetInfo


def make_info(*kinds, skeleton="smpl_24", **fields):
    counts = {"n_images": 7, "n_people": 9, "n_skipped": 0}
    counts |= {name: 5 if kind in kinds else 0 for kind, name in COUNT_OF_KIND.items()}
    fields = {"name": "agora3", "counts": counts} | fields
    return DatasetInfo(kind=kinds[0], skeleton=skeletons.get(skeleton).to_dict(), **fields)


def test_examples_are_counted_against_the_original():
    text = "\n".join(prepared_report.lines(make_info("param", "kp3d", expected=5264), "data"))
    assert "agora3: 5 examples of about 5264" in text
    assert "about" not in "\n".join(prepared_report.lines(make_info("kp3d"), "data"))


def test_what_was_dropped_is_named_with_its_reason():
    info = make_info("kp3d", dropped={"box under 100 px": 3, "occluded": 4})
    info.skipped.extend([f"{i}.png", "is truncated"] for i in range(23))
    text = prepared_report.lines(info, "data")
    assert "dropped 3: box under 100 px" in text and "dropped 4: occluded" in text
    assert "skipped 0.png: is truncated" in text and "skipped 20.png: is truncated" not in text
    assert "... and 3 more, listed in data/dataset.json" in text


@pytest.mark.parametrize(
    ("kinds", "fields", "expected"),
    [
        (("kp3d", "kp2d"), {}, "--sources=kp3d:d:32"),
        (("kp2d",), {"skeleton": "coco_17"}, "--sources=kp2d:d:32"),
        (
            ("param", "kp3d", "kp2d"),
            {"body_model": {"name": "smpl"}},
            "--sources=param:d:32,kp3d:d:32 --metrabs_body_model=SMPL_FILE",
        ),
        (
            ("dense", "kp2d"),
            {"skeleton": "coco_17", "body_model": {"name": "procedural"}},
            "--sources=dense:d:32,kp2d:d:32 --metrabs_head=field",
        ),
        (
            ("kp3d",),
            {"skeleton": "mads_19"},
            "--sources=kp3d:d:32 --metrabs_skeleton=smpl_24+coco_17+mads_19",
        ),
    ],
)
def test_training_flags(kinds, fields, expected):
    assert prepared_report.training_flags(make_info(*kinds, **fields), "d") == expected


def test_nobody_means_nothing_to_train_on():
    info = make_info("kp3d")
    info.counts["n_people"] = 0
    assert prepared_report.lines(info, "d")[-1].startswith("no person in any image")
