"""Measure how long the explorer's kernel side takes on an index of synthetic codes.

    python tools/explorer_latency.py                      # 16,384 features, 2M tokens, 32 active
    python tools/explorer_latency.py --browser            # also click → painted, in JupyterLab and Chromium
    python tools/explorer_latency.py --tokens 100000 --features 2048

The machine should be idle. Elapsed time counts; the processor time beside it is less disturbed by neighbours.
"""

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import numpy as np
import torch

from tsae_nb.views.explorer import FeatureExplorer
from tsae_nb.views.feature_index import FeatureIndex
from tsae_nb.views.index_build import CodeBatch, write_index

VOCABULARY, DOCUMENT, ACTIVE = 5000, 512, 32
KERNEL_P95_MS, BROWSER_P95_MS, OPEN_MS = 60.0, 80.0, 2000.0
# In the page: `n` times do something, wait until the card is painted, return the milliseconds.
TIMED = """async ([action, n]) => {
  const root = document.querySelector(".tsae"), search = root.querySelector("input[type=search]"), taken = [];
  const press = (element, key) => element.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const point = (element, kind, buttons) => element.dispatchEvent(new PointerEvent(kind, { bubbles: true, buttons }));
  const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  const rows = root.querySelector("[role=listbox]");
  for (let i = 0; i < n; i += 1) {
    let row = null;
    if (action === "row clicked") {
      rows.scrollTop = Math.random() * (rows.scrollHeight - rows.clientHeight);
      await pause(250);
      const others = [...rows.querySelectorAll("[role=option][aria-selected=false]")];
      row = others[Math.floor(others.length / 2)];
      point(row, "pointerdown", 1);
      await pause(80); // a hand's click
      point(row, "pointerup", 0);
    } else if (action !== "next feature") { // another than the one that is shown
      search.value = String((Number(root.dataset.painted) + 1 + Math.floor(Math.random() * 999)) % 1000);
    }
    if (action === "number typed") {
      search.dispatchEvent(new Event("input", { bubbles: true }));
      await pause(100); // a hand's way to Enter
    }
    const start = performance.now();
    const painted = new Promise((resolve, reject) => {
      root.addEventListener("tsae:painted", resolve, { once: true });
      setTimeout(() => reject(new Error(`${action}, time ${i + 1}: no card within 20 s`)), 20_000);
    });
    if (row) row.click();
    else if (action === "next feature") press(root, "j");
    else press(search, "Enter");
    await painted;
    taken.push(performance.now() - start);
    await pause(250);
  }
  return taken;
}"""


def synthetic_batch(first: int, documents: int, features: int) -> CodeBatch:
    """Documents of `DOCUMENT` tokens: words fire their own features, topics stay on, popular features fire anywhere."""
    random = np.random.default_rng([7, first])
    shape = (documents, DOCUMENT)
    tokens = np.minimum(random.zipf(1.3, shape) - 1, VOCABULARY - 1)
    own = (tokens[..., None] * 7919 + np.arange(16) * 104729) % features
    topics = np.repeat(random.integers(0, features, (documents, DOCUMENT // 64, 8)), 64, axis=1)
    popular = np.minimum(random.zipf(1.2, (*shape, ACTIVE - 24)), features) - 1
    ids = np.sort(np.concatenate([own, topics, popular], -1), -1).reshape(-1, ACTIVE)
    keep = np.diff(ids, axis=1, prepend=-1) != 0
    valid = np.tile(np.arange(DOCUMENT) > 0, documents)
    keep &= valid[:, None]
    pieces = np.repeat(np.arange(documents), DOCUMENT)
    values = random.gamma(2.0, 1.0, keep.sum()).astype(np.float32)
    return CodeBatch(tokens.reshape(-1), valid, pieces, pieces + first, keep.sum(1), ids[keep], values)


def synthetic_index(out: Path, features: int, tokens: int) -> None:
    """Write the index, in batches of 32 documents."""
    rows = tokens // DOCUMENT

    def batches(first: int) -> Iterator[tuple[int, CodeBatch]]:
        for start in range(first, rows, 32):
            stop = min(start + 32, rows)
            yield stop, synthetic_batch(start, stop - start, features)

    generator = torch.Generator().manual_seed(0)
    decoder = torch.nn.functional.normalize(torch.randn(features, 64, generator=generator), dim=1)
    unembedding = torch.randn(VOCABULARY, 64, generator=generator)
    key = {"sae": "synthetic", "language_model": "synthetic", "token_rows": f"{tokens}", "layer": 0}
    words = [f" word{token}" for token in range(VOCABULARY)]
    low, middle = features * 4 // 7, features * 6 // 7
    groups = {"level1": range(low), "level2": range(low, middle), "level3": range(middle, features)}
    write_index(batches, out, features, words, key, groups=groups, decoder=decoder, unembedding=unembedding, rows=rows)


def milliseconds(question: Callable[[int], object], times: int) -> dict[str, float]:
    """Times of `question(0)`, `question(1)`, …: median, 95th percentile, largest, 95th percentile of processor time."""
    taken, worked = [], []
    for number in range(times):
        start, busy = time.perf_counter(), time.process_time()
        question(number)
        taken.append(1000 * (time.perf_counter() - start))
        worked.append(1000 * (time.process_time() - busy))
    return summary(taken) | {"cpu p95": float(np.percentile(worked, 95))}


def summary(taken: list[float]) -> dict[str, float]:
    """Median, 95th percentile and largest."""
    return {"p50": float(np.median(taken)), "p95": float(np.percentile(taken, 95)), "max": max(taken)}


def measure_browser(folder: Path, times: int) -> dict[str, dict[str, float]]:
    """Click → painted in JupyterLab: next feature by key; a row; a number that nothing foretells, and a typed one."""
    from browser import chromium, jupyter_lab, run_all

    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        lines = [
            "from tsae_nb.views.explorer import FeatureExplorer",
            "from tsae_nb.views.feature_index import FeatureIndex",
            f"FeatureExplorer(FeatureIndex.open({str(folder.resolve())!r}))",
        ]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("\n".join(lines))])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "python3", "language": "python"}
        nbformat.write(notebook, root / "latency.ipynb")
        with jupyter_lab(root, Path(scratch) / "jupyter") as address, chromium() as page:
            run_all(page, address("latency.ipynb"))
            page.wait_for_selector(".tsae[data-painted]", timeout=120_000)
            return {
                f"browser: {action}": summary(page.evaluate(TIMED, [action, times]))
                for action in ("next feature", "row clicked", "random feature", "number typed")
            }


