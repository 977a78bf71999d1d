"""The layout rules of the library, read from the source with `ast`."""

import ast
import pathlib
import statistics
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "metrabs_like"
# Folders (and units.py) from the floor up; one may import only from strictly lower levels.
LEVELS = (
    ("units", "skeletons"),
    ("geometry",),
    ("losses", "layers", "metrics"),
    ("data", "training", "serving", "viz"),
    ("systems",),
    ("cli",),
)
LEVEL_OF = {name: level for level, names in enumerate(LEVELS) for name in names}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_PUBLIC_METHODS = 12

SOURCES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in SOURCES]
each_source = pytest.mark.parametrize("path", SOURCES, ids=IDS)


def _tree(path):
    return ast.parse(path.read_text())


def _part(module):
    """`metrabs_like.systems.metrabs.model` -> `systems/metrabs`; other folders by their first
    name."""
    names = module.split(".")[1:]
    return "/".join(names[:2]) if names[:1] == ["systems"] else "".join(names[:1])


def _module(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _package_imports(path):
    """Yields (line, dotted module) for every import from the library, relative ones resolved."""
    base = _module(path).split(".")
    if path.name != "__init__.py":
        base = base[:-1]
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = base[: len(base) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            modules = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            if module.split(".")[0] == "metrabs_like":
                yield node.lineno, module


def _violation(importer, imported):
    """Tells why the part `importer` may not import the part `imported`; None where it may."""
    if importer == imported or not imported or not importer or imported.startswith("__"):
        return None
    low, high = imported.split("/")[0], importer.split("/")[0]
    if low == high == "systems":
        # `systems/__init__` has no part of its own; one system never imports another.
        return None if imported == "systems" else "one system imports another"
    if low not in LEVEL_OF or high not in LEVEL_OF:
        return "a folder that LEVELS does not know"
    return None if LEVEL_OF[low] < LEVEL_OF[high] else "imports point down only"


@each_source
def test_imports_point_down(path):
    importer = _part(_module(path))
    found = [
        f"line {line}: {importer} imports {module}: {reason}"
        for line, module in _package_imports(path)
        if (reason := _violation(importer, _part(module)))
    ]
    assert not found, "\n".join(found)


def test_the_import_rule_refuses_what_it_should():
    assert _violation("geometry", "losses")
    assert _violation("data", "training")
    assert _violation("systems/metrabs", "systems/hmr")
    assert _violation("training", "systems/metrabs")
    assert _violation("losses", "utils")
    assert not _violation("systems/metrabs", "losses")
    assert not _violation("cli", "systems/metrabs")


@each_source
def test_no_wildcard_imports(path):
    stars = [
        node.lineno
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
    ]
    assert not stars, f"wildcard imports in lines {stars}"


def test_no_file_is_called_utils():
    names = [
        path for path in SOURCES + SCRIPTS if path.stem in ("utils", "util", "helpers", "misc")
    ]
    assert not names, "name the noun instead"


@pytest.mark.parametrize("path", SOURCES + SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_and_function_sizes(path):
    n_lines = path.read_text().count("\n")
    assert n_lines <= MAX_FILE_LINES, f"{n_lines} lines"
    for node in ast.walk(_tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            size = _code_lines(node)
            assert size <= MAX_FUNCTION_LINES, f"{node.name} has {size} lines of code"
        elif isinstance(node, ast.ClassDef):
            public = [
                item.name
                for item in node.body
                if isinstance(item, ast.FunctionDef) and not item.name.startswith("_")
            ]
            assert len(public) <= MAX_PUBLIC_METHODS, f"{node.name} has {len(public)} methods"


def _code_lines(node):
    """Lines of a function without its docstring."""
    doc = ast.get_docstring(node, clean=False)
    return node.end_lineno - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0)


def test_files_and_functions_are_small_on_the_whole():
    files = [path.read_text().count("\n") for path in SOURCES if path.name != "__init__.py"]
    functions = [
        _code_lines(node)
        for path in SOURCES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef)
    ]
    assert statistics.median(files) <= 150
    assert statistics.median(functions) <= 15


@each_source
def test_flags_stay_in_cli(path):
    if _part(_module(path)) == "cli":
        source = path.read_text()
        assert "flags.FLAGS" not in source.replace("`flags.FLAGS`", ""), "use a fresh FlagValues"
        return
    used = [
        node.lineno
        for node in ast.walk(_tree(path))
        if (isinstance(node, ast.ImportFrom) and node.module == "absl")
        or (isinstance(node, ast.Import) and any("absl" in alias.name for alias in node.names))
    ]
    assert not used, f"absl imported in lines {used}: take explicit arguments instead"


@each_source
def test_geometry_knows_no_keras_and_no_files(path):
    if _part(_module(path)) != "geometry":
        return
    names = {node.attr for node in ast.walk(_tree(path)) if isinstance(node, ast.Attribute)}
    calls = {node.id for node in ast.walk(_tree(path)) if isinstance(node, ast.Name)}
    assert "keras" not in names and "open" not in calls


@each_source
def test_no_registries(path):
    """No decorator of ours records classes at import; Keras' serialization one is allowed."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            for decorator in node.decorator_list:
                text = ast.unparse(decorator)
                allowed = "register_keras_serializable" in text or "RegisterGradient" in text
                assert "register" not in text.lower() or allowed, f"{node.name}: @{text}"


def test_only_cli_names_concrete_systems():
    systems = {
        path.name for path in (PACKAGE / "systems").iterdir() if (path / "config.py").exists()
    }
    for path in SOURCES:
        part = _part(_module(path))
        if part != "cli" and not part.startswith("systems"):
            named = [m for _, m in _package_imports(path) if _part(m).startswith("systems")]
            assert not named, f"{path.name} imports {named}"
    from metrabs_like.cli.systems import SYSTEMS

    assert set(SYSTEMS) == systems


def _printed_by(code):
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout


def test_importing_the_root_loads_no_tensorflow():
    code = "import sys, metrabs_like; print('tensorflow' in sys.modules)"
    assert _printed_by(code).strip() == "False"


def test_importing_everything_touches_no_device():
    """Devices can still be configured afterwards: GPU memory, logical devices, workers."""
    modules = [_module(path) for path in SOURCES]
    code = f"""
import importlib
for name in {modules!r}:
    importlib.import_module(name)
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
print(len(tf.config.list_logical_devices("CPU")))
"""
    assert _printed_by(code).split()[-1] == "2"
