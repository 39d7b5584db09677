"""The architecture as two tables: who may import which of our rooms, and who owns which outside library.

Imports are read from the source, those inside functions too. A row speaks for a module and for all below it; of several
rows the longest name speaks. A new file in a room falls under its room's row; a new room or a new library has to be
given a row here, and that is the moment to think about it.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

COMMANDS = ("run", "plan", "verify", "report", "compare", "doctor", "attach")
"""One file for each thing that a person types; not all of them need exist."""

RUNNING_ROOMS = (
    "pipeline.audience",
    "pipeline.config",
    "pipeline.destination",
    "pipeline.diagnosis",
    "pipeline.engine",
    "pipeline.errors",
    "pipeline.evaluation",
    "pipeline.forecast",
    "pipeline.records",
    "pipeline.review",
    "pipeline.running",
    "pipeline.stages",
    "pipeline.storage",
)
"""What carries out a run; few of it know where workers come from."""

COMMAND_ROOMS = (*RUNNING_ROOMS, "cluster", "pipeline.audit", "pipeline.pages", "pipeline.planning")
"""All but the other commands and the demo."""

LAYERS: dict[str, tuple[str, ...]] = {
    # what a person imports from the top; a worker that imports a room of ours does not pay for it
    "pipeline": ("pipeline.config", "pipeline.evaluation", "pipeline.run", "pipeline.review.stored_outcomes"),
    # the ground: known to all, knowing nobody
    "pipeline.records": ("pipeline.records",),
    "pipeline.errors": (),
    # what does the work, without knowing who carries it; labels and classes are facts, not a stage
    "pipeline.stages": ("pipeline.errors", "pipeline.records", "pipeline.stages.classes", "pipeline.stages.labels"),
    "pipeline.stages.labels": (),
    "pipeline.stages.classes": ("pipeline.stages.labels",),
    "pipeline.stages.tensor_names": (),
    # what is known of this machine: not a stage either
    "pipeline.stages.user_cache": (),
    "pipeline.stages.compiling": ("pipeline.records", "pipeline.stages.user_cache"),
    "pipeline.stages.model": (
        "pipeline.errors",
        "pipeline.records",
        "pipeline.stages.compiling",
        "pipeline.stages.labels",
        "pipeline.stages.model",
        "pipeline.stages.tensor_names",
        "pipeline.stages.user_cache",
    ),
    "pipeline.storage": ("pipeline.errors", "pipeline.storage"),
    "pipeline.evaluation": ("pipeline.errors", "pipeline.evaluation", "pipeline.records", "pipeline.stages.labels"),
    "pipeline.forecast": (
        "pipeline.evaluation.metrics",
        "pipeline.evaluation.verdict",
        "pipeline.forecast",
        "pipeline.records",
    ),
    "pipeline.audit": ("pipeline.audit", "pipeline.errors", "pipeline.evaluation.metrics", "pipeline.records"),
    "pipeline.destination": ("pipeline.errors", "pipeline.storage"),
    # who carries it
    "pipeline.engine": (
        "pipeline.destination",
        "pipeline.engine",
        "pipeline.errors",
        "pipeline.records",
        "pipeline.stages",
        "pipeline.storage",
    ),
    "cluster": ("cluster",),
    # what is told of it, and to whom
    "pipeline.audience": (
        "pipeline.audience",
        "pipeline.destination",
        "pipeline.engine.plan",
        "pipeline.engine.progress",
        "pipeline.errors",
        "pipeline.evaluation",
        "pipeline.records",
    ),
    "pipeline.audience.audience": ("pipeline.engine.progress", "pipeline.evaluation", "pipeline.records"),
    "pipeline.audience.interrupt": (),
    # what became of it
    "pipeline.pages": (
        "pipeline.config",
        "pipeline.engine.isolation",
        "pipeline.errors",
        "pipeline.evaluation",
        "pipeline.pages",
        "pipeline.records",
        "pipeline.storage",
    ),
    "pipeline.review": (
        "pipeline.destination",
        "pipeline.errors",
        "pipeline.evaluation",
        "pipeline.pages",
        "pipeline.records",
        "pipeline.review",
        "pipeline.stages.outcomes",
        "pipeline.storage",
    ),
    # the front of the house
    "pipeline.config": ("pipeline.errors",),
    "pipeline.diagnosis": (
        "cluster.security",
        "pipeline.destination",
        "pipeline.diagnosis",
        "pipeline.engine",
        "pipeline.errors",
        "pipeline.records",
        "pipeline.stages.decode",
        "pipeline.storage",
    ),
    "pipeline.running": RUNNING_ROOMS,
    "pipeline.running.provision": (*RUNNING_ROOMS, "cluster"),
    "pipeline.running.tuning": (*RUNNING_ROOMS, "cluster"),
    "pipeline.running.upload": ("cluster",),
    "pipeline.running.fingerprint": ("pipeline.records", "pipeline.stages.outcomes"),
    "pipeline.planning": (
        "pipeline.config",
        "pipeline.engine",
        "pipeline.errors",
        "pipeline.evaluation",
        "pipeline.forecast",
        "pipeline.planning",
        "pipeline.records",
        "pipeline.review",
        "pipeline.running",
        "pipeline.stages",
        "pipeline.storage",
    ),
    # dask's own command line: it imports a command when that is typed
    "pipeline.dask_cli": tuple(f"pipeline.{command}" for command in COMMANDS),
    "pipeline.demo": ("pipeline.demo", "pipeline.stages.labels", "pipeline.storage"),
} | {f"pipeline.{command}": COMMAND_ROOMS for command in COMMANDS}
"""Which rooms a module may import from."""

LIBRARIES: dict[str, tuple[str, ...]] = {
    "aiohttp": ("pipeline.storage",),
    "boto3": ("pipeline.demo.s3",),
    "botocore": ("pipeline.storage", "pipeline.demo.s3"),
    "click": (
        "pipeline.audience",
        "pipeline.config",
        "pipeline.dask_cli",
        "pipeline.demo.__main__",
        *(f"pipeline.{command}" for command in COMMANDS),
    ),
    "cloudpickle": ("cluster.upload", "pipeline.diagnosis.examination"),
    # config, cluster: dask.config alone, where options come from, and what Dask's processes do
    "dask": ("pipeline.engine", "pipeline.config", "cluster"),
    "dask_cuda": ("cluster.local",),
    "distributed": (
        "cluster",
        "pipeline.engine",
        "pipeline.diagnosis",
        "pipeline.running.detaching",
        "pipeline.running.execution",
        "pipeline.running.performance",
        "pipeline.running.provision",
        "pipeline.running.tuning",
        "pipeline.planning.sampling",
        *(f"pipeline.{command}" for command in COMMANDS),
    ),
    "filelock": ("pipeline.stages.weights", "pipeline.stages.model.compiled"),
    "fsspec": ("pipeline.storage", "pipeline.stages.listing"),  # listing: glob_translate, a pure function on patterns
    "jinja2": ("pipeline.pages.rendering",),
    "markupsafe": ("pipeline.pages.rendering",),
    "numpy": ("pipeline",),
    "PIL": ("pipeline.stages.decode", "pipeline.demo.images", "pipeline.pages.pictures"),
    # audit and evaluation read what outcomes wrote, on their own
    "pyarrow": (
        "pipeline.stages.outcomes",
        "pipeline.stages.label_table",
        "pipeline.stages.manifest",
        "pipeline.audit",
        "pipeline.evaluation",
    ),
    "pynvml": ("cluster.local", "pipeline.diagnosis.questions"),
    "obstore": ("pipeline.storage.obstore_reader", "pipeline.storage.obstore_store"),
    "s3fs": ("pipeline.storage.s3_client",),
    "stamina": ("pipeline.storage.retries",),
    "toolz": ("pipeline.engine", "pipeline.storage", "pipeline.review.stored_outcomes", "pipeline.running.rescoring"),
    "torch": (
        "pipeline.stages.model",
        "pipeline.stages.precision",
        "pipeline.stages.weights",
        "pipeline.engine.inference",
        "pipeline.diagnosis.questions",
        "pipeline.demo.weights",
    ),
    "torchvision": ("pipeline.stages.model", "pipeline.diagnosis.questions", "pipeline.demo.weights"),
    "tqdm": ("pipeline.audience.console",),
}
"""Which modules may import a library: its owner first."""

ONLY_INSIDE_FUNCTIONS = {
    ("cluster.local", "dask_cuda"),  # imports CUDA's libraries
    ("cluster.local", "pynvml"),  # is there on Linux only
    ("pipeline.diagnosis.questions", "pynvml"),  # travels to where it may be missing
    ("pipeline.diagnosis.questions", "torch"),  # likewise
    ("pipeline.diagnosis.questions", "torchvision"),  # likewise
    ("pipeline.diagnosis.questions", "distributed"),  # likewise
    ("pipeline.stages.model.network", "torchvision"),  # imports torch's compiler: see pipeline.stages.model.resnet50
    ("pipeline.stages.precision", "torch"),  # asked where the system does not tell
    ("pipeline.stages.weights", "torch"),  # for a node's first download only
    ("pipeline.engine.inference", "torch"),  # takes seconds, which the inference thread has and a worker's loop has not
}

WITHOUT = {
    "pipeline.records": ("torch", "dask", "distributed", "fsspec", "PIL", "pyarrow"),
    "pipeline.run": ("torch", "torchvision"),  # a command that is refused should not have waited for them
    "pipeline.verify": ("torch", "torchvision"),  # likewise
    "pipeline.report": ("torch", "torchvision", "distributed"),  # it looks at a table
    "pipeline.dask_cli": ("dask", "distributed", "torch", "fsspec"),  # dask imports it at each of its commands
    "cluster.parcel": ("cluster", "pipeline", "cloudpickle"),  # it travels to where there is nothing of ours
    "pipeline.engine.worker": ("torch", "torchvision"),  # it is unpickled on a worker's event loop
    "pipeline.engine.isolation": ("torch", "torchvision", "dask", "distributed", "fsspec", "pyarrow"),  # for children
    "pipeline.stages.model": ("torchvision",),  # two fifths of a worker's start
    "pipeline.audience.console": ("torch", "torchvision"),
    "cluster.connect": ("torch", "dask_cuda", "pynvml"),
}
"""Libraries that importing a module must not import, not even by what it imports."""


@dataclass(frozen=True)
class Import:
    """One imported module, by its full name."""

    name: str
    line: int
    is_inside_function: bool

    @property
    def library(self) -> str:
        return self.name.partition(".")[0]


def import_statements(tree: ast.AST, is_inside_function: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    """Yield every import of a tree, and whether it stands in a function, or where only a type checker comes by."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, is_inside_function
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        yield from import_statements(node, is_inside_function or is_function or is_for_types)


