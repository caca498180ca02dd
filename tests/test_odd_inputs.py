"""Odd inputs of every kind: no traceback, no hang, nothing that silently means something else.

`TSAE_SOAK=1` tries a thousand, `TSAE_ODD=5000` begins with that number.
"""

import os
from collections import Counter
from collections.abc import Iterator

import pytest
from odd_inputs import KINDS, Fault, Odd, Place

COUNT = 1000 if os.environ.get("TSAE_SOAK") else 100
FIRST = int(os.environ.get("TSAE_ODD", "0"))  # another thousand: the number of its first


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("odd"))


@pytest.fixture(scope="module")
def outcomes() -> Iterator[Counter[tuple[str, str]]]:
    counted: Counter[tuple[str, str]] = Counter()
    yield counted
    print("\n" + ", ".join(f"{kind}: {count} {outcome}" for (kind, outcome), count in sorted(counted.items())))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_odd_input(seed: int, place: Place, outcomes: Counter[tuple[str, str]]) -> None:
    odd = Odd.of(seed, place)
    try:
        outcomes[odd.kind, odd.run()] += 1
    except Fault as fault:
        pytest.fail(f"seed {seed}, {odd.kind}: {odd.shown}\n{fault}\n{_where(fault)}", pytrace=False)


def _where(fault: Fault) -> str:
    """The last lines of ours on the way to the error."""
    steps, trace = [], (fault.__cause__ or fault).__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        steps += [f"{name.rpartition('/')[2]}:{trace.tb_lineno}"] if "site-packages" not in name else []
        trace = trace.tb_next
    return " ".join(steps[-4:])


def test_all_kinds_take_turns(place: Place) -> None:
    assert {Odd.of(seed, place).kind for seed in range(len(KINDS))} == set(KINDS)
    assert Odd.of(8, place).shown == Odd.of(8, place).shown
