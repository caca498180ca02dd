"""Pictures and figures are stored small, and look the same"""

import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import plotly.graph_objects as go
import pytest
from PIL import Image, ImageChops, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import pictures  # noqa: E402

PALETTE = 3  # the kind of colours, byte 25 of a PNG


def drawn(mode: str = "RGBA", paper: tuple[int, ...] = (255, 255, 255, 255)) -> bytes:
    """Lines of some colours, with smooth edges and a shade, as a chart has them."""
    large = Image.new(mode, (1200, 800), paper)
    pen = ImageDraw.Draw(large)
    for number, colour in enumerate(("#1f77b4", "#d62728", "#2ca02c", "#444444")):
        pen.line([(0, 150 * number + 80), (1200, 90 * number + 300)], fill=colour, width=6)
    for x in range(0, 1200, 4):
        pen.rectangle([x, 700, x + 4, 800], fill=(x * 255 // 1200, 90, 255 - x * 255 // 1200))
    content = io.BytesIO()
    large.resize((600, 400), Image.Resampling.LANCZOS).save(content, "PNG")
    return content.getvalue()


def test_a_small_picture_looks_the_same_and_is_the_same_every_time() -> None:
    png = drawn()
    small = pictures.small(png)
    assert len(small) < len(png) and small[25] == PALETTE
    before, after = (Image.open(io.BytesIO(content)).convert("RGB") for content in (png, small))
    assert max(high for _, high in ImageChops.difference(before, after).getextrema()) <= 24  # of 255, anywhere
    assert pictures.small(png) == small == pictures.small(small)
    with pytest.raises(ValueError, match="transparent"):
        pictures.small(drawn(paper=(255, 255, 255, 0)))


def test_a_figure_keeps_what_its_template_says_of_it() -> None:
    flat = go.Figure([go.Bar(y=[1, 2]), go.Scatter(y=[1, 2])], layout={"template": "plotly_white"})
    before = json.loads(flat.to_json())
    kept = pictures.plain(before)
    template, whole = kept["layout"]["template"], before["layout"]["template"]
    assert set(template["data"]) == {"bar", "scatter"} and template["data"]["bar"] == whole["data"]["bar"]
    assert template["layout"]["xaxis"] == whole["layout"]["xaxis"] and "polar" not in template["layout"]
    assert kept["data"] == before["data"] and len(json.dumps(kept)) < len(json.dumps(before)) / 2
    deep = json.loads(go.Figure(go.Scatter3d(z=[1]), layout={"template": "plotly_white"}).to_json())
    assert pictures.plain(deep) == deep


def stored() -> Iterator[tuple[str, bytes]]:
    """Every picture that is committed, with the file it is in."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
    for name in listed:
        if name.endswith(".png"):
            yield name, (ROOT / name).read_bytes()
        elif name.endswith(".ipynb") and '"image/png"' in (text := (ROOT / name).read_text(encoding="utf-8")):
            for cell in nbformat.reads(text, as_version=4).cells:
                for output in cell.get("outputs", []):
                    if png := output.get("data", {}).get("image/png"):
                        yield name, base64.b64decode(png)


def test_every_stored_picture_is_small() -> None:
    large = {name for name, png in stored() if png[25] != PALETTE}
    assert not large, f"python tools/pictures.py {' '.join(sorted(large))}"


def test_a_notebook_and_a_folder_of_figures_are_made_small_in_place(tmp_path: Path) -> None:
    page, figures, png = tmp_path / "page.ipynb", tmp_path / "figures", drawn()
    output = nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(png).decode(), "text/plain": "a"})
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[output])]), page)
    figures.mkdir()
    for suffix in (".png", ".svg", ".csv"):
        (figures / f"figure9{suffix}").write_bytes(png)
    pictures.shrink(page)
    pictures.keep_figures(figures)
    (made,) = nbformat.read(page, as_version=4).cells[0].outputs
    assert base64.b64decode(made.data["image/png"]) == pictures.small(png) and made.data["text/plain"] == "a"
    assert {path.suffix: path.read_bytes() for path in figures.iterdir()} == {".png": pictures.small(png), ".csv": png}