def names_of(statement: ast.stmt, package: str, known: set[str]) -> list[str]:
    """Return the modules that a statement imports: the modules, not what is in them."""
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    assert isinstance(statement, ast.ImportFrom)
    above = package.rsplit(".", statement.level - 1)[0] if statement.level else ""
    base = ".".join(filter(None, (above, statement.module)))
    whole = [f"{base}.{alias.name}" for alias in statement.names]
    return [name if name in known else base for name in whole]


def modules_below(root: Path) -> dict[str, Path]:
    """Return the source file of every module of ours, by the module's name."""
    paths = [path for room in ("pipeline", "cluster") for path in sorted((root / room).rglob("*.py"))]
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imports_below(root: Path) -> dict[str, list[Import]]:
    """Return what every module of ours imports."""
    modules = modules_below(root)
    found = {}
    for module, path in modules.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        found[module] = [
            Import(name, statement.lineno, is_inside_function)
            for statement, is_inside_function in import_statements(ast.parse(path.read_text(encoding="utf-8")))
            for name in names_of(statement, package, set(modules))
        ]
    return found


def is_within(module: str, row: str) -> bool:
    return module == row or module.startswith(f"{row}.")


def row_of(module: str) -> str | None:
    """Return the row of LAYERS that speaks for a module; ``pipeline`` speaks for its ``__init__`` alone."""
    rows = [row for row in LAYERS if is_within(module, row) and (row != "pipeline" or module == row)]
    return max(rows, key=len, default=None)


