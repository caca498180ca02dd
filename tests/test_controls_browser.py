"""Every control of the notebooks in a real JupyterLab: moved by keyboard and mouse, its picture changes

Of each notebook only what its control needs is run, all of it in one kernel, each in a namespace of its own.
"""

import ast
import itertools
import re
import symtable
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import plotly.graph_objects as go
import pytest
from browser import run_cells
from conftest import ROOT
from playwright.sync_api import Locator, Page, expect

MINUTES = 5 * 60_000
expect.set_options(timeout=30_000)  # ms: other tests have the cores
COMPONENTS = range(11, 17)  # each of these notebooks, planted truth and unlearning have a control


def names_bound(statement: ast.stmt) -> set[str]:
    """The names that a statement at the top of a cell gives a meaning to."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
    bound = set[str]()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            while isinstance(node, ast.Attribute | ast.Subscript):  # a part of it is changed
                node = node.value
            bound |= {node.id} if isinstance(node, ast.Name) else set()
    return bound


def names_used(statement: ast.stmt) -> set[str]:
    """The names of other statements that it reads, also when its functions are called."""
    tables, used = [symtable.symtable(ast.unparse(statement), "cell", "exec")], set[str]()
    while tables:
        table = tables.pop()
        outer = table.get_type() == "module"
        used |= {one.get_name() for one in table.get_symbols() if (one.is_referenced() if outer else one.is_global())}
        tables += table.get_children()
    return used


def without_other_names(statement: ast.stmt, wanted: set[str]) -> ast.stmt:
    """An import of the wanted names only, so that what no control needs is not loaded."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        statement.names = [
            alias for alias in statement.names if (alias.asname or alias.name).split(".")[0] in wanted
        ]
    return statement


def needed(cells: list[str], last: str) -> str:
    """The statements of earlier cells that the expression `last` needs, in order, and nothing else."""
    statements = [statement for cell in cells for statement in ast.parse(cell).body]
    wanted, kept = names_used(ast.parse(last).body[0]) | {"notebook_plots"}, list[ast.stmt]()
    for statement in reversed(statements):
        if names_bound(statement) & wanted or ast.unparse(statement) == "notebook_plots()":
            kept.insert(0, without_other_names(statement, wanted))
            wanted |= names_used(statement)
    return "\n".join(ast.unparse(statement) for statement in kept)


@dataclass(frozen=True)
class Found:
    """A control as it stands in a notebook."""

    notebook: Path
    expression: str
    before: list[str]  # sources of the code cells before it
    outputs: list[nbformat.NotebookNode]

    @classmethod
    def of(cls, path: Path) -> Iterator["Found"]:
        """The controls of a notebook, in order."""
        before = list[str]()
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                if found := re.fullmatch(r"(?:control = )?(Control\(.*\))(?:\ncontrol)?", cell.source, re.DOTALL):
                    yield cls(path.relative_to(ROOT), found[1], [*before], cell.outputs)
                before.append(cell.source)

    @property
    def cell(self) -> nbformat.NotebookNode:
        """A cell that shows the control, its names apart from those of other notebooks; as stored, before it is run."""
        source = f"exec({needed(self.before, self.expression)!r}, space := {{}})\neval({self.expression!r}, space)"
        return nbformat.v4.new_code_cell(source, outputs=self.outputs, execution_count=1)


CONTROLS = [found for path in sorted(ROOT.glob("nbs/**/[0-9]*.ipynb")) for found in Found.of(path)]

# What is drawn of the data: outlines, their colours and places, images. Not titles: a number in one is no picture.
DRAWN = """output => [...output.querySelectorAll('.js-plotly-plot .mlayer :is(path, image)')].map(mark => ['d', 'href',
  'transform', 'style'].map(name => mark.getAttribute(name)).join()).filter(mark => mark.length > 3).join(';')"""


def drawn_other_than(page: Page, output: Locator, before: str) -> str:
    """What is drawn, as soon as it is there and no longer what was there before."""
    now = f"([output, before]) => {{ const now = ({DRAWN})(output); return now !== before && now }}"
    found = page.wait_for_function(now, arg=[output.element_handle(), before])
    return str(found.json_value())


def readout(slider: Locator) -> str:
    return slider.locator(".widget-readout").inner_text()


