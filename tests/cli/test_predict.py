import json
import os
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.cli import export, predict
from metrabs_like.systems import metrabs

BOX = "10,20,40,60"

# A program of its own: only the published arguments, no uncertainties, nothing of this package.
STAND_IN = """
import sys
import tensorflow as tf

class Model(tf.Module):
    def __init__(self):
        names = ["pelv", "lhip", "rhip", "head"]
        self.joint_names = tf.Variable(names, trainable=False)
        self.joint_edges = tf.Variable([[0, 1], [0, 2], [0, 3]], trainable=False)
        self.per_skeleton_joint_names = {"hips": tf.Variable(names[:3], trainable=False)}
        self.per_skeleton_joint_edges = {"hips": tf.Variable([[0, 1], [0, 2]], trainable=False)}
        self.per_skeleton_indices = {"hips": tf.Variable([0, 1, 2], trainable=False)}

    @tf.function(input_signature=[
        tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((None, 4), tf.float32),
        tf.TensorSpec((3, 3), tf.float32), tf.TensorSpec((None,), tf.float32),
        tf.TensorSpec((4, 4), tf.float32), tf.TensorSpec((3,), tf.float32),
        tf.TensorSpec((), tf.float32), tf.TensorSpec((), tf.int32), tf.TensorSpec((), tf.int32),
        tf.TensorSpec((), tf.int32), tf.TensorSpec((), tf.bool), tf.TensorSpec((), tf.string)])
    def estimate_poses(
            self, image, boxes, intrinsic_matrix=((-1.0, -1.0, -1.0),) * 3,
            distortion_coeffs=(0.0,) * 5, extrinsic_matrix=((1.0, 0.0, 0.0, 0.0),
            (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0)),
            world_up_vector=(0.0, -1.0, 0.0), default_fov_degrees=55.0, internal_batch_size=64,
            antialias_factor=1, num_aug=5, average_aug=True, skeleton=""):
        center = boxes[:, tf.newaxis, :2] + boxes[:, tf.newaxis, 2:] / 2
        offsets = tf.constant([[0.0, 0], [10, 0], [-10, 0], [0, -30]])
        poses2d = center + offsets
        focal = tf.linalg.diag_part(intrinsic_matrix)[:2]
        xy = (poses2d - intrinsic_matrix[:2, 2]) / focal * 3000
        poses3d = tf.concat([xy, 3000 * tf.ones_like(xy[..., :1])], axis=-1)
        n = tf.where(skeleton == "hips", 3, 4)
        return dict(boxes=boxes, poses2d=poses2d[:, :n], poses3d=poses3d[:, :n])

tf.saved_model.save(Model(), sys.argv[1])
"""


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stand_in")
    command = [sys.executable, "-I", "-c", STAND_IN, str(folder / "model")]
    subprocess.run(command, check=True, cwd=folder, timeout=120)
    return folder / "model"


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A small preset with random weights: it knows nothing, but has the right form."""
    config = metrabs.Config(proc_side=64, stride=16, width=0.25)
    folder = tmp_path_factory.mktemp("presets") / "small"
    metrabs.save_preset(folder, metrabs.build_model(config), config)
    return folder


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    image = np.full([120, 160, 3], 90, np.uint8)
    image[40:100, 60:90] = [200, 120, 30]
    cv2.imwrite(str(path), image)
    return path


def call(*, expect=0, **options):
    """Runs the command in this process; returns the parsed JSON file."""
    arguments = [f"--{name}={value}" for name, value in options.items()]
    assert predict.main(["predict", *arguments]) == expect
    if expect == 0:
        stem = pathlib.Path(options["image"]).stem
        text = (pathlib.Path(options["output_dir"]) / f"{stem}_poses.json").read_text()
        return json.loads(text)
    return None


def test_any_saved_model_with_the_published_interface(stand_in, photo, tmp_path):
    out = tmp_path / "new" / "out"
    boxes = "10,20,40,60;100,10,40,100"
    content = call(
        image=photo, output_dir=out, model=stand_in, boxes=boxes, intrinsics="100,110,80,60"
    )
    assert content["joint_names"] == ["pelv", "lhip", "rhip", "head"]
    assert content["joint_edges"] == [[0, 1], [0, 2], [0, 3]]
    assert content["intrinsics_px"] == [[100, 0, 80], [0, 110, 60], [0, 0, 1]]
    assert "x right, y down, z forward" in content["camera_frame"]
    first, second = content["people"]
    assert first["box_xywh_px"] == [10, 20, 40, 60]
    assert first["joints2d_px"][0] == [30, 50] and second["joints2d_px"][0] == [120, 60]
    assert first["joints3d_mm"][0] == [-1500, round(-10 / 110 * 3000, 2), 3000]
    assert first["uncertainty_mm"] is None
    image, overlay = cv2.imread(str(photo)), cv2.imread(str(out / "photo_overlay.png"))
    assert overlay.shape == image.shape and np.any(overlay != image)
    assert cv2.imread(str(out / "photo_3d.png")).std() > 5
    assert sorted(path.name for path in out.iterdir()) == [
        "photo_3d.png",
        "photo_overlay.png",
        "photo_poses.json",
    ]


def test_skeleton_is_a_choice_of_the_model(stand_in, photo, tmp_path, capsys):
    content = call(image=photo, output_dir=tmp_path, model=stand_in, skeleton="hips", boxes=BOX)
    assert content["skeleton"] == "hips" and content["joint_names"] == ["pelv", "lhip", "rhip"]
    assert len(content["people"][0]["joints3d_mm"]) == 3
    call(image=photo, output_dir=tmp_path, model=stand_in, skeleton="coco_17", boxes=BOX, expect=1)
    assert "--skeleton=coco_17: the model does not have it; one of hips" in capsys.readouterr().err


def test_without_detector_the_whole_image_is_one_person_and_it_says_so(
    stand_in, photo, tmp_path, capsys
):
    content = call(image=photo, output_dir=tmp_path, model=stand_in, detector="none")
    assert content["people"][0]["box_xywh_px"] == [0, 0, 160, 120]
    printed = capsys.readouterr().out
    assert "whole image is taken as one person" in printed
    assert "55 degrees" in printed and "assumed" in printed
    assert "whole image" in content["box_source"] and "assumed" in content["intrinsics_source"]


def test_preset_and_its_export_give_the_same_numbers(preset, photo, tmp_path):
    """The preset's network runs in this process, the export through TensorFlow alone."""
    options = {"image": photo, "output_dir": tmp_path, "boxes": "50,30,60,80", "fov_degrees": 60}
    content = call(model=preset, **options)
    assert content["skeleton"] == "coco_17" and len(content["joint_names"]) == 17
    person = content["people"][0]
    assert np.shape(person["joints3d_mm"]) == (17, 3)
    assert np.shape(person["uncertainty_mm"]) == (17,) and min(person["uncertainty_mm"]) > 0
    focal = 80 / np.tan(np.deg2rad(30))
    np.testing.assert_allclose(content["intrinsics_px"][0], [focal, 0, 80])

    export_dir = tmp_path / "export"
    assert export.main(["export", f"--model={preset}", f"--output_dir={export_dir}"]) == 0
    exported = call(model=export_dir, **options)["people"][0]
    for key in ("joints3d_mm", "uncertainty_mm"):
        np.testing.assert_allclose(exported[key], person[key], rtol=1e-4, atol=0.02)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"boxes": "1,2,3"}, "--boxes: '1,2,3' must be x,y,width,height"),
        ({"boxes": "1,2,3,4;a,b,c,d"}, "--boxes: 'a,b,c,d' must be"),
        ({"boxes": "1,2,nan,4"}, "--boxes: '1,2,nan,4' must be"),
        ({"boxes": "1,2,0,4"}, "--boxes: '1,2,0,4' has no area"),
        ({"boxes": "160,0,9,9"}, "--boxes: '160,0,9,9' lies outside the image of 160 x 120 px"),
        ({"intrinsics": "1,2"}, "--intrinsics: '1,2' must be fx,fy,cx,cy or nine numbers"),
        ({"intrinsics": "-9,9,1,1"}, "--intrinsics=-9,9,1,1: the focal lengths"),
        ({"intrinsics": "nan,9,1,1"}, "--intrinsics: 'nan,9,1,1' must be"),
        ({"intrinsics": "9,0,1,0,9,1,0,0,2"}, "must be fx,s,cx,0,fy,cy,0,0,1"),
        ({"intrinsics": "9,9,1,1", "fov_degrees": 50}, "exclude each other"),
        ({"fov_degrees": 180}, "--fov_degrees=180.0: must be between 0 and 180"),
        ({"fov_degrees": "nan"}, "--fov_degrees=nan: must be between 0 and 180"),
    ],
)
def test_bad_values_fail_with_field_value_and_remedy(photo, tmp_path, capsys, options, message):
    out = tmp_path / "out"
    call(image=photo, output_dir=out, expect=1, **options)
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_misuse_and_missing_files(photo, tmp_path, capsys, stand_in):
    call(image=photo, expect=1)
    assert "--output_dir is missing" in capsys.readouterr().err
    call(image=photo, output_dir=tmp_path, num_aug=0, expect=2)
    call(imag=photo, output_dir=tmp_path, expect=2)
    assert "Did you mean" in capsys.readouterr().err
    call(image=photo, output_dir=photo / "below", model=stand_in, expect=1)
    assert "--output_dir=" in capsys.readouterr().err
    call(image=photo, output_dir=tmp_path, model=tmp_path / "nothing", expect=1)
    assert f"--model={tmp_path / 'nothing'}" in capsys.readouterr().err


