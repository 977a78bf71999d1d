"""The demo of mixed data sets: its own pieces, and (slow) the whole way at a tiny size."""

import importlib
import os
import pathlib
import re

import pytest

from metrabs_like.cli import app, demo_mixed, train
from metrabs_like.data import pipeline
from metrabs_like.data.sources import open_source
from scripts.demo_mixed import write_native

from .conftest import TINY_RUN

ROOT = pathlib.Path(__file__).parents[2]
FLAGFILE = "flags/metrabs/mixed_demo.flags"
MIXED = ("mixed", "mixed_demo", "effnetv2_s", "resnet50", "mobilenet_v3")
TINY = ("--n_train=12", "--n_held_out=4", "--n_native=3", "--n_inspected=3")
LABELS = ("param", "kp3d", "dense", "kp2d")
AS_IN_THE_DEMO = ("--metrabs_skeleton=smpl_24+coco_17+body_25+mads_19", "--metrabs_photometric")
# Those of the flagfile; real pictures are not there in these tests.
SOURCES = 10


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    """Flagfiles name one another relative to the root of the repository."""
    monkeypatch.chdir(ROOT)


def _pretend(monkeypatch, kinds):
    """Replaces the commands by their traces; the run's log is that of `kinds`: (start, end)."""
    calls = []

    def command(name, *arguments):
        calls.append((name, arguments))
        given = dict(argument[2:].split("=", 1) for argument in arguments if "=" in argument)
        folder = given.get("output_dir") or given.get("workdir")
        if folder:
            os.makedirs(folder, exist_ok=True)
        if name == "train":
            header = ",".join(f"{kind}/loss2d,{kind}/error_px" for kind in kinds)
            rows = (",".join(f"{ends[i]},1" for ends in kinds.values()) for i in (0, 1))
            text = f"step,{header}\n" + "".join(f"{i},{row}\n" for i, row in enumerate(rows))
            pathlib.Path(folder, "log.csv").write_text(text)
        if name == "evaluate":
            os.makedirs(os.path.join(given["model"], "evaluation"))

    monkeypatch.setattr(demo_mixed, "run_command", command)
    return calls


def _touch(name, folder, n_pictures):
    pathlib.Path(folder, name).write_text(str(n_pictures))


def test_every_data_set_is_prepared_and_a_fallen_loss_is_a_success(tmp_path, monkeypatch, capsys):
    calls = _pretend(monkeypatch, {"param": (2, 1), "dense": (1, 0.5)})
    argv = ["demo_mixed", f"--output_dir={tmp_path}", "--coco_dir=none"]
    assert demo_mixed.main(argv, write_native=_touch) == 0
    names = [name for name, _ in calls]
    assert names == ["prepare_data"] * 7 + ["inspect_data", "train", "evaluate"]
    prepared = [a for name, arguments in calls[2:7] for a in arguments if "--dataset" in a]
    assert prepared == [f"--dataset={name}" for name in demo_mixed.NATIVE]
    printed = capsys.readouterr().out
    assert "--coco_dir=none is missing: no real COCO pictures" in printed
    assert printed.count("the loss fell") == 2
    # Everything the experiment reads lies in the folder.
    given = next(a for a in calls[-2][1] if a.startswith("--sources"))
    assert given.count(f":{tmp_path}/prepared/") == given.count(",") + 1 == SOURCES


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        # The train set has the larger file; the pictures of the test set are not there.
        ((), ("person_keypoints_val2017.json", "1000")),
        (
            ("--coco_annotations=person_keypoints_train2017.json", "--n_coco=5"),
            ("person_keypoints_train2017.json", "5"),
        ),
    ],
)
def test_a_whole_coco_folder_is_read_in_part(more, expected, tmp_path, monkeypatch):
    folder = tmp_path / "coco[1]"
    (folder / "annotations").mkdir(parents=True)
    for name, text in {"train2017": "[1, 2]", "val2017": "[1]", "test2017": "1"}.items():
        (folder / "annotations" / f"person_keypoints_{name}.json").write_text(text)
        (folder / "annotations" / f"captions_{name}.json").write_text("")
    (folder / "train2017").mkdir()
    (folder / "val2017").mkdir()
    calls = _pretend(monkeypatch, {"param": (2, 1)})
    argv = ["demo_mixed", f"--output_dir={tmp_path}/out", f"--coco_dir={folder}", *more]
    assert demo_mixed.main(argv, write_native=_touch) == 0
    (photos,) = (a for name, a in calls if f"--source_dir={folder}" in a)
    annotations, n_images = expected
    assert {f"--annotations={annotations}", f"--max_images={n_images}", "--with_empty"} < {*photos}