def measure(folder: Path, times: int) -> dict[str, dict[str, float]]:
    """Times of opening and of every kind of request, as the browser would make them."""

    def opening(_: int) -> object:
        return FeatureExplorer(FeatureIndex.open(folder))

    results = {"open": milliseconds(opening, 5)}
    explorer = FeatureExplorer(FeatureIndex.open(folder))
    index = explorer.index
    random = np.random.default_rng(1)
    features = random.permutation(index.dictionary_size)
    pieces = random.integers(0, len(index.arrays.document_id), 1000)
    words = [index.arrays.vocabulary[token].strip() for token in np.minimum(random.zipf(1.3, 1000) - 1, VOCABULARY - 1)]
    requests = {
        "feature": lambda i: {"kind": "card", "feature": int(features[i])},
        "dense feature": lambda i: {"kind": "card", "feature": i},
        "co-activation": lambda i: {"kind": "coactive", "feature": int(features[i])},
        "search": lambda i: {"kind": "search", "text": words[i]},
        "phrase": lambda i: {"kind": "search", "text": f"{words[i]} {words[i + 1]}"},
        "trace 512x40": lambda i: {"kind": "trace", "piece": int(pieces[i]), "feature": int(features[i]), "count": 40},
    }
    for name, request in requests.items():
        explorer.answer(request(times))  # the first of a kind reads what is read once
        results[name] = milliseconds(lambda i, request=request: explorer.answer(request(i)), times)
    return results


def machine() -> str:
    """The processor's name where the system tells it, and the number of cores."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def main() -> int:
    """Build, measure, print, and say whether the targets are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=16_384)
    parser.add_argument("--tokens", type=int, default=2_000_000)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--browser", action="store_true", help="measure click → painted too")
    parser.add_argument("--folder", type=Path, help="where the index is, or is to be kept (default: temporary)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "index"
        if not (folder / "manifest.json").is_file():
            start = time.perf_counter()
            synthetic_index(folder, options.features, options.tokens)
            print(
                f"built in {time.perf_counter() - start:.0f} s, "
                f"{sum(p.stat().st_size for p in folder.iterdir()) / 1e6:.0f} MB on disk, "
                f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB (mapped files included)"
            )
        results = measure(folder, options.times)
        if options.browser:
            results |= measure_browser(folder, options.times)
    for name, row in results.items():
        print(f"{name:24s}" + "".join(f"  {key} {value:7.1f} ms" for key, value in row.items()))
    if options.out:
        options.out.write_text(
            json.dumps(
                {
                    "machine": machine(),
                    "features": options.features,
                    "tokens": options.tokens,
                    "active": ACTIVE,
                    "times": options.times,
                    "ms": {name: {key: round(value, 1) for key, value in row.items()} for name, row in results.items()},
                },
                indent=2,
            )
            + "\n"
        )
    slow = [
        name
        for name, row in results.items()
        if row["p95"] > (OPEN_MS if name == "open" else BROWSER_P95_MS if name.startswith("browser") else KERNEL_P95_MS)
    ]
    print("targets met" if not slow else f"too slow: {', '.join(slow)}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
