"""The pipeline under tf.data service: a real dispatcher and two workers on loopback."""

import functools
import shutil
import socket

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.data import (
    masks,
    pipeline,
    preparation,
    records,
    service,
    sources,
    whole_images,
)
from tests.data import toy

SIDE = 32
ALL_CHANGES = {f"{change}_probability": 0.5 for change in sources.CHANGES}
CONFIG = pipeline.PipelineConfig(
    proc_side=SIDE,
    n_parallel_calls=1,
    shuffle_buffer=8,
    n_backgrounds=3,
    n_objects=3,
    **ALL_CHANGES,
)
COUNTS = {"param": 2, "kp3d": 3, "dense": 1, "kp2d": 2}


def _make_shard(shard_index):
    rng = np.random.default_rng(shard_index)
    for record in toy.make_shard(shard_index, n_people=(1, 2)):
        for person in record.people:
            person.body = records.BodyParameters(np.zeros((24, 3)), np.zeros(10), np.zeros(3))
            ids, weights = np.zeros((4, 3), int), np.full((4, 3), 1 / 3)
            person.surface = records.SurfacePoints(ids, weights, person.points2d[:4])
            mask = rng.uniform(size=(record.height, record.width)) > 0.5
            person.mask, person.mask_box = masks.encode_mask(mask)
        yield record


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("served"))
    info = records.DatasetInfo(
        name="toy", kind="param", skeleton=toy.TOY.to_dict(), body_model={"name": "toy"}
    )
    preparation.write_dataset([_make_shard] * 2, path, info, n_processes=1, progress=False)
    return path


@pytest.fixture(scope="module")
def address():
    """A dispatcher with two workers."""
    dispatcher = tf.data.experimental.service.DispatchServer()
    place = dispatcher.target.split("://")[1]
    config = tf.data.experimental.service.WorkerConfig(
        dispatcher_address=place, heartbeat_interval_ms=200
    )
    workers = [tf.data.experimental.service.WorkerServer(config) for _ in range(2)]
    yield dispatcher.target
    for worker in workers:
        worker._stop()
    dispatcher._stop()


def _make(folder, kinds=tuple(COUNTS)):
    used = [pipeline.SourceConfig(folder, kind, COUNTS[kind]) for kind in kinds]
    return functools.partial(pipeline.make_train_dataset, used, CONFIG, skeleton=toy.TOY)


def test_batches_of_all_kinds_arrive_from_two_workers(folder, address):
    make = _make(folder)
    dataset = service.distribute(make, address, seed=3)
    local = make(seed=3)
    assert dataset.element_spec == local.element_spec
    runs = set()
    for n_seen, batch in enumerate(dataset.take(5000)):  # the second worker may start late
        runs.add(int(batch["kp3d"]["example_seed"][0, 0]))
        if n_seen < 10 or len(runs) == 2:
            _check(batch)
        if n_seen >= 10 and len(runs) == 2:
            break
    assert len(runs) == 2  # each worker has its own stream


def _check(batch):
    """Everything that the model needs of each kind is there and sensible."""
    assert sorted(batch) == sorted(COUNTS)
    for kind, sub in batch.items():
        assert sub["window"].shape == (COUNTS[kind], CONFIG.window_side, CONFIG.window_side, 3)
        assert sub["background"].shape == (COUNTS[kind], SIDE, SIDE, 3)
        assert np.all(sub["has_mask"]) and np.any(sub["mask"]) and np.any(sub["object"])
        for name, tensor in sub.items():
            assert not tensor.dtype.is_floating or np.all(np.isfinite(tensor)), name
    assert np.all(batch["kp3d"]["point_validity"])
    assert np.sum(batch["dense"]["point_validity"]) == 4