def test_every_notebook_that_should_have_a_control_has_one_and_stores_its_picture() -> None:
    numbers = {found.notebook.name[:2] for found in CONTROLS}
    assert {"06", "33", *map(str, COMPONENTS)} <= numbers
    for found in CONTROLS:
        [output] = found.outputs
        assert {"application/vnd.plotly.v1+json", "image/png"} <= output.data.keys(), found.notebook
        assert "application/vnd.jupyter.widget-view+json" not in output.data, found.notebook


def numbers(drawn: object) -> np.ndarray:
    """The numbers along one axis of a trace; none where it has words, or nothing."""
    try:
        return np.asarray([] if drawn is None else drawn, dtype=float).ravel()
    except ValueError:
        return np.empty(0)


def cut_off(figure: go.Figure) -> list[str]:
    """What is drawn of no number, or outside the range that a linear axis was given."""
    found = []
    for trace in figure.data:
        for letter in "xyz":
            drawn, low, high = numbers(getattr(trace, letter, None)), -np.inf, np.inf
            if letter != "z":
                axis = figure.layout[f"{letter}axis{(trace[f'{letter}axis'] or letter)[1:]}"]
                low, high = sorted(axis.range) if axis.range and axis.type != "log" else (low, high)
            if not (np.isfinite(drawn) & (drawn >= low) & (drawn <= high)).all():
                found.append(f"{letter} of {trace.name!r}: {drawn.min():.3g} to {drawn.max():.3g}")
    return found


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of plotly, given a tensor
@pytest.mark.parametrize("found", CONTROLS, ids=lambda found: found.notebook.stem)
def test_a_picture_is_whole_wherever_its_sliders_stand(found: Found) -> None:
    """At both ends of all sliders together, and at every place of each."""
    space: dict[str, Any] = {}
    exec(needed(found.before, found.expression), space)
    control = eval(found.expression, space)
    places = {name: [place for _, place in slider.options] for name, slider in control.sliders.items()}
    spots = [dict(zip(places, ends, strict=True)) for ends in itertools.product(*(
        (values[0], values[-1]) for values in places.values()))]
    spots += [{**control.begin, name: value} for name, values in places.items() for value in values]
    for spot in spots:
        figure = control.picture(**spot)
        drawn = sum(numbers(getattr(trace, letter, None)).size for trace in figure.data for letter in "yz")
        assert drawn, f"{spot}: nothing is drawn"
        assert not (missing := cut_off(figure)), f"{spot}: {missing}"


def test_each_control_moved_changes_its_picture(
    lab: Callable[[str], str], project: Path, page: Page, tmp_path: Path
) -> None:
    cells = [found.cell for found in CONTROLS]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), project / "controls.ipynb")
    page.goto(lab("controls.ipynb"), timeout=MINUTES)
    outputs = page.locator(".jp-Notebook .jp-CodeCell")
    expect(outputs).to_have_count(len(CONTROLS), timeout=MINUTES)
    for number, found in enumerate(CONTROLS):  # as stored, with a kernel that has run nothing
        outputs.nth(number).scroll_into_view_if_needed()
        expect(outputs.nth(number).locator(".jp-RenderedPlotly img"), str(found.notebook)).to_be_visible()
    expect(page.locator(".jp-Notebook")).not_to_contain_text("Error displaying widget")

    run_cells(page)
    for number, found in enumerate(CONTROLS):
        output = outputs.nth(number)
        output.locator(".widget-slider").first.wait_for(timeout=MINUTES)
        sliders = output.locator(".widget-slider")
        for slider in sliders.all():
            slider.scroll_into_view_if_needed()
            before, stood = drawn_other_than(page, output, ""), readout(slider)
            handle = slider.locator(".noUi-handle")
            handle.focus()
            last = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
            there, back = ("ArrowLeft", "ArrowRight") if last else ("ArrowRight", "ArrowLeft")
            page.keyboard.press(there)
            after = drawn_other_than(page, output, before)
            assert readout(slider) != stood, found.notebook
            page.keyboard.press(back)
            assert drawn_other_than(page, output, after) == before, found.notebook
            assert readout(slider) == stood, found.notebook
        slider = sliders.first  # and by mouse, to one end
        track, before = slider.locator(".noUi-base").bounding_box(), drawn_other_than(page, output, "")
        assert track is not None
        at_start = slider.locator(".noUi-handle").get_attribute("aria-valuenow") == "0.0"
        page.mouse.click(track["x"] + (track["width"] if at_start else 0), track["y"] + track["height"] / 2)
        drawn_other_than(page, output, before)
        expect(output.locator(".js-plotly-plot")).to_have_count(1)
    page.screenshot(path=tmp_path / "controls.png")