def test_a_coco_folder_without_a_pair_is_left_to_prepare_data(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "person_keypoints_val2017.json").write_text("{}")
    assert demo_mixed.coco_annotations(str(tmp_path)) == ""
    assert demo_mixed.coco_annotations(str(tmp_path / "absent")) == ""


def test_loss_that_rose_ends_with_exit_code_one(tmp_path, monkeypatch, capsys):
    _pretend(monkeypatch, {"param": (2, 1), "kp3d": (1, 1.5), "kp2d": (1, 2)})
    argv = ["demo_mixed", f"--output_dir={tmp_path}"]
    assert demo_mixed.main(argv, write_native=_touch) == 1
    assert "the loss of kp3d, kp2d did not fall" in capsys.readouterr().err


def test_photographs_are_a_source_where_they_were_prepared(tmp_path):
    without = demo_mixed.sources(FLAGFILE, str(tmp_path))
    os.makedirs(demo_mixed.prepared_folder(str(tmp_path), "coco_photos"))
    assert len(without) == SOURCES
    added = set(demo_mixed.sources(FLAGFILE, str(tmp_path))) - set(without)
    assert added == {f"kp2d:{tmp_path}/prepared/coco_photos:4:background=0.2"}


def test_broken_off_fixture_is_written_again_and_a_whole_one_kept(tmp_path):
    def fail(name, folder, n_pictures):
        _touch(name, folder, n_pictures)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        demo_mixed.write_fixtures(str(tmp_path), 3, fail)
    first = next(iter(demo_mixed.NATIVE))
    assert not os.path.exists(demo_mixed.native_folder(str(tmp_path), first))
    demo_mixed.write_fixtures(str(tmp_path), 3, _touch)
    demo_mixed.write_fixtures(str(tmp_path), 9, fail)  # nothing is left to write
    for name in demo_mixed.NATIVE:
        folder = pathlib.Path(demo_mixed.native_folder(str(tmp_path), name))
        assert (folder / name).read_text() == "3"


@pytest.fixture(scope="session")
def mixed_sources(tmp_path_factory):
    """The prepared stand-ins of all data sets, as small as they can be, as sources."""
    folder = str(tmp_path_factory.mktemp("mixed"))
    argv = ["demo_mixed", f"--output_dir={folder}", "--coco_dir=none", *TINY]

    def command(name, *arguments):
        if name == "prepare_data":
            module = importlib.import_module(f"metrabs_like.cli.{name}")
            assert module.main([name, *arguments, "--n_processes=1"]) == 0
        else:
            raise ValueError("enough")

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(demo_mixed, "run_command", command)
        demo_mixed.main(argv, write_native=write_native)
        return demo_mixed.sources(FLAGFILE, folder)


def _placed(text, mixed_sources):
    """A source of any flagfile, moved to the prepared stand-in of the same name."""
    paths = {pathlib.Path(source.split(":")[1]) for source in mixed_sources}
    folders = {path.name: str(path) for path in paths}
    path = pipeline.parse_source(text).path
    name = os.path.basename(path).replace("coco_photos", "coco")
    return text.replace(path, folders[name], 1)


def _experiment(flagfile, mixed_sources, left_out, *more):
    """The run of a flagfile without one of its sources."""
    argv = ["train", f"--flagfile=flags/metrabs/{flagfile}.flags", *more]
    argv.append("--metrabs_body_model=procedural")
    usual = app.parse(train.define_flags, argv).sources
    kept = [_placed(text, mixed_sources) for text in usual if text != left_out]
    assert len(kept) == len(usual) - (left_out is not None) > 1
    run = train.build_run(app.parse(train.define_flags, [*argv, f"--sources={','.join(kept)}"]))
    assert run.sources == tuple(kept)
    return run, usual