def test_whole_images_arrive_with_their_people_and_masks(folder, address):
    config = whole_images.WholeImageConfig(
        proc_side=SIDE, n_parallel_calls=1, shuffle_buffer=8, max_objects=3, with_masks=True
    )
    used = [pipeline.SourceConfig(folder, "kp3d", 3)]
    make = functools.partial(whole_images.make_train_dataset, used, config, skeleton=toy.TOY)
    dataset, local = service.distribute(make, address, seed=3), make(seed=3)
    assert dataset.element_spec == local.element_spec
    n_people = []
    for batch in dataset.take(20):
        images = batch[whole_images.KIND]
        assert images["window"].shape == (3, config.window_side, config.window_side, 3)
        n_people.extend(np.sum(images["person_validity"], axis=1))
        np.testing.assert_array_equal(images["mask_validity"], images["person_validity"])
        assert np.all(np.any(images["masks"], axis=(2, 3)) == images["person_validity"])
        assert np.all(np.isfinite(images["joints2d"]))
    assert set(n_people) == {1, 2}  # as written: all of an image, in one example


def test_streams_are_those_of_the_pipeline(folder):
    """A seed that is a tensor draws what the same integer does."""
    make = _make(folder, ("kp3d",))
    (as_integer,) = list(make(seed=11).take(1))
    (as_tensor,) = list(make(seed=tf.constant(11, tf.int64)).take(1))
    tf.nest.map_structure(np.testing.assert_array_equal, as_integer, as_tensor)


def _make_plain(folder, **settings):
    """Without changes, whose graphs take seconds."""
    config = pipeline.PipelineConfig(
        proc_side=SIDE, n_parallel_calls=1, shuffle_buffer=8, **settings
    )
    used = [pipeline.SourceConfig(folder, "kp3d", 3)]
    return functools.partial(pipeline.make_train_dataset, used, config, skeleton=toy.TOY)


@pytest.fixture
def damaged(folder, tmp_path):
    """The data set with one bit of its second shard changed: of the right size, but damaged."""
    copy = shutil.copytree(folder, tmp_path / "damaged")
    shard = sorted(copy.glob("*.tfrecord"))[1]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    return str(copy)


def test_a_shard_that_a_worker_finds_damaged_is_named(damaged, address):
    dataset = service.distribute(_make_plain(damaged), address, seed=3)
    with (
        pytest.raises(ValueError, match="shard-00001-of-00002.*SHA-256.*prepare_data again"),
        pipeline.damage_named([damaged]),
    ):
        for _ in dataset.take(100):  # a round has 18 people, 6 batches
            pass


def test_a_damaged_shard_is_skipped_and_counted_before_the_workers_start(damaged, address):
    make = _make_plain(damaged, skip_corrupt=True)
    with pytest.warns(sources.ShardsSkipped, match="1 of 2 shards are skipped.*shard-00001"):
        dataset = service.distribute(make, address, seed=3)
    with pipeline.damage_named([damaged]):
        n_batches = sum(batch["kp3d"]["window"].shape[0] == 3 for batch in dataset.take(20))
    assert n_batches == 20


def test_a_run_that_goes_on_is_shuffled_anew(folder, address):
    def first_seed(step):
        """Which streams come first differs; their seeds are so many steps from the first one."""
        dataset = service.distribute(_make(folder, ("kp3d",)), address, seed=3, step=step)
        (batch,) = dataset.take(1)
        return int(batch["kp3d"]["example_seed"][0, 0]) % service._STREAM_STEP

    assert first_seed(0) == first_seed(0) != first_seed(100)


def test_nothing_needs_this_process(folder):
    """No operation of the graph calls Python, which other machines could not."""
    dataset = _make(folder)(seed=0)
    graph = tf.compat.v1.GraphDef.FromString(dataset._as_serialized_graph().numpy())
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    names = {node.op for node in nodes}
    assert any(name.startswith("ParallelMap") for name in names) and "DecodePng" in names
    assert not {name for name in names if "PyFunc" in name or "Generator" in name}


def test_wrong_addresses_are_named(folder):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        place = f"grpc://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"{place}: nobody listens there"):
            service.distribute(_make(folder), place, seed=0)
    for text in ("localhost:5050", "grpc://5050", "grpc://host:x"):
        with pytest.raises(ValueError, match="grpc://HOST:PORT"):
            service.distribute(_make(folder), text, seed=0)
