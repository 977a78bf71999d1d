"""The inspect_data command: one sheet a source, what it says, and what it refuses."""

import os
import pathlib
import shutil

import cv2
import numpy as np
import pytest

from metrabs_like import skeletons
from metrabs_like.cli import inspect_data, run_folder
from metrabs_like.data import preparation, records
from metrabs_like.data.synthetic.body_model import procedural_body
from metrabs_like.geometry.body_model import posed_arrays

from .conftest import TINY_MODEL


def inspect(folder, *more):
    return inspect_data.main(["inspect_data", f"--output_dir={folder}", *TINY_MODEL, *more])


def read(path):
    return cv2.imread(str(path))[..., ::-1]


SIDE = 256
UPRIGHT = np.array([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 4]])  # seen from the front, 4 m away


def body_records(shard_index):
    """Black pictures of one body at rest, with its parameters, joints and 20 surface points."""
    rng = np.random.default_rng(shard_index)
    body = procedural_body()
    vertices, joints = posed_arrays(body, np.zeros((24, 3)))
    faces = body.faces[rng.integers(len(body.faces), size=20)]
    k = np.array([[400.0, 0, SIDE / 2], [0, 400, SIDE / 2], [0, 0, 1]])

    def project(points):
        points = points @ UPRIGHT[:, :3].T + UPRIGHT[:, 3]
        return points, (points @ k.T)[:, :2] / points[:, 2:]

    joints3d, joints2d = project(joints)
    marked = project(vertices[faces].mean(axis=1))[1]
    outline = project(vertices)[1]
    box = np.concatenate([outline.min(axis=0), np.ptp(outline, axis=0)])
    encoded = cv2.imencode(".png", np.zeros((SIDE, SIDE, 3), np.uint8))[1].tobytes()
    is_valid = np.ones(24, bool)
    for i in range(4):
        person = records.Person(box, joints3d, is_valid, joints2d, is_valid)
        person.body = records.BodyParameters(np.zeros((24, 3)), np.zeros(10), np.zeros(3), UPRIGHT)
        person.surface = records.SurfacePoints(faces, np.full((20, 3), 1 / 3), marked)
        yield records.Record(encoded, SIDE, SIDE, str(i), "bodies", k, people=[person])


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    """A data set of such records."""
    folder = str(tmp_path_factory.mktemp("bodies"))
    info = records.DatasetInfo(
        name="my bodies",
        kind="param",
        skeleton=skeletons.get("smpl_24").to_dict(),
        body_model={"name": "procedural", "n_vertices": procedural_body().n_vertices},
    )
    preparation.write_dataset([body_records], folder, info, n_processes=1, progress=False)
    return folder


def test_bodies_and_their_surfaces(bodies, tmp_path, capsys):
    sources = f"--sources=param:{bodies}:2,dense:{bodies}:3"
    more = ("--metrabs_head=field", "--metrabs_n_surface_points=40", "--n_images=4")
    assert inspect(tmp_path, sources, *more) == 0
    printed = capsys.readouterr().out
    assert "valid points: 100.0% of 24 joints, 100.0% of 40 surface" in printed
    assert "valid points: 0.0% of 24 joints, 50.0% of 40 surface" in printed
    param = read(tmp_path / "contact_sheet_0_param_my_bodies.png")
    dense = read(tmp_path / "contact_sheet_1_dense_my_bodies.png")
    colors = [np.ptp(sheet.astype(int), axis=-1).max() for sheet in (param, dense)]
    assert colors[0] > 150 and colors[1] == 0  # limbs in colour; white dots on black pictures
    assert 0.002 < np.mean(dense > 200) < np.mean(param.max(axis=-1) > 150)


def test_surface_points_need_a_head_for_them(bodies, tmp_path, capsys):
    assert inspect(tmp_path, f"--sources=dense:{bodies}:3") == 1
    assert "head" in capsys.readouterr().err


def test_one_sheet_for_each_source(dataset, held_out, tmp_path, capsys):
    sources = f"kp3d:{dataset}:4,kp2d:{held_out}:2:full_rotation=0.5:colour=0"
    assert inspect(tmp_path / "out", f"--sources={sources}", "--n_images=4") == 0
    names = ["contact_sheet_0_kp3d_synthetic.png", "contact_sheet_1_kp2d_synthetic.png"]
    assert sorted(os.listdir(tmp_path / "out")) == names
    printed = capsys.readouterr().out
    for text in (
        f"source 0: kp3d synthetic ({dataset})",
        "20 people in 20 images",
        "4 in every batch",
        "changes asked for: colour 1\n",
        "changes asked for: full_rotation 0.5\n",
        "images: 64 x 64 px",
        "valid points: 100.0% of 24 joints",
        str(tmp_path / "out" / names[0]),
        str(tmp_path / "out" / names[1]),
    ):
        assert text in printed
    first, second = (read(tmp_path / "out" / name) for name in names)
    # 4 crops of 64 px, enlarged three times, in 3 columns and 2 rows under a caption.
    assert first.shape[1] == 3 * 196 + 4 and first.shape[0] > 2 * 196
    assert np.any(first[: second.shape[0]] != second[: first.shape[0]])


