"""What runs/gemma-2-2b.yaml costs on this machine's GPU, stage by stage; needs nothing from outside the checkout.

    python tools/gpu_rehearsal.py                 on a GPU: a Gemma-2-2b of true shape, random weights; minutes
    python tools/gpu_rehearsal.py --small         the embedded model, few features: shows on a CPU that it works

Random weights answer no question rightly, so all questions are *taken as qualifying*, and features of any density as
selected: what clamping costs is measured, not what it does. Sparsity is forced to several L0, since a step's cost
depends on it. Each stage is stored when it is done; a rehearsal that is started again goes on after the last one.
"""

import argparse
import contextlib
import datetime
import functools
import gc
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import Gemma2Config, Gemma2ForCausalLM

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import wide_model  # noqa: E402

from tsae_nb import activations, runs, training  # noqa: E402
from tsae_nb.config import RunConfig, override  # noqa: E402
from tsae_nb.evaluation import asking, metrics, unlearning  # noqa: E402
from tsae_nb.experiments import expand, load_experiment, nested  # noqa: E402
from tsae_nb.foundation import named_generator  # noqa: E402
from tsae_nb.language_model import LanguageModel  # noqa: E402
from tsae_nb.processes import terminable  # noqa: E402
from tsae_nb.training import SAETraining  # noqa: E402

RESULT = ROOT / "runs" / "reference" / "gpu.json"
PRESET = ROOT / "runs" / "gemma-2-2b.yaml"
GEMMA_2_2B = {
    "hidden_size": 2304, "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
    "intermediate_size": 9216, "vocab_size": 256_000, "sliding_window": 4096, "max_position_embeddings": 8192,
}
ACTIVE = (None, 3000, 1000, 200, 64)  # features a token, forced; None: as at the start, half of them
QUESTIONS, SETTINGS = 841, 32  # qualifying in the paper's sets, about; settings and as many controls of the preset


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call, the device's work included."""
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def median_ms(work: Callable[[], object], times: int = 7, first: int = 3) -> float:
    """Median milliseconds of a call, after some that warm up."""
    for _ in range(first):
        work()
    return 1e3 * statistics.median(seconds(work) for _ in range(times))


