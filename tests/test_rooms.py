"""Imports go one way: neither the rooms of the package, its folders and files at top level, nor its files import each
other in a circle.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import align_dist

Graph = dict[str, set[str]]
PACKAGE = Path(align_dist.__file__).parent


def modules_in(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every module that a file's imports name, wherever in the file they stand. package: the file's own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = (*start, *(node.module.split(".") if node.module else ()))
            yield from ((*module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "import_module":
            yield tuple(fixed_start(node.args[0]).split("."))


def fixed_start(name: ast.expr) -> str:
    """What a module's name begins with, wherever the rest of the name comes from; empty for a name that is made."""
    start = name.values[0] if isinstance(name, ast.JoinedStr) else name
    return start.value if isinstance(start, ast.Constant) and isinstance(start.value, str) else ""


def rooms_of(root: Path) -> Graph:
    """Room -> the other rooms that it imports, of the package in a folder."""
    rooms = {path.name.removesuffix(".py") for path in root.iterdir() if path.suffix == ".py" or path.is_dir()}
    graph: Graph = {room: set() for room in rooms}
    for path in root.rglob("*.py"):
        room, *_ = path.relative_to(root).with_suffix("").parts
        package = (root.name, *path.relative_to(root).parts[:-1])
        named = modules_in(ast.parse(path.read_text("utf-8")), package)
        graph[room] |= {module[1] for module in named if len(module) > 1 and module[0] == root.name} & rooms - {room}
    return graph


def files_of(root: Path) -> Graph:
    """File -> the other files that it imports, as dotted names, of the package in a folder."""
    graph: Graph = {}
    paths = {(root.name, *path.relative_to(root).with_suffix("").parts): path for path in root.rglob("*.py")}
    files = {tuple(part for part in name if part != "__init__"): ".".join(name) for name in paths}
    for name, path in paths.items():
        named = modules_in(ast.parse(path.read_text("utf-8")), name[:-1])
        # A name imported from a package is a file of the package, or the package's own.
        imported = {files.get(module) or files.get(module[:-1]) for module in named}
        graph[".".join(name)] = {file for file in imported if file and file != ".".join(name)}
    return graph


def circle_in(graph: Graph) -> set[str]:
    """The members of one circle of imports; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return set(error.args[1])
    return set()


def test_no_rooms_import_each_other_in_a_circle() -> None:
    graph = rooms_of(PACKAGE)
    assert "runs" in graph["training"] and "training" in graph["run"]
    # The registry of options has methods' modules by name and imports the one that a run has chosen.
    assert "methods" in graph["options"] and "options" in graph["methods"]
    assert circle_in(graph | {"options": graph["options"] - {"methods"}}) == set()


def test_data_flows_one_way_and_training_knows_no_method_and_no_network_by_name() -> None:
    rooms, files = rooms_of(PACKAGE), files_of(PACKAGE)
    assert rooms["data"].isdisjoint({"networks", "methods", "training", "evaluation", "runs"})
    assert rooms["networks"].isdisjoint({"data", "methods", "training", "evaluation", "runs"})
    named = {file for name, imported in files.items() if name.startswith("align_dist.training.") for file in imported}
    assert {file for file in named if ".methods." in file} == {"align_dist.methods.base"}
    engines = {f"align_dist.parallel.{name}" for name in ("plain", "ddp", "zero")}
    assert not any(imported & engines for name, imported in files.items() if name.startswith("align_dist.methods."))


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = files_of(PACKAGE)
    assert "align_dist.deployment.page" in graph["align_dist.deployment.explain"]
    assert circle_in(graph) == set()


def test_what_a_run_is_knows_nothing_of_what_is_done_with_it() -> None:
    """Shared warm-up knows what it is to begin a run: its networks by name, and its schedule."""
    below = {"config", "options", "schema", "errors", "files", "machine", "messages", "parallel", "methods"}
    assert rooms_of(PACKAGE)["runs"] <= below | {"training_plan"}


def test_an_import_is_seen_wherever_it_stands(tmp_path: Path) -> None:
    sources = {
        "kitchen/stove.py": "def cook():\n    from house.cellar import wine\n",
        "cellar.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import house.kitchen.stove as stove\n",
        "attic/box.py": "from .. import roof\nfrom . import lid\nimport os.path\n",
        "attic/lid.py": "from house.attic.box import key\n",
        "roof.py": "from .attic.box import key\n",
        "hall.py": "from house import kitchen\n",
    }
    for name, text in sources.items():
        path = tmp_path / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    graph = rooms_of(tmp_path / "house")
    assert graph["hall"] == {"kitchen"} and graph["kitchen"] == {"cellar"}
    assert circle_in(graph) in ({"attic", "roof"}, {"cellar", "kitchen"})
    assert circle_in({room: graph[room] for room in ("attic", "roof", "hall")}) == {"attic", "roof"}
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == {"a", "b", "c"}
    assert circle_in(files_of(tmp_path / "house"))
