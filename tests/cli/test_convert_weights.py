"""The convert-weights command: a checkpoint becomes a folder that loads to the same numbers."""

import json

import numpy as np
import pytest

from metrabs_like.cli import convert_weights
from metrabs_like.systems import centernet
from metrabs_like.systems.centernet.torch_names import state_dict_of, torch_entries
from tests.data import hostile, torch_writer
from tests.golden import centernet_networks, centernet_weights, npz_cases


def _convert(path, folder, *more):
    arguments = [f"--input={path}", f"--output_dir={folder}", *more]
    return convert_weights.main(["convert_weights", *arguments])


@pytest.fixture(scope="module")
def released():
    """Config, and random weights of a plain network with what published files hold beside them."""
    config, rng = centernet.Config(deformable=False, head_width=8), np.random.default_rng(0)
    model = centernet.build_model(config)
    state = {
        name: rng.normal(size=entry.shape).astype(np.float32) * 0.1
        for name, entry in torch_entries(model).items()
    }
    state["base.level3.project.1.bias"] = np.ones(128, np.float32)
    state["base.fc.bias"] = np.ones(1000, np.float32)
    state["base.base_layer.1.num_batches_tracked"] = np.array(7)
    return config, {f"module.{name}": array for name, array in state.items()}


def test_a_checkpoint_becomes_a_folder_that_loads(released, tmp_path, capsys):
    config, state = released
    torch_writer.save(tmp_path / "model.pth", {"epoch": 3, "state_dict": state}, is_legacy=True)
    assert _convert(tmp_path / "model.pth", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    for text in ("base.level3.project.1.bias", "base.fc.bias", "1 entries left out: counters"):
        assert text in printed
    assert f"{len(state) - 3} entries used" in printed and "hm_hp (17)" in printed
    assert json.loads((tmp_path / "out" / "config.json").read_text())["deformable"] is False
    loaded, found = centernet.load_preset(str(tmp_path / "out"))
    assert found == config
    for name, array in state_dict_of(loaded).items():
        np.testing.assert_array_equal(array, state[f"module.{name}"])


def test_a_file_of_pytorch_gives_the_released_numbers(tmp_path):
    """All entries of the released network, in PyTorch's layout of 2019, up to the golden heads."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: it writes the file")
    folder = npz_cases.DEFAULT_FOLDER / "centernet"
    path = folder / "dla34.npz"
    state = centernet_weights.state(folder)
    tensors = {f"module.{name}": torch.tensor(array) for name, array in state.items()}
    checkpoint = {"epoch": 320, "state_dict": tensors}
    file = tmp_path / "multi_pose_dla_3x.pth"
    torch.save(checkpoint, file, _use_new_zipfile_serialization=False)
    assert _convert(file, tmp_path / "out") == 0
    model, _ = centernet.load_preset(str(tmp_path / "out"))
    image = centernet_networks.image_of(path)
    outputs = model({"image": image, "input_from_image": np.eye(3)[np.newaxis]}, training=False)
    for name in ("hm", "wh", "reg", "hp_offset"):
        expected = npz_cases.load(path)[f"head_{name}"].transpose(0, 2, 3, 1)
        np.testing.assert_allclose(outputs[name], expected, rtol=0, atol=1e-3)


def test_all_entries_of_the_released_network_are_converted(tmp_path, capsys):
    """Deformable convolutions, counters and the classifier, without PyTorch."""
    shapes = centernet_weights.entries(npz_cases.DEFAULT_FOLDER / "centernet")
    state = {name: centernet_weights.ruled(name, shape) for name, shape in shapes.items()}
    assert len(state) == 412
    file = tmp_path / "multi_pose_dla_3x.pth"
    torch_writer.save(file, {"epoch": 320, "state_dict": state}, is_legacy=True)
    assert _convert(file, tmp_path / "out") == 0
    printed = capsys.readouterr().out
    left_out = {"counters": 53, "no effect": 12, "ImageNet classifier": 2}
    assert f"{412 - sum(left_out.values())} entries used" in printed
    for kind, n in left_out.items():
        assert f"{n} entries left out: {kind}" in printed
    assert "dla34, deformable up-sampling" in printed
    model, config = centernet.load_preset(str(tmp_path / "out"))
    assert config == centernet.Config()
    found = state_dict_of(model)
    assert len(found) == 412 - sum(left_out.values())
    for name, array in found.items():
        np.testing.assert_array_equal(array, state[name], err_msg=name)
    layer = model.get_layer("ida_up.node_2.conv")
    for part, weights in (("", layer), ("conv_offset_mask.", layer.conv_offset_mask)):
        kernel = state[f"ida_up.node_2.conv.{part}weight"].transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(weights.kernel, kernel)
        np.testing.assert_array_equal(weights.bias, state[f"ida_up.node_2.conv.{part}bias"])


def _refusal(released, change, folder, capsys):
    """Converts a changed checkpoint, which must fail without a trace; returns the message."""
    torch_writer.save(folder / "model.pth", change(dict(released[1])))
    assert _convert(folder / "model.pth", folder / "out") == 1
    assert not (folder / "out" / "config.json").exists()
    message = capsys.readouterr().err
    assert "model.pth" in message
    return message


def test_entries_that_do_not_fit_are_named(released, tmp_path, capsys):
    def change(state):
        del state["module.ida_up.node_1.conv.bias"]
        state["module.reid.2.bias"] = np.ones(3, np.float32)
        state["module.wh.2.weight"] = np.ones([3, 8, 1, 1], np.float32)
        return state

    message = _refusal(released, change, tmp_path, capsys)
    assert "1 missing entries: ida_up.node_1.conv.bias" in message
    assert "1 entries that the network does not have: reid.2.bias" in message
    assert "wh.2.weight is (3, 8, 1, 1), not (2, 8, 1, 1)" in message


def test_other_networks_are_named(released, tmp_path, capsys):
    def change(state):
        return {name: array for name, array in state.items() if ".hps." not in name}

    assert "no head hps" in _refusal(released, change, tmp_path, capsys)


def test_code_is_refused(tmp_path, capsys):
    hostile.TRACES.clear()
    torch_writer.write_legacy(tmp_path / "model.pth", hostile.GADGET)
    assert _convert(tmp_path / "model.pth", tmp_path / "out") == 1
    assert "tests.data.hostile.trip" in capsys.readouterr().err
    assert not hostile.TRACES


@pytest.mark.parametrize(
    ("path", "folder", "message"),
    [
        ("", "OUT", "--input is missing"),
        ("OUT/none.pth", "OUT", "none.pth does not exist"),
        ("OUT/none.pth", "", "--output_dir is missing"),
        ("OUT/none.pth", "OUT/file/below", "cannot be written"),
    ],
)
def test_bad_input_is_named(tmp_path, capsys, path, folder, message):
    (tmp_path / "file").write_text("")
    path, folder = (text.replace("OUT", str(tmp_path)) for text in (path, folder))
    assert _convert(path, folder) == 1
    assert message in capsys.readouterr().err