def layer_faults(imports: dict[str, list[Import]]) -> Iterator[str]:
    """Yield every import of ours that LAYERS does not allow."""
    for module, found in imports.items():
        row = row_of(module)
        if row is None:
            yield f"{module} has no row in LAYERS: say which rooms it may import"
            continue
        for item in found:
            is_ours = item.library in ("pipeline", "cluster")
            if is_ours and not any(is_within(item.name, room) for room in LAYERS[row]):
                yield f"{module}:{item.line} imports {item.name}, which is not for {row}"


def library_faults(imports: dict[str, list[Import]]) -> Iterator[str]:
    """Yield every import of a library by somebody who does not own it."""
    for module, found in imports.items():
        for item in found:
            if item.library in sys.stdlib_module_names or item.library in ("pipeline", "cluster"):
                continue
            if item.library not in LIBRARIES:
                yield f"{module}:{item.line} imports {item.name}: give it an owner in LIBRARIES"
            elif not any(is_within(module, owner) for owner in LIBRARIES[item.library]):
                yield f"{module}:{item.line} imports {item.name}, which belongs to {LIBRARIES[item.library][0]}"
            elif (module, item.library) in ONLY_INSIDE_FUNCTIONS and not item.is_inside_function:
                yield f"{module}:{item.line} imports {item.name} outside of a function"