@pytest.mark.parametrize("flagfile", MIXED)
def test_every_flagfile_accepts_its_sources_but_any_one(flagfile, mixed_sources):
    _, usual = _experiment(flagfile, mixed_sources, None)
    for left_out in usual:
        run, _ = _experiment(flagfile, mixed_sources, left_out)
        for source in map(pipeline.parse_source, run.sources):
            info = open_source(source, run.model.joints)
            run.module.check_source(source.kind, info, run.model)
            assert info.n_usable(source.kind) > 0
            assert run.pipeline.probabilities(source)["jpeg"] == 0.2


@pytest.mark.parametrize("lost", ["dense", "kp2d"])
def test_batches_lack_the_kind_that_lost_its_only_source(lost, mixed_sources):
    """What the model makes of such a batch: `test_any_subset_of_kinds_is_a_batch`."""
    _, usual = _experiment("mixed", mixed_sources, None)
    (left_out,) = (text for text in usual if text.startswith(lost))
    small = ("--data_n_backgrounds=1", "--data_n_objects=1", "--metrabs_proc_side=64")
    run, _ = _experiment("mixed", mixed_sources, left_out, *small)
    # One source a kind stands for all: each costs a second.
    sources = {source.kind: source for source in map(pipeline.parse_source, run.sources)}
    dataset = pipeline.make_train_dataset(
        list(sources.values()), run.pipeline, skeleton=run.model.joints, seed=0
    )
    sizes = {kind: sub["window"].shape[0] for kind, sub in dataset.element_spec.items()}
    assert sizes == {kind: source.count for kind, source in sources.items()}
    assert set(sizes) == {*LABELS} - {lost}


@pytest.mark.slow
@pytest.mark.parametrize("left_out", range(SOURCES))
def test_any_source_can_be_left_out(left_out, mixed_sources, tmp_path, capsys):
    sources = [text for i, text in enumerate(mixed_sources) if i != left_out]
    assert len(sources) == SOURCES - 1
    argv = ["train", f"--flagfile={FLAGFILE}", f"--sources={','.join(sources)}"]
    argv += [f"--workdir={tmp_path}", *TINY_RUN, "--train_steps=2", *AS_IN_THE_DEMO]
    assert train.main(argv) == 0
    assert "finished at step 2" in capsys.readouterr().out
    header = (tmp_path / "log.csv").read_text().splitlines()[0]
    logged = {kind for kind in LABELS if f"{kind}/error_px" in header}
    assert logged == {text.partition(":")[0] for text in sources}


@pytest.mark.slow
def test_whole_way_at_a_tiny_size(tmp_path, capfd):
    argv = ["demo_mixed", f"--output_dir={tmp_path}", *TINY]
    # So few people are soon known: the losses fall to about half.
    argv.append("--train_flags=train_steps=60,train_warmup_steps=2,train_log_every=1")
    assert demo_mixed.main(argv, write_native=write_native) == 0
    printed = capfd.readouterr().out
    for kind in LABELS:
        assert re.search(rf"^{kind} .* the loss fell$", printed, re.MULTILINE)
    sheets = sorted((tmp_path / "contact_sheets").glob("*.png"))
    assert len(sheets) >= SOURCES
    assert all(str(path) in printed and path.stat().st_size > 10_000 for path in sheets)
    assert (tmp_path / "run" / "evaluation" / "evaluation.json").exists()
    assert demo_mixed.main(argv, write_native=write_native) == 0
    again = capfd.readouterr().out
    assert "(0 updates" in again and again.count("is there and kept") == len(demo_mixed.NATIVE)


def test_flagfile_names_every_kind_and_data_set():
    values = app.parse(train.define_flags, ["train", f"--flagfile={FLAGFILE}"])
    text = ",".join(values.sources)
    assert all(f"{kind}:" in text for kind in LABELS)
    assert all(f"/{name}:" in text for name in demo_mixed.NATIVE)