class Rehearsal:
    """Places and settings of one rehearsal; `stages` are run in the order in which they stand."""

    def __init__(self, folder: Path, small: bool) -> None:
        self.folder, self.small = folder, small
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.peak_flops = float("nan")
        self.parts: dict[str, list[float]] = {}  # of the chain: seconds of each call
        self.layers, self.layer = ((1, 2), 1) if small else ((5, 12, 19), 12)
        self.features, self.rows, self.steps = (256, 64, 4) if small else (16384, 2048, 20)

    def machine(self) -> dict[str, Any]:
        """What the device can do: products in bfloat16, and copies."""
        size = 512 if self.small else 8192
        a, b = (torch.randn(size, size, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        self.peak_flops = 2 * size**3 / (median_ms(lambda: a @ b, 15) / 1e3)
        source = torch.empty((1 if self.small else 4096) * 2**20, dtype=torch.uint8, device=self.device)
        copied = 2 * source.numel() / (median_ms(source.clone) / 1e3)
        found: dict[str, Any] = {"bf16 TFLOP/s": self.peak_flops / 1e12, "copy GB/s": copied / 1e9}
        if self.device == "cuda":
            about = torch.cuda.get_device_properties(0)
            found |= {"memory GiB": about.total_memory / 2**30, "multiprocessors": about.multi_processor_count}
        return found

    @property
    def models(self) -> tuple[Path, Path]:
        """Folders of the base and the instruct model."""
        return self.folder / "base", self.folder / "instruct"

    def model(self) -> dict[str, Any]:
        """Both models written with random weights, loaded and hashed."""
        base, instruct = self.models
        if self.small:
            shutil.copytree(wide_model.EMBEDDED, base)
        else:
            shape = {"torch_dtype": torch.bfloat16, "attn_implementation": "eager"}
            torch.manual_seed(0)
            torch.set_default_dtype(torch.bfloat16)
            with torch.device(self.device):
                made = Gemma2ForCausalLM(Gemma2Config(**GEMMA_2_2B, **shape))
            torch.set_default_dtype(torch.float32)
            made.save_pretrained(base, max_shard_size="3GB")
            del made
            for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
                shutil.copy(wide_model.EMBEDDED / name, base)
        instruct.mkdir()
        for path in base.iterdir():
            (instruct / path.name).hardlink_to(path)
        settings = json.loads((base / "tokenizer_config.json").read_text())
        settings |= {"chat_template": wide_model.CHAT_TEMPLATE, "model_max_length": 8192}
        (instruct / "tokenizer_config.json").unlink()
        (instruct / "tokenizer_config.json").write_text(json.dumps(settings))
        gc.collect()
        loaded: list[LanguageModel] = []
        found = {"load s": seconds(lambda: loaded.append(LanguageModel.load(base, "bfloat16", self.device)))}
        found["hash s"] = seconds(loaded[0].content_hash)
        found["parameters, billions"] = sum(value.numel() for value in loaded[0].model.parameters()) / 1e9
        self.language_model = loaded[0]
        return found

    def tokens(self, rows: int = 32, length: int = 128) -> tuple[Tensor, Tensor]:
        found = torch.randint(4, 200, (rows, length), generator=named_generator(0, "tokens")).to(self.device)
        return found, torch.ones_like(found, dtype=torch.bool)

    def passes(self) -> dict[str, Any]:
        """One batch of the preset (32 rows of 128 tokens) through the language model to its layers."""
        lm, (tokens, attended) = self.language_model, self.tokens()
        found: dict[str, Any] = {}
        for layer in self.layers:
            took = median_ms(lambda layer=layer: lm.run_to_layer(tokens, attended, layer))
            with FlopCounterMode(display=False) as counter:
                lm.run_to_layer(tokens, attended, layer)
            found[f"to layer {layer}"] = {
                "ms": took, "tokens/s": tokens.numel() / took * 1e3,
                "of the peak": counter.get_total_flops() / (took / 1e3) / self.peak_flops}
        return found

    def variants(self, layer: int) -> list[RunConfig]:
        experiment = load_experiment(PRESET, nested([f"sae.dictionary_size={self.features}"]))
        return [override(config, {"language_model": {"layer": layer}})
                for config in expand({**experiment, "layers": [layer]})]

    def training_steps(self) -> dict[str, Any]:
        """A step of each variant at several L0: milliseconds, share of the peak, launches, waits, memory."""
        tokens, attended = self.tokens()
        hidden = self.language_model.run_to_layer(tokens, attended, self.layer).float()
        documents = torch.arange(len(tokens), device=self.device).unsqueeze(1).expand_as(tokens)
        batch = SimpleNamespace(activations=hidden, valid=attended, documents=documents)
        scale = (hidden.shape[2] / hidden.square().sum(2).mean()).item() ** 0.5
        found = {config.sae.variant: self._steps_of(config, batch, scale) for config in self.variants(self.layer)}
        return {"variants": found}

    def _steps_of(self, config: RunConfig, batch: Any, scale: float) -> dict[str, Any]:
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        width, mean = batch.activations.shape[2], batch.activations.mean((0, 1))
        own = SAETraining(config, width, scale, mean, self.device)
        levels: dict[str, Any] = {}
        for active in ACTIVE if config.sae.sparse_code.kind == "relu" else ACTIVE[:1]:
            if active is not None:
                if active >= self.features / 2:
                    continue
                self._force(own, batch, active)
            took = median_ms(lambda: own.update(batch))
            with torch.no_grad():
                output = own.sae(own.sae.scaled(batch.activations), batch.valid, batch.documents)
            codes = output.codes.dense()
            levels["at the start" if active is None else f"forced to {active}"] = {
                "L0": float((codes > 0).sum(1).float().mean()), "ms": took}
            del output, codes
        found: dict[str, Any] = {"levels": levels}
        with FlopCounterMode(display=False) as counter:
            own.update(batch)
        found["counted TFLOP"] = counter.get_total_flops() / 1e12
        if self.device == "cuda":
            found |= launches(lambda: own.update(batch))
            found["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
        gc.collect()
        return found

    @torch.no_grad()
    def _force(self, own: SAETraining, batch: Any, active: int) -> None:
        """Lower the encoder's bias so that about so many features are active."""
        sae = own.sae
        x = sae.scaled(batch.activations)[batch.valid]
        before = x[:256] @ sae.encoder_weight.float().T + sae.encoder_bias
        sae.encoder_bias.sub_(before.flatten()[:: max(1, before.numel() // 1_000_000)].quantile(
            1 - active / self.features))

    def chain(self) -> dict[str, Any]:
        """The preset itself through `execute`: one layer, all variants, few rows and steps; the time of its parts."""
        place, (base, instruct) = self.folder / "data", self.models
        pile = wide_model.write_pile(place / "pile", documents=40 if self.small else 1500) / "train" / "00.jsonl.zst"
        wmdp = wide_model.write_wmdp(place / "wmdp", 8 if self.small else 80) / "wmdp-bio"
        wide_model.write_mmlu(place / "mmlu", 4 if self.small else 80)
        forget = wide_model.write_forget_corpus(place / "forget", 24 if self.small else 400) / "data"
        retain = wide_model.write_wikitext(place / "retain", 24 if self.small else 400) / "wikitext-2-raw-v1"
        parquet = "test-00000-of-00001.parquet"
        settings: dict[str, Any] = {
            "language_model.path": base, "data.source": "files", "data.path": pile, "data.rows": self.rows,
            "data.evaluation_rows": 16 if self.small else 64, "sae.dictionary_size": self.features,
            "activations.cache_folder": self.folder / "cache", "training.steps": self.steps,
            "training.checkpoint_every": self.steps, "evaluation.loss_rows": 8 if self.small else 32,
            "unlearning.language_model": instruct, "unlearning.cache_folder": self.folder / "cache",
            "unlearning.retain_thresholds": [2.0], "unlearning.feature_counts": [10], "unlearning.multipliers": [100.0],
            "unlearning.row_length": 128 if self.small else 1024,
        }
        changes = nested([f"{name}={value}" for name, value in settings.items()])
        unlearning = changes["unlearning"]
        unlearning["forget"] = {"source": "file", "path": str(wmdp / parquet)}
        names = ("high_school_us_history", "college_computer_science", "high_school_geography", "human_aging")
        unlearning["side"] = [{"name": name, "source": "file", "path": str(place / "mmlu" / name / parquet)}
                              for name in names]
        unlearning["forget_corpus"] = {"source": "file", "path": str(next(forget.glob("train*")))}
        unlearning["retain_corpus"] = {"source": "file", "path": str(retain / parquet)}
        configs = expand({**load_experiment(PRESET, changes), "layers": [self.layer]})
        parts = self.parts
        with timed(parts), taken_as_qualifying():
            total = seconds(lambda: runs.execute(configs, self.folder / "runs"))
        evaluated = [json.loads((self.folder / "runs" / config.name / "unlearning.json").read_text())
                     for config in configs]
        asked = sum(one["qualifying"] for one in evaluated[0]["questions"].values())
        return {
            "seconds": total, "runs": len(configs), "steps": self.steps, "rows": self.rows, "questions": asked,
            "reasons": sorted({str(one["reason"]) for one in evaluated}),
            "parts": summed(parts),
        }

    def full_run(self, known: dict[str, Any]) -> dict[str, Any]:
        """Minutes of the whole preset, worked out of the stages: 3 layers, 8 variants, 1000 steps, 32,256 rows."""
        parts, chain, steps = known["chain"]["parts"], known["chain"], known["training_steps"]["variants"]

        def each(name: str) -> float:
            return parts[name]["s"] / parts[name]["calls"] if name in parts else 0.0

        times = [[level["ms"] / 1e3 for level in found["levels"].values()] for found in steps.values()]
        cheapest, dearest = (sum(choose(each) for each in times) for choose in (min, max))
        saes = 3 * chain["runs"]
        whole = {
            "streams": 3 * each("streams") * 32256 / chain["rows"],  # the cache is written for each layer
            "steps, cheapest L0": 3 * 1000 * cheapest, "steps, dearest L0": 3 * 1000 * dearest,
            "checkpoints": saes * 5 * each("checkpoint"), "evaluation": saes * each("evaluation"),
            "questions": 3 * each("questions"), "densities": saes * each("densities"),
            "clamping": saes * SETTINGS * each("setting") * QUESTIONS / max(chain["questions"], 1),
        }
        least = sum(value for name, value in whole.items() if name != "steps, dearest L0")
        most = sum(value for name, value in whole.items() if name != "steps, cheapest L0")
        return {"minutes": {name: value / 60 for name, value in whole.items()},
                "all, minutes": {"least": least / 60, "most": most / 60}}


def launches(work: Callable[[], object]) -> dict[str, int]:
    """Kernels launched and waits of the processor for the device in one call, by the profiler."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        work()
    count = {event.key: event.count for event in seen.key_averages()}
    return {"launches": sum(number for name, number in count.items() if "LaunchKernel" in name),
            "waits": sum(number for name, number in count.items() if name in (
                "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")) - 1}  # the profiler's own


def summed(parts: dict[str, list[float]]) -> dict[str, Any]:
    """Calls of each part, and their seconds."""
    return {name: {"calls": len(each), "s": sum(each)} for name, each in parts.items()}


TIMED = {  # part of a run → where it is called
    "streams": (runs, "open_streams"), "training": (runs, "train"), "checkpoint": (training.CheckpointWriter, "save"),
    "batch": (activations.ActivationStream, "batch"), "evaluation": (metrics, "evaluate"),
    "questions": (unlearning, "ask"), "prompts' streams": (unlearning, "cached_streams"),
    "densities": (unlearning, "density_pass"), "setting": (unlearning, "run_setting"),
    "unlearning": (unlearning, "evaluate_sae"),
}


@contextlib.contextmanager
def timed(parts: dict[str, list[float]]) -> Iterator[None]:
    """Inside, each call of a part leaves its seconds."""
    plain = {name: getattr(place, attribute) for name, (place, attribute) in TIMED.items()}

    def watched(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(work)
        def call(*arguments: Any, **keywords: Any) -> Any:
            found: list[Any] = []
            took = seconds(lambda: found.append(work(*arguments, **keywords)))
            parts.setdefault(name, []).append(took)
            return found[0]

        return call

    for name, (place, attribute) in TIMED.items():
        setattr(place, attribute, watched(name, plain[name]))
    try:
        yield
    finally:
        for name, (place, attribute) in TIMED.items():
            setattr(place, attribute, plain[name])


@contextlib.contextmanager
def taken_as_qualifying() -> Iterator[None]:
    """Inside, questions are asked as ever, and then all count as answered rightly."""
    right, tree = asking.right_in_order, asking.qualifying_by_tree

    def all_of_them(*arguments: Any) -> list[int]:
        right(*arguments)
        return list(arguments[5])

    def all_after_asking(language_model: Any, prompts: Any, answers: Any, *rest: Any) -> list[int]:
        tree(language_model, prompts, answers, *rest)
        return list(range(len(answers)))

    asking.right_in_order, asking.qualifying_by_tree = all_of_them, all_after_asking
    try:
        yield
    finally:
        asking.right_in_order, asking.qualifying_by_tree = right, tree


STAGES = ("machine", "model", "passes", "training_steps", "chain")
NEEDED = ("machine", "model")  # also by a rehearsal that goes on


def rounded(value: Any) -> Any:
    """Four significant digits."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="the embedded model, few features")
    parser.add_argument("--result", type=Path, default=RESULT, help="where the result goes")
    chosen = parser.parse_args()
    if not chosen.small and not torch.cuda.is_available():
        print("gpu_rehearsal: there is no GPU here; --small shows on a CPU that it works", file=sys.stderr)
        return 2
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    about = {"commit": git.stdout.strip() or None, "device": name, "small": chosen.small, "torch": torch.__version__}
    known = json.loads(chosen.result.read_text()) if chosen.result.is_file() else {}
    if {part: known.get(part) for part in about} != about:
        known = {**about, "date": datetime.date.today().isoformat()}
    with tempfile.TemporaryDirectory(prefix="gpu-rehearsal-") as folder, terminable():
        rehearsal = Rehearsal(Path(folder), chosen.small)
        for stage in STAGES:
            if stage in known and stage not in NEEDED:
                continue
            found: list[Any] = []
            try:
                took = seconds(lambda stage=stage, found=found: found.append(getattr(rehearsal, stage)()))
            except KeyboardInterrupt:
                known["parts until interrupted"] = rounded(summed(rehearsal.parts))
                chosen.result.write_text(json.dumps(known, indent=1) + "\n")
                return 130
            known[stage] = rounded(found[0] | {"stage took s": took})
            chosen.result.write_text(json.dumps(known, indent=1) + "\n")
            print(f"{stage}: {json.dumps(known[stage])}", flush=True)
        known["full_run"] = rounded(rehearsal.full_run(known))
        chosen.result.write_text(json.dumps(known, indent=1) + "\n")
        print(f"full_run: {json.dumps(known['full_run'])}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