def loaded_with(module: str, imports: dict[str, list[Import]]) -> dict[str, str]:
    """Return every library that importing a module imports, and which of our modules does it."""
    loaded: dict[str, str] = {}
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in imports:
            continue
        seen.add(name)
        waiting.append(name.rpartition(".")[0])
        for item in imports[name]:
            if not item.is_inside_function:
                waiting.append(item.name)
                loaded.setdefault(item.library, name)
    return loaded


@pytest.fixture(scope="module")
def imports() -> dict[str, list[Import]]:
    return imports_below(ROOT)


# The tables hold


def test_every_module_imports_only_from_the_rooms_that_are_open_to_it(imports: dict[str, list[Import]]):
    assert list(layer_faults(imports)) == []


def test_every_library_is_imported_by_its_owners_only(imports: dict[str, list[Import]]):
    assert list(library_faults(imports)) == []


@pytest.mark.parametrize(("module", "libraries"), WITHOUT.items(), ids=list(WITHOUT))
def test_importing_a_module_does_not_import_what_it_should_do_without(
    module: str, libraries: tuple[str, ...], imports: dict[str, list[Import]]
):
    loaded = loaded_with(module, imports)

    assert module in imports
    assert {library: loaded[library] for library in libraries if library in loaded} == {}


def test_no_module_hides_an_import_behind_a_string():
    hidden = [
        f"{module}:{node.lineno}"
        for module, path in modules_below(ROOT).items()
        # what the first imports late it also imports for type checkers; the second looks for what it is to bring
        if module not in ("pipeline", "cluster.parcel")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node).endswith(("import_module", "__import__"))
    ]

    assert hidden == []


# The tables are true


def test_every_room_of_the_tables_exists(imports: dict[str, list[Import]]):
    may_come = {f"pipeline.{command}" for command in COMMANDS}
    rooms = set(LAYERS) | {room for row in LAYERS.values() for room in row}

    assert {room for room in rooms - may_come if not any(is_within(module, room) for module in imports)} == set()


def test_every_owner_in_the_tables_uses_what_it_owns(imports: dict[str, list[Import]]):
    may_come = {f"pipeline.{command}" for command in COMMANDS}
    used = {(module, item.library) for module, found in imports.items() for item in found}
    unused = {
        (owner, library)
        for library, owners in LIBRARIES.items()
        for owner in owners
        if owner not in may_come and not any(name == library and is_within(module, owner) for module, name in used)
    }

    assert unused == set()
    assert used >= ONLY_INSIDE_FUNCTIONS


def test_the_rules_that_people_rely_on_are_in_the_tables():
    commands = {f"pipeline.{command}" for command in COMMANDS}
    stages = {room for room in LAYERS["pipeline.stages"] if is_within(room, "pipeline.stages")}
    front = {"pipeline.config", "pipeline.audience.console", *commands}

    assert LAYERS["pipeline.errors"] == ()
    assert LAYERS["pipeline.records"] == ("pipeline.records",)
    assert stages == {"pipeline.stages.classes", "pipeline.stages.labels"}
    assert {row for row, rooms in LAYERS.items() if "cluster" in rooms} == {
        "cluster",
        "pipeline.running.provision",
        "pipeline.running.tuning",
        "pipeline.running.upload",
        *commands,
    }
    assert LAYERS["cluster"] == ("cluster",)
    assert front.isdisjoint(LAYERS["pipeline.engine"])
    assert {"pipeline.engine", "pipeline.storage"}.isdisjoint(LAYERS["pipeline.evaluation"])


