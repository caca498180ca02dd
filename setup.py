"""While a wheel or sdist is built, files that a checkout has at a place of its own are copied into the package.

`tsae_nb.carried` finds them in either; here stands which they are. All else about the build is in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
CARRIED = (
    "runs/*.yaml",
    "runs/reference/tiny/topk/**/*",
    "runs/reference/tiny/temporal/**/*",
    "runs/reference/planted-grid/*",
    "runs/reference/matched.csv",
    "runs/reference/planted.csv",
    "nbs/explore/*.ipynb",
    "nbs/experiments/run_variants.ipynb",
    "nbs/experiments/figures.ipynb",
    "nbs/experiments/claims.ipynb",
    "figures/explorer.png",
    "figures/time_explorer.png",
    "figures/training_monitor.png",
    "figures/unlearning_explorer.png",
)


def carried() -> list[Path]:
    """The files, seen from the project's folder; an index that somebody built beside a run is not one."""
    found = (path.relative_to(ROOT) for pattern in CARRIED for path in sorted(ROOT.glob(pattern)) if path.is_file())
    return [path for path in found if "index" not in path.parts]


class CarryingBuild(build_py):
    """Puts them into `tsae_nb/project`; an editable installation uses the checkout's own."""

    def run(self) -> None:
        super().run()
        for path in [] if self.editable_mode else carried():
            target = Path(self.build_lib, "tsae_nb", "project", path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, target)

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), *map(str, carried())]


setup(cmdclass={"build_py": CarryingBuild})