def test_points_are_drawn_where_the_people_are(dataset, tmp_path):
    """The orange and blue of limbs, and only there: away from the points are the crops alone."""
    sources = f"--sources=kp3d:{dataset}:4"
    assert inspect(tmp_path / "a", sources, "--n_images=4", "--metrabs_skeleton=coco_17") == 0
    assert inspect(tmp_path / "b", sources, "--n_images=4") == 0
    sheets = [
        read(p / "contact_sheet_0_kp3d_synthetic.png") for p in (tmp_path / "a", tmp_path / "b")
    ]
    for sheet in sheets:
        for color in ((240, 140, 0), (40, 160, 255)):
            assert np.mean(np.abs(sheet.astype(int) - color).max(axis=-1) < 12) > 0.0005
    differing = np.any(sheets[0][-300:] != sheets[1][-300:], axis=-1)
    assert 0.01 < differing.mean() < 0.5  # same crops, other joints


def test_takes_the_flags_of_a_run(finished_run, dataset, tmp_path, capsys):
    flagfile = os.path.join(finished_run, run_folder.FLAGS_FILE)
    argv = ["inspect_data", f"--flagfile={flagfile}", f"--output_dir={tmp_path}", "--n_images=1"]
    assert inspect_data.main(argv) == 0
    assert f"({dataset})" in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path)) == ["contact_sheet_0_kp3d_synthetic.png"]


def test_same_flags_draw_the_same_sheet(dataset, tmp_path):
    for name in ("a", "b"):
        assert inspect(tmp_path / name, f"--sources=kp3d:{dataset}:4", "--n_images=4") == 0
    sheets = [read(tmp_path / n / "contact_sheet_0_kp3d_synthetic.png") for n in "ab"]
    np.testing.assert_array_equal(*sheets)
    seed = "--train_seed=77"
    assert inspect(tmp_path / "c", f"--sources=kp3d:{dataset}:4", "--n_images=4", seed) == 0
    assert np.any(read(tmp_path / "c" / "contact_sheet_0_kp3d_synthetic.png") != sheets[0])


def test_not_more_crops_than_people(dataset, tmp_path):
    assert inspect(tmp_path, f"--sources=kp3d:{dataset}:4", "--n_images=500") == 0
    sheet = read(tmp_path / "contact_sheet_0_kp3d_synthetic.png")
    assert sheet.shape[1] == 6 * 196 + 4  # 20 crops


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        ([], 1, "--sources is missing"),
        (["--sources=kp3d:{absent}:4"], 1, "holds no prepared data set"),
        (["--sources=kp3d:{empty}:4"], 1, "holds no prepared data set"),
        (["--sources=kp3d:folder"], 1, "KIND:FOLDER:COUNT"),
        (["--sources=kp3d:{dataset}:4", "--n_image=3"], 2, "n_images"),
        (["--sources=kp3d:{dataset}:4", "--n_images=0"], 2, "n_images"),
    ],
)
def test_wrong_input_is_explained(dataset, tmp_path, capsys, more, code, message):
    (tmp_path / "empty").mkdir()
    places = {"absent": tmp_path / "absent", "empty": tmp_path / "empty", "dataset": dataset}
    assert inspect(tmp_path / "out", *(text.format(**places) for text in more)) == code
    assert message in capsys.readouterr().err


def test_folder_must_be_named(dataset, capsys):
    argv = ["inspect_data", f"--sources=kp3d:{dataset}:4", *TINY_MODEL]
    assert inspect_data.main(argv) == 1
    assert "--output_dir is missing" in capsys.readouterr().err


def test_damaged_shards_are_left_out_on_request(dataset, tmp_path, capsys):
    folder = pathlib.Path(shutil.copytree(dataset, tmp_path / "damaged"))
    shard = sorted(folder.glob("*.tfrecord"))[0]
    shard.write_bytes(shard.read_bytes()[:-3])
    arguments = (tmp_path / "out", f"--sources=kp3d:{folder}:4")
    assert inspect(*arguments) == 1
    assert f"{shard.name} has" in capsys.readouterr().err
    assert inspect(*arguments, "--data_skip_corrupt") == 0
    captured = capsys.readouterr()
    assert "shards are skipped" in captured.err and "Traceback" not in captured.err
    assert len(list((tmp_path / "out").glob("*.png"))) == 1