# The checks see what they should see


def faults_of(root: Path, module: str, source: str) -> list[str]:
    """Return what the checks say of a module with this source, beside a room that it might import."""
    for name, text in {"pipeline.stages.decode": "", "pipeline.config": "", module: source}.items():
        path = root.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    imports = imports_below(root)
    return [*layer_faults(imports), *library_faults(imports)]


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        (
            "pipeline.records",
            "import torch",
            "pipeline.records:1 imports torch, which belongs to pipeline.stages.model",
        ),
        ("pipeline.records", "import pipeline.errors", "imports pipeline.errors, which is not for pipeline.records"),
        (
            "pipeline.stages.new",
            "from pipeline.stages import decode",
            "imports pipeline.stages.decode, which is not for",
        ),
        ("pipeline.stages.new", "from pipeline.stages.decode import decode", "imports pipeline.stages.decode"),
        ("pipeline.stages.new", "from . import decode", "imports pipeline.stages.decode"),
        ("pipeline.stages.new", "from ..config import RunConfig", "imports pipeline.config"),
        ("pipeline.stages.new", "def f():\n    from dask import delayed", "pipeline.stages.new:2 imports dask"),
        ("pipeline.stages.new", "import fsspec.core", "imports fsspec.core, which belongs to pipeline.storage"),
        ("pipeline.engine.new", "from pipeline import config", "imports pipeline.config, which is not for"),
        ("pipeline.engine.new", "import pipeline.run", "imports pipeline.run"),
        ("pipeline.engine.new", "import cluster.local", "imports cluster.local"),
        ("pipeline.evaluation.new", "from pipeline.engine.plan import Planner", "imports pipeline.engine.plan"),
        ("pipeline.storage.new", "from pipeline.records import Part", "imports pipeline.records"),
        (
            "cluster.new",
            "from pipeline.errors import ClusterError",
            "imports pipeline.errors, which is not for cluster",
        ),
        ("cluster.new.deep", "import pipeline", "imports pipeline, which is not for cluster"),
        (
            "pipeline.engine.inference",
            "import torch",
            "pipeline.engine.inference:1 imports torch outside of a function",
        ),
        ("pipeline.stages.new", "import pandas", "imports pandas: give it an owner in LIBRARIES"),
        ("pipeline.utils", "", "pipeline.utils has no row in LAYERS"),
        ("pipeline.utils.new", "", "pipeline.utils.new has no row in LAYERS"),
    ],
)
def test_a_forbidden_import_is_found_wherever_and_however_it_stands(
    tmp_path: Path, module: str, source: str, fault: str
):
    found = faults_of(tmp_path, module, source)

    assert len(found) == 1
    assert fault in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pipeline.stages.new", "from pipeline.stages.labels import wnid_of\nimport numpy, json"),
        ("pipeline.engine.new", "from pipeline.stages import decode\nfrom dask.delayed import Delayed"),
        ("pipeline.engine.inference", "def f():\n    import torch"),
        ("pipeline.verify", "import click\nfrom cluster.connect import connect\nfrom pipeline.config import RunConfig"),
        ("cluster.new", "from cluster.local import LOOPBACK\nfrom distributed import Client"),
    ],
)
def test_what_the_tables_allow_is_no_fault(tmp_path: Path, module: str, source: str):
    assert faults_of(tmp_path, module, source) == []


def test_what_is_loaded_is_followed_through_our_own_modules_but_not_into_functions(tmp_path: Path):
    faults_of(tmp_path, "pipeline.run", "from pipeline.config import A\ndef f():\n    import torch\n")
    (tmp_path / "pipeline" / "config.py").write_text("import dask.config")
    (tmp_path / "pipeline" / "__init__.py").write_text("import yaml")

    loaded = loaded_with("pipeline.run", imports_below(tmp_path))

    assert loaded == {"pipeline": "pipeline.run", "dask": "pipeline.config", "yaml": "pipeline"}
