"""The names at the top of the package: each resolves, for people and type checkers, and none costs before it is used"""

import ast
import subprocess
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import pytest

import tsae_nb

SOURCE = Path(tsae_nb.__file__).read_text()


MODULES = [path for path in sorted(Path(tsae_nb.__file__).parent.rglob("*.py")) if not path.name.startswith("_")]
ON_PURPOSE = {
    "main": "the command line in `cli`, and in `entry` what the system starts, which answers signals while that loads",
}


def for_type_checkers() -> dict[str, str]:
    """Name → module, as the imports below `if TYPE_CHECKING` have them."""
    block = next(node for node in ast.parse(SOURCE).body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names if alias.name == alias.asname}


def test_a_type_checker_reads_the_names_that_there_are() -> None:
    assert for_type_checkers() == tsae_nb._PLACES


@pytest.mark.parametrize("name", sorted(tsae_nb._PLACES))
def test_a_name_is_the_one_of_its_module(name: str) -> None:
    module = import_module(f"tsae_nb.{tsae_nb._PLACES[name]}")
    assert getattr(tsae_nb, name) is getattr(module, name) and name in dir(tsae_nb)
    assert getattr(module, name).__module__ == module.__name__, "its own, not one that it imports itself"


def test_another_name_is_an_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = tsae_nb.no_such_name
    with pytest.raises(ImportError, match="no_such_name"):
        exec("from tsae_nb import no_such_name")


def test_the_package_and_the_command_line_import_nothing_heavy() -> None:
    program = """import sys, tsae_nb, tsae_nb.cli
print(sorted({"torch", "numpy", "pandas", "pydantic", "papermill", "transformers"} & sys.modules.keys()))"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


# -- one word, one thing -----------------------------------------------------------------------------------------------

def defined(body: list[ast.stmt]) -> set[str]:
    """The names that the top of a module gives, also in branches: functions, classes, what is assigned."""
    names = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {part.id for target in targets for part in ast.walk(target)
                      if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
        elif isinstance(node, ast.If | ast.Try | ast.With):
            names |= defined([each for each in ast.iter_child_nodes(node) if isinstance(each, ast.stmt)])
    return names


def in_two(sources: dict[str, str]) -> dict[str, list[str]]:
    """Public names that more than one module defines, with the modules."""
    where = defaultdict(list)
    for module, source in sources.items():
        for name in defined(ast.parse(source).body):
            if not name.startswith("_"):
                where[name].append(module)
    return {name: modules for name, modules in where.items() if len(modules) > 1}


def test_no_public_name_is_defined_in_two_modules() -> None:
    assert len(MODULES) > 40, "the package was not found"
    found = in_two({path.stem: path.read_text() for path in MODULES})
    assert found.keys() == ON_PURPOSE.keys(), f"one word, one thing: give these a name each {found}"


@pytest.mark.parametrize("source", [
    "KIND = 1", "KIND: int = 1", "def KIND(): ...", "class KIND: ...", "other, (KIND, third) = 1, (2, 3)",
    "if True:\n    KIND = 1\nelse:\n    other = 1", "try:\n    KIND = 1\nfinally:\n    other = 1",
])
def test_a_name_is_seen_however_it_is_defined(source: str) -> None:
    assert in_two({"one": source, "two": "class KIND: ..."}) == {"KIND": ["one", "two"]}
    assert not in_two({"one": source.replace("KIND", "_kind"), "two": "_kind = 2", "three": "kind.other = KIND"})
