"""Writes tests/public_api.json: the public functions and classes of every module of the library."""

import ast
import json
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOCK = ROOT / "tests" / "public_api.json"


def public_names():
    """Returns dotted module -> sorted names: what it defines, and what its `__all__` re-exports.

    The commands (`metrabs_like.cli`) are no part of the API: their flags are, in flags/README.md.
    """
    found = {}
    for path in sorted((ROOT / "metrabs_like").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if any(part.startswith("_") for part in parts) or parts[1:2] == ("cli",):
            continue
        names = _names(ast.parse(path.read_text()))
        if names:
            found[".".join(parts)] = sorted(names)
    return found


def _names(tree):
    kinds = (ast.FunctionDef, ast.ClassDef)
    names = {node.name for node in tree.body if isinstance(node, kinds)}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if targets == ["__all__"]:
                names |= set(ast.literal_eval(node.value))
            names |= {target for target in targets if target.isupper()}
    return {name for name in names if not name.startswith("_")}


if __name__ == "__main__":
    LOCK.write_text(json.dumps(public_names(), indent=1) + "\n")
    print(f"written: {LOCK}")
