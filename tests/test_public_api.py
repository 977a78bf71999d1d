"""The public names of the library are locked, and every one is documented.

A change of `tests/public_api.json` is a change of the API: write it with
`python scripts/lock_public_api.py` and put it into CHANGELOG.md.
"""

import ast
import importlib
import json
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LOCK = ROOT / "tests" / "public_api.json"
SOURCES = sorted((ROOT / "metrabs_like").rglob("*.py"))


def _public(body):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node for node in body if isinstance(node, kinds) and not node.name.startswith("_")]


def _public_functions(tree):
    """Functions of the module and methods of its classes."""
    for node in _public(tree.body):
        yield from _public(node.body) if isinstance(node, ast.ClassDef) else [node]


def _lock_script():
    path = ROOT / "scripts" / "lock_public_api.py"
    spec = importlib.util.spec_from_file_location("lock_public_api", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_public_names_are_the_locked_ones():
    found, locked = _lock_script().public_names(), json.loads(LOCK.read_text())
    assert set(found) == set(locked), "run scripts/lock_public_api.py and tell CHANGELOG.md"
    for module, names in found.items():
        gone, new = set(locked[module]) - set(names), set(names) - set(locked[module])
        assert not gone | new, (
            f"{module}: gone {sorted(gone)}, new {sorted(new)}; "
            "run scripts/lock_public_api.py and tell CHANGELOG.md"
        )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_public_name_is_documented(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module has no docstring"
    for node in _public(tree.body):
        assert ast.get_docstring(node), f"{node.name} has no docstring"
        for method in _public(node.body) if isinstance(node, ast.ClassDef) else ():
            inherited = method.name in ("call", "build", "get_config", "compute_output_shape")
            documented = ast.get_docstring(method) or (inherited and ast.get_docstring(node))
            assert documented, f"{node.name}.{method.name} has no docstring"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_documented_arguments_are_the_arguments(path):
    """An `Args:` section names every argument, and none that is not there."""
    for node in _public_functions(ast.parse(path.read_text())):
        doc = ast.get_docstring(node) or ""
        if "\nArgs:\n" not in doc:
            continue
        section = doc.split("\nArgs:\n")[1].split("\n\n")[0]
        named = set()
        for line in section.splitlines():
            if line.startswith("  ") and not line.startswith("   ") and ":" in line:
                names = line.split(":")[0]
                named |= {name.strip(" *") for name in names.replace("(", ",").split(",")}
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [a for a in (arguments.vararg, arguments.kwarg) if a]
        taken = {argument.arg for argument in every} - {"self", "cls"}
        assert not taken - named, f"{node.name} does not document {sorted(taken - named)}"
        assert not named - taken, f"{node.name} has no {sorted(named - taken)}"


@pytest.mark.parametrize("module", sorted(json.loads(LOCK.read_text())) if LOCK.exists() else [])
def test_every_exported_name_exists(module):
    imported = importlib.import_module(module)
    for name in getattr(imported, "__all__", ()):
        assert hasattr(imported, name), f"{module}.__all__ names {name}, which is not there"
