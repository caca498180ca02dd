"""The names at the top of the package: each resolves, for people and type checkers, and none costs before it is used"""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import tsae_nb

SOURCE = Path(tsae_nb.__file__).read_text()


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
