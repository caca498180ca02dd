"""Pictures as they are kept: a PNG of 256 colours is a quarter of the browser's own, and looks the same.

    python tools/pictures.py figures/explorer.png nbs/03_tiny_lm.ipynb    PNG files, and outputs of notebooks, in place

`tools/execute.py`, `tools/reference.py` and `tools/planted_set.py` do so with what they write. The same picture gives
the same bytes, and a picture that is small stays as it is.
"""

import base64
import io
import sys
from pathlib import Path
from typing import Any

import nbformat

from tsae_nb.storage import whole_file

COLOURS = 256
MOVED = 100  # pixels that still change their colour when those of large areas are near enough to what they were
KEPT_FIGURES = (".png", ".csv")  # of a figure; `tsae figures` gives page, JSON and SVG of the stored runs in seconds
FLAT = {"bar", "heatmap", "histogram", "scatter", "scattergl"}  # traces that have an x and a y axis
NOT_FLAT = ("geo", "map", "mapbox", "polar", "scene", "smith", "ternary")


def small(png: bytes) -> bytes:
    """The picture with the 256 colours that come nearest to its own, without dithering."""
    from PIL import Image  # most of what is executed has no picture

    with Image.open(io.BytesIO(png)) as picture:
        if picture.mode == "P":
            return png
        if picture.convert("RGBA").getextrema()[3] != (255, 255):
            raise ValueError("a picture that is transparent somewhere shows another background in a dark page")
        fewer = picture.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, MOVED, dither=Image.Dither.NONE)
    content = io.BytesIO()
    fewer.save(content, "PNG", optimize=True)
    return content.getvalue()


def plain(figure: dict[str, Any]) -> dict[str, Any]:
    """A plotly figure whose template says nothing of kinds of traces, and of axes, that it has not."""
    template, kinds = figure["layout"].get("template"), {trace.get("type", "scatter") for trace in figure["data"]}
    if not template or not kinds <= FLAT:
        return figure
    data = {kind: defaults for kind, defaults in template.get("data", {}).items() if kind in kinds}
    layout = {name: value for name, value in template.get("layout", {}).items() if name not in NOT_FLAT}
    return figure | {"layout": figure["layout"] | {"template": template | {"data": data, "layout": layout}}}


def kept(output: Any) -> Any:
    """An output as it is stored: without its widget (an error message where no kernel runs), its picture small."""
    data = output.get("data", {})
    data.pop("application/vnd.jupyter.widget-view+json", None)
    if png := data.get("image/png"):
        data["image/png"] = base64.b64encode(small(base64.b64decode(png))).decode()
    if figure := data.get("application/vnd.plotly.v1+json"):
        data["application/vnd.plotly.v1+json"] = plain(figure)
    return output


def shrink(path: Path) -> None:
    """Make the picture in a file small, or those of a notebook."""
    if path.suffix == ".png":
        content = small(path.read_bytes())
    else:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if "outputs" in cell:
                cell.outputs = [kept(output) for output in cell.outputs]
        content = (nbformat.writes(notebook) + "\n").encode()
    if content != path.read_bytes():
        with whole_file(path) as temporary:
            temporary.write_bytes(content)


def keep_figures(folder: Path) -> None:
    """Leave of the figures in a folder what a repository keeps, with small pictures."""
    for path in sorted(folder.iterdir()):
        if path.suffix not in KEPT_FIGURES:
            path.unlink()
        elif path.suffix == ".png":
            shrink(path)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        shrink(Path(name))
