"""Python imports this when it starts with this folder in PYTHONPATH: the pretend device, on once torch is imported"""

import importlib.util
import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


class _BeforeTorch(MetaPathFinder):
    """Loads the guard when torch is about to be imported, and switches on when it has been."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        sys.path.insert(0, str(Path(__file__).parents[2]))
        import pretend_cuda

        sys.path.pop(0)

        spec = importlib.util.find_spec("torch")
        assert spec is not None and spec.loader is not None, "torch is not installed"
        execute = spec.loader.exec_module

        def executed(module: ModuleType) -> None:
            execute(module)
            pretend_cuda.switch_on()

        pretend_cuda.load_guard()
        spec.loader.exec_module = executed  # type: ignore[method-assign]
        return spec


if os.environ.get("TSAE_PRETEND_CUDA") == "1":
    sys.meta_path.insert(0, _BeforeTorch())