def test_damaged_or_other_saved_models(photo, tmp_path, capsys):
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "saved_model.pb").write_bytes(b"nonsense")
    call(image=photo, output_dir=tmp_path, model=damaged, expect=1)
    assert "is a damaged SavedModel" in capsys.readouterr().err
    tf.saved_model.save(tf.Module(), str(tmp_path / "other"))
    call(image=photo, output_dir=tmp_path, model=tmp_path / "other", expect=1)
    assert "without the method estimate_poses" in capsys.readouterr().err


def test_failed_write_keeps_the_earlier_result(stand_in, photo, tmp_path, monkeypatch):
    call(image=photo, output_dir=tmp_path, model=stand_in, boxes=BOX)
    before = (tmp_path / "photo_3d.png").read_bytes()

    def failing(path, *_, **__):
        pathlib.Path(path).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("metrabs_like.viz.plot3d.save_pose_plot", failing)
    call(image=photo, output_dir=tmp_path, model=stand_in, boxes=BOX, expect=1)
    assert (tmp_path / "photo_3d.png").read_bytes() == before
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_no_people_when_boxes_are_only_separators(stand_in, photo, tmp_path):
    content = call(image=photo, output_dir=tmp_path, model=stand_in, boxes=";")
    assert content["people"] == []
    assert (tmp_path / "photo_3d.png").exists()
