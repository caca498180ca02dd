"""The stored runs by other instructions of the processor: of today's settings, and truly other sums"""

import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import line_sets  # noqa: E402
import rounding_set  # noqa: E402

from tsae_nb.config import VARIANTS  # noqa: E402


def test_what_is_stored_is_of_todays_files() -> None:
    assert rounding_set.LINES.outdated("") == [] and not any(map(rounding_set.LINES.missing, rounding_set.PARTS))


def test_sums_differ_and_what_is_learned_does_not() -> None:
    table = pd.read_csv(ROOT / rounding_set.LINES.table)
    assert table.sae.nunique() == len(table) == 9 and {*table.method} <= {*VARIANTS}
    left = 1 - table.set_index("method").explained_variance
    assert (left.groupby(level=0).max() / left.groupby(level=0).min() < 1.02).all()
    of_jumprelu = table[table.method == "jumprelu"]
    assert of_jumprelu.unlearning_held_out.max() - of_jumprelu.unlearning_held_out.min() > 0.3


def test_a_part_has_the_instructions_in_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def run(self: object, command: list[str], say: object, environment: dict[str, str]) -> int:
        given.append(environment["ATEN_CPU_CAPABILITY"])
        return 1

    monkeypatch.setattr(line_sets.Children, "run", run)
    lines = line_sets.LineSet(rounding_set.PARTS, Path("none.csv"), tmp_path, ("method",), rounding_set.of_run)
    assert not lines.train(rounding_set.PARTS, 1) and given == ["avx512", "avx2", "default"]
