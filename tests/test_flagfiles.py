"""Every flagfile parses, makes a valid run and explains itself; the reference is up to date."""

import pathlib

import pytest
from absl import flags

from metrabs_like.cli import app, commands, flag_bridge, flag_reference, systems, train

ROOT = pathlib.Path(__file__).parents[1]
FLAGS_DIR = ROOT / "flags"
FLAGFILES = sorted(FLAGS_DIR.rglob("*.flags"))
# Fields of the pipelines that are taken from the system's config.
DERIVED = {
    (pipeline.prefix, field)
    for system, pipeline in systems.PIPELINES.items()
    for field in systems.fields_of_model(system)
}
each_flagfile = pytest.mark.parametrize(
    "path", FLAGFILES, ids=lambda path: str(path.relative_to(ROOT))
)


@pytest.fixture
def in_root(monkeypatch):
    """Flagfiles name one another relative to the root of the repository."""
    monkeypatch.chdir(ROOT)


@each_flagfile
def test_flagfile_makes_a_valid_run(path, in_root):
    values = app.parse(train.define_flags, ["train", f"--flagfile={path}"])
    run = train.build_run(values)
    assert run.system == path.parent.name
    assert run.sources, "an experiment names its data"


@each_flagfile
def test_header_tells_data_and_expectation(path):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    text = "\n".join(header)
    assert len(header) >= 3 and "prepare-data" in text and "eproduce" in text


@each_flagfile
def test_no_flag_is_given_twice(path):
    names = [
        line.split("=")[0].removeprefix("--no").removeprefix("--")
        for line in path.read_text().splitlines()
        if line.startswith("--") and not line.startswith("--flagfile")
    ]
    assert len(names) == len(set(names))


def test_misspelt_flag_in_a_flagfile_is_found(tmp_path):
    path = tmp_path / "bad.flags"
    path.write_text("--train_step=3\n")
    with pytest.raises(flags.UnrecognizedFlagError, match="train_steps"):
        app.parse(train.define_flags, ["train", f"--flagfile={path}"])


def test_reference_is_up_to_date():
    written = (FLAGS_DIR / "README.md").read_text()
    assert written == flag_reference.markdown(str(FLAGS_DIR)), "run `make flags-readme`"


def test_reference_holds_every_flag_of_every_config():
    fields = {row.field for row in flag_reference.rows() if not row.text.startswith("Alias")}
    for prefix, config in commands.CONFIGS.items():
        for field in flag_bridge.config_fields(config):
            if (prefix, field.name) not in DERIVED:
                assert f"{config.__name__}.{field.name}" in fields


@pytest.mark.parametrize("command", sorted(commands.COMMANDS))
def test_every_command_has_a_console_entry_and_a_launcher(command):
    module = command.replace("-", "_")
    entry = f"metrabs-like-{command} = metrabs_like.cli.{module}:main"
    assert entry in (ROOT / "setup.cfg").read_text()
    assert f"metrabs_like.cli.{module} import main" in (ROOT / f"scripts/{module}.py").read_text()


@pytest.mark.parametrize("command", sorted(commands.COMMANDS))
def test_every_flag_has_help(command):
    values = app.parse(commands.COMMANDS[command].define_flags, [command])
    assert all(values[name].help for name in values)
