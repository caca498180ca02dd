"""SAEs trained and written by the real SAELens, dictionary_learning and sparsify, as one archive for the tests.

The libraries pin what ours does not: they have an environment of their own, which holds all that tsae_nb imports.

    python -m venv peers
    peers/bin/pip install torch sae-lens==6.54.12 dictionary-learning==0.1.0 eai-sparsify==1.3.3
    peers/bin/pip uninstall torchvision  # beside a torch for CPUs it breaks transformers
    PYTHONPATH=. peers/bin/python tools/library_saes.py tests/library_saes.tar.xz

Every architecture that a library offers is trained for a few steps by the library's own trainer, cast, written by its
own code, read back by its own code, and encodes the same inputs in float32. Layouts that are known from SAELens's
readers alone are written from random weights and read by those. The archive holds the folders, the inputs, what the
library made of them, and a table: how many tokens have another active set when ours reads the folder, and whether our
export of it holds the same numbers and is read by the library as the same function. Some minutes on two cores.
"""

import io
import json
import os
import re
import sys
import tarfile
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tsae_nb.foundation import UserError
from tsae_nb.interop import FORMATS, export_sae, import_sae, recognise

os.environ |= {"WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"}
WIDTH, SIZE, ACTIVE = 8, 32, 5
TOKENS, KEPT = 4000, 128  # compared here; kept for the tests
STEPS, BATCH = 40, 256
HALVES = (torch.float32, torch.bfloat16, torch.float16)
PACKAGES = {"SAELens": "sae-lens", "dictionary_learning": "dictionary-learning", "sparsify": "eai-sparsify"}


def activations(tokens: int, seed: int) -> Tensor:
    """(tokens, WIDTH) stand-ins for activations: sparse sums of directions, noise, a mean."""
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(0)
    directions, mean = torch.randn(2 * WIDTH, WIDTH, generator=fixed), torch.randn(WIDTH, generator=fixed)
    strength = torch.relu(torch.randn(tokens, 2 * WIDTH, generator=generator) - 1.0)
    return strength @ directions + 0.1 * torch.randn(tokens, WIDTH, generator=generator) + 0.3 * mean


def batches() -> Iterator[Tensor]:
    """Batches for a training, without end."""
    seed = 1
    while True:
        yield activations(BATCH, seed)
        seed += 1


Run = Callable[[Tensor], tuple[Tensor, Tensor]]  # inputs (N, d) → which features are active (N, k), reconstruction
Read = Callable[[Path], Run]


class Case(NamedTuple):
    """One folder: who writes it, what it is, how."""

    library: str
    architecture: str
    dtype: torch.dtype
    bias: str  # what becomes of the decoder's bias, where the library leaves a choice
    write: Callable[[Path], object]  # a folder that is there

    @property
    def folder(self) -> str:
        words = (self.library, self.architecture, str(self.dtype).removeprefix("torch."), self.bias)
        return "-".join(word.replace(" ", "_").replace(",", "") for word in words if word)


# SAELens


def by_saelens(
    name: str, dtype: torch.dtype = torch.float32, whole: bool = False, **settings: Any
) -> Callable[[Path], object]:
    """Train by its trainer, write for inference, or the whole state of training."""
    def write(folder: Path) -> None:
        import sae_lens
        from sae_lens.config import SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

        torch.manual_seed(0)
        kind, config = (getattr(sae_lens, f"{name}TrainingSAE{end}") for end in ("", "Config"))
        sae = kind(config(d_in=WIDTH, d_sae=SIZE, **settings))
        trainer_config = SAETrainerConfig(STEPS * BATCH, BATCH, lr=3e-3, lr_end=3e-3, n_batches_for_norm_estimate=4)
        sae = SAETrainer(trainer_config, sae, batches()).fit().to(dtype)
        sae.cfg.metadata.model_name, sae.cfg.metadata.hook_name = "gpt2", "blocks.3.hook_resid_post"
        (sae.save_model if whole else sae.save_inference_model)(folder)
    return write


def untrained_saelens(name: str, **settings: Any) -> Callable[[Path], object]:
    """An architecture that the library can only run: random weights, written by it."""
    def write(folder: Path) -> None:
        from sae_lens.saes import temporal_sae, transcoder

        torch.manual_seed(0)
        module = temporal_sae if name == "Temporal" else transcoder
        end = "SAE" if name == "Temporal" else ""
        config = getattr(module, f"{name}{end}Config")(d_in=WIDTH, d_sae=SIZE, **settings)
        getattr(module, f"{name}{end}")(config).save_model(folder)
    return write


def read_by_saelens(folder: Path) -> Run:
    from sae_lens import SAE

    return _running_saelens(SAE.load_from_disk(folder).to(torch.float32))  # as it rounds it, computed in float32


def _running_saelens(sae: Any) -> Run:
    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        codes = sae.encode(x)
        return codes > 0, sae.decode(codes)
    return run


def saelens_cases() -> Iterator[Case]:
    """Every architecture × dtype × bias; what is refused, once."""
    trained: dict[str, tuple[str, dict[str, Any]]] = {
        "standard": ("Standard", {"l1_coefficient": 0.1}),
        "gated": ("Gated", {"l1_coefficient": 0.1}),
        "topk": ("TopK", {"k": ACTIVE}),
        "topk, norms left out": ("TopK", {"k": ACTIVE, "rescale_acts_by_decoder_norm": False}),
        "jumprelu": ("JumpReLU", {"l0_coefficient": 0.3, "jumprelu_init_threshold": 0.1}),
        "batchtopk": ("BatchTopK", {"k": float(ACTIVE)}),
        "matryoshka batchtopk": ("MatryoshkaBatchTopK", {"k": float(ACTIVE), "matryoshka_widths": [8, SIZE]}),
    }
    for architecture, (name, settings) in trained.items():
        for dtype in HALVES:
            for bias, subtracts in (("subtracted", True), ("added alone", False)):
                made = by_saelens(name, dtype, apply_b_dec_to_input=subtracts, **settings)
                yield Case("SAELens", architecture, dtype, bias, made)
        yield Case("SAELens", architecture, torch.float32, "checkpoint of training",
                   by_saelens(name, whole=True, **settings))
    for how in ("expected_average_only_in", "constant_norm_rescale", "layer_norm"):
        made = by_saelens("Standard", normalize_activations=how)
        yield Case("SAELens", f"standard, {how}", torch.float32, "", made)
    yield Case("SAELens", "abstopk", torch.float32, "", by_saelens("AbsTopK", k=ACTIVE))
    yield Case("SAELens", "matching pursuit", torch.float32, "", by_saelens("MatchingPursuit", max_iterations=ACTIVE))
    yield Case("SAELens", "temporal", torch.float32, "", untrained_saelens(
        "Temporal", n_heads=2, bottleneck_factor=4, kval_topk=ACTIVE))
    for architecture in ("Transcoder", "SkipTranscoder", "JumpReLUTranscoder", "JumpReLUSkipTranscoder"):
        made = untrained_saelens(architecture, d_out=WIDTH, apply_b_dec_to_input=False)
        yield Case("SAELens", architecture, torch.float32, "", made)


# dictionary_learning


class Buffer:
    """What its training asks of a buffer of activations."""

    config = {"d_submodule": WIDTH, "io": "out", "n_ctxs": 10, "ctx_len": 64, "refresh_batch_size": 4,
              "out_batch_size": BATCH, "device": "cpu"}

    def __iter__(self) -> Iterator[Tensor]:
        return batches()


def by_dictionary_learning(trainer: str, dtype: torch.dtype, **settings: Any) -> Callable[[Path], object]:
    """Train and write by `trainSAE`; half precision is cast and written as it writes."""
    def write(folder: Path) -> None:
        from dictionary_learning import trainers
        from dictionary_learning.trainers import matryoshka_batch_top_k, standard
        from dictionary_learning.training import trainSAE

        torch.manual_seed(0)
        found = next(getattr(place, trainer) for place in (trainers, matryoshka_batch_top_k, standard)
                     if hasattr(place, trainer))
        config = {"trainer": found, "steps": STEPS, "activation_dim": WIDTH, "dict_size": SIZE, "layer": 3,
                  "lm_name": "gpt2", "device": "cpu", "lr": 3e-3, "warmup_steps": 1, "seed": 0, **settings}
        with tempfile.TemporaryDirectory() as place:
            trainSAE(Buffer(), [config], STEPS, save_dir=place, device="cpu")
            made = Path(place) / "trainer_0"
            state = torch.load(made / "ae.pt", weights_only=True)
            cast = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
            torch.save(cast, folder / "ae.pt")
            (folder / "config.json").write_bytes((made / "config.json").read_bytes())
    return write


def read_by_dictionary_learning(folder: Path) -> Run:
    from dictionary_learning.utils import load_dictionary

    ae = load_dictionary(str(folder), "cpu")[0].float()

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        codes = ae.encode(x)
        return codes > 0, ae.decode(codes)
    return run


def dictionary_learning_cases() -> Iterator[Case]:
    """Every trainer × dtype; whether the bias is subtracted belongs to the class."""
    early = {"sparsity_warmup_steps": 2}
    annealed = early | {"anneal_start": 5, "sparsity_queue_length": 2, "n_sparsity_updates": 2, "p_end": 0.5}
    chosen = {"k": ACTIVE, "threshold_start_step": 2}
    trainers: dict[str, dict[str, Any]] = {
        "StandardTrainer": early, "StandardTrainerAprilUpdate": early, "PAnnealTrainer": annealed,
        "GatedSAETrainer": early, "GatedAnnealTrainer": annealed, "JumpReluTrainer": early | {"bandwidth": 0.1},
        "TopKTrainer": chosen, "BatchTopKTrainer": chosen,
        "MatryoshkaBatchTopKTrainer": chosen | {"group_fractions": [0.25, 0.75]},
    }
    for trainer, settings in trainers.items():
        for dtype in HALVES:
            made = by_dictionary_learning(trainer, dtype, **settings)
            yield Case("dictionary_learning", trainer, dtype, "", made)


# sparsify


def by_sparsify(dtype: torch.dtype, **settings: Any) -> Callable[[Path], object]:
    """Steps of its SparseCoder, as its trainer takes them, and its two files."""
    def write(folder: Path) -> None:
        from sparsify import SparseCoder, SparseCoderConfig
        from sparsify.__main__ import RunConfig

        torch.manual_seed(0)
        config = SparseCoderConfig(num_latents=SIZE, k=ACTIVE if settings.get("activation") != "groupmax" else 4,
                                   **settings)
        coder = SparseCoder(WIDTH, config)
        optimizer, stream = torch.optim.Adam(coder.parameters(), lr=3e-3), batches()
        coder.b_dec.data = next(stream).mean(0)
        for _ in range(STEPS):
            if config.normalize_decoder and not config.transcode:
                coder.set_decoder_norm_to_unit_norm()
            optimizer.zero_grad()
            out = coder(next(stream))
            (out.fvu + out.multi_topk_fvu / 8).backward()
            optimizer.step()
        coder.to(dtype).save_to_disk(folder / "layers.3")
        run = RunConfig(sae=config, model="gpt2", dataset="texts", ctx_len=64)
        run.save_json(folder / "config.json")
    return write


def read_by_sparsify(folder: Path) -> Run:
    from sparsify import SparseCoder

    place = folder / "layers.3" if (folder / "layers.3").is_dir() else folder
    coder = SparseCoder.load_from_disk(place).float()

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        values, indices, _ = coder.encode(x)
        active = torch.zeros(len(x), coder.num_latents, dtype=torch.bool).scatter(1, indices, values > 0)
        return active, coder.decode(values, indices)
    return run


def sparsify_cases() -> Iterator[Case]:
    """TopK × dtype, with and without unit rows; what is refused, once."""
    for dtype in HALVES:
        yield Case("sparsify", "topk", dtype, "", by_sparsify(dtype))
        yield Case("sparsify", "topk, rows of any length", dtype, "", by_sparsify(dtype, normalize_decoder=False))
        yield Case("sparsify", "multi topk", dtype, "", by_sparsify(dtype, multi_topk=True))
    for what, settings in {"groupmax": {"activation": "groupmax"}, "transcoder": {"transcode": True},
                           "skip connection": {"skip_connection": True}}.items():
        yield Case("sparsify", what, torch.float32, "", by_sparsify(torch.float32, **settings))


# Layouts that SAELens's readers define


class Laid(NamedTuple):
    """A layout by one of SAELens's readers: where the file lies in a repository, and what the reader is told."""

    reader: str
    path: str  # repository, folders, file
    inside: str  # the folder or file that SAELens's list names
    tensors: dict[str, Tensor]
    settings: dict[str, Any] = {}  # of the reader
    files: dict[str, Any] = {}  # beside the weights
    factor: float | None = None  # of SAELens's list


def layouts(dtype: torch.dtype) -> dict[str, Laid]:
    """Random weights of each layout."""
    generator = torch.Generator().manual_seed(7)
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    w_enc, w_dec, b_enc, b_dec = draw(WIDTH, SIZE), 0.5 * draw(SIZE, WIDTH), 0.3 * draw(SIZE), draw(WIDTH)
    threshold = 0.5 + draw(SIZE).abs()
    wide_enc, wide_dec, wide_bias = draw(1024, WIDTH), 0.5 * draw(1024, WIDTH), 0.1 * draw(1024)
    cast = lambda named: {name: value.to(dtype).contiguous() for name, value in named.items()}  # noqa: E731
    five = {"W_enc": w_enc, "b_enc": b_enc, "W_dec": w_dec, "b_dec": b_dec, "threshold": threshold}
    linear = cast({"encoder.weight": w_enc.T, "encoder.bias": b_enc, "decoder.weight": w_dec.T, "decoder.bias": b_dec})
    goodfire = {name.replace(".", "_linear."): value for name, value in linear.items()}
    sizes = {"d_in": WIDTH, "d_sae": SIZE}
    hook = "blocks.7.hook_resid_post"
    llama = {"d_model": WIDTH, "d_sae": SIZE, "jump_relu_threshold": 0.4, "hook_point_in": hook, "hook_point_out": hook,
             "dataset_average_activation_norm": {"in": 5.0, "out": 5.0}, "act_fn": "jumprelu"}
    distilled = {"d_model": WIDTH, "expansion_factor": 4, "hook_point_in": hook}
    scope_2 = {"architecture": "jump_relu", "model_name": "gemma-v3-1b-pt", "width": SIZE, "l0": 5,
               "hf_hook_point_in": "model.layers.13.output"}
    r1 = "DeepSeek-R1-Distill-Llama-8B-SAE-l19"
    instruct = "Llama-3.1-8B-Instruct-SAE-l19"
    scope = "gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82"
    only = {  # NumPy's files hold no other; the wide one would be half of the archive
        torch.float32: {
            "Gemma Scope": Laid("gemma_2", f"{scope}/params.npz", scope.partition("/")[2], five, sizes)},
        torch.bfloat16: {
            "Qwen Scope": Laid("qwen_scope", "SAE-Res-Qwen3-1.7B-Base-W1K-L0_5/layer3.sae.pt", "layer3.sae.pt",
                               cast({"W_enc": wide_enc, "W_dec": wide_dec.T, "b_enc": wide_bias, "b_dec": b_dec}),
                               {"d_in": WIDTH, "d_sae": 1024})},
    }
    return only[dtype] | {
        "Gemma Scope 2": Laid("gemma_3", "gemma-scope-2-1b-pt/resid_post/layer_13/params.safetensors",
                              "resid_post/layer_13", cast({name.lower(): value for name, value in five.items()}), {},
                              {"config.json": scope_2}),
        "Llama Scope": Laid("llama_scope", "Llama3_1-8B-Base-L7R-8x/checkpoints/final.safetensors", ".", linear, {},
                            {"../hyperparams.json": llama}, WIDTH**0.5 / 5.0),
        "Llama Scope R1-Distill": Laid(
            "llama_scope_r1_distill", "Llama-Scope-R1-Distill/L7R/sae_weights.safetensors", "L7R",
            linear | cast({"log_jumprelu_threshold": threshold.log()}), {}, {"config.json": distilled}, 0.7),
        "Goodfire": Laid("goodfire", f"{instruct}/{instruct}.pth", f"{instruct}.pth", goodfire, sizes),
        "DeepSeek R1-Distill": Laid("deepseek_r1", f"{r1}/{r1}.pt", f"{r1}.pt", linear, sizes),
    }


def laid_out(laid: Laid) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        path = folder / laid.path
        path.parent.mkdir(parents=True)
        if path.suffix == ".npz":
            np.savez(path, **{name: value.numpy() for name, value in laid.tensors.items()})
        elif path.suffix == ".safetensors":
            save_file(laid.tensors, path)
        else:
            torch.save(laid.tensors, path)
        for name, content in laid.files.items():
            (path.parent / name).resolve().write_text(json.dumps(content))
    return write


def read_by_reader(laid: Laid) -> Read:
    """What SAELens makes of it, its downloads served from the folder; rounded to float32 alone."""
    def read(folder: Path) -> Run:
        import sae_lens.loading.pretrained_sae_loaders as loaders
        from sae_lens.registry import get_sae_class

        repository = laid.path.partition("/")[0]

        def download(repo_id: str, filename: str, subfolder: str = "", **_: Any) -> str:
            return str(folder / repository / subfolder / filename)

        shapes = {name: list(value.shape) for name, value in laid.tensors.items()}
        owner = "Goodfire" if laid.reader == "goodfire" else "owner"
        with patch.object(loaders, "hf_hub_download", download), \
                patch.object(loaders, "get_safetensors_tensor_shapes", lambda *_: shapes):
            settings, state, _ = loaders.NAMED_PRETRAINED_SAE_LOADERS[laid.reader](
                f"{owner}/{repository}", laid.inside, "cpu", False, laid.settings | {"dtype": "float32"})
        settings = loaders.handle_config_defaulting(settings)
        kind, config_kind = get_sae_class(settings["architecture"])
        sae = kind(config_kind.from_dict(settings))
        sae.process_state_dict_for_loading(state)
        sae.load_state_dict(state)
        if laid.factor is not None:
            sae.fold_activation_norm_scaling_factor(laid.factor)
        return _running_saelens(sae)
    return read


# Comparison


def numbers(path: Path) -> list[Tensor]:
    """The real numbers of a file of weights as float32, each matrix lying."""
    found = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    real = [value.float() for value in found.values() if value.is_floating_point() and value.dim()]
    return [value if value.dim() < 2 or value.shape[0] < value.shape[1] else value.T for value in real]


def same_numbers(before: Path, after: Path) -> bool:
    """Whether each tensor of the one file is in the other, to the bit."""
    known = numbers(after)
    return all(any(value.shape == other.shape and torch.equal(value, other) for other in known)
               for value in numbers(before))


def compared(case: Case, read: Read, folder: Path, x: Tensor) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A row of the table, and what the library makes of the inputs."""
    row: dict[str, Any] = {
        "library": case.library, "version": version(PACKAGES[case.library]), "architecture": case.architecture,
        "dtype": str(case.dtype).removeprefix("torch."), "bias": case.bias, "folder": case.folder}
    try:
        sae = import_sae(folder)
    except UserError as error:
        return row | {"refused": str(error).replace(str(folder) + "/", "")}, {}
    with torch.no_grad():
        active, reconstruction = read(folder)(x)
    codes = sae.encode(x)
    rms = reconstruction.pow(2).mean().sqrt()
    row |= {"tokens": len(x), "l0": round(float(active.float().sum(1).mean()), 2),
            "other": int(((codes > 0) != active).any(1).sum()),
            "error": float((sae.decode(codes) - reconstruction).abs().max() / rms)}
    name, path = recognise(folder)
    if FORMATS[name].write is not None:
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "out"
            export_sae(sae, out, name)
            row["same_numbers"] = same_numbers(path, out / FORMATS[name].known_by)
            with torch.no_grad():
                again = read(out)(x)[0]
            row["other_again"] = int((again != active).any(1).sum())
    kept = {"active": np.packbits(active[:KEPT].numpy(), axis=1),
            "reconstruction": reconstruction[:KEPT // 8].numpy()}
    return row, kept


def cases() -> Iterator[tuple[Case, Read]]:
    for case in saelens_cases():
        yield case, read_by_saelens
    for case in dictionary_learning_cases():
        yield case, read_by_dictionary_learning
    for case in sparsify_cases():
        yield case, read_by_sparsify
    for dtype in (torch.float32, torch.bfloat16):
        for name, laid in layouts(dtype).items():
            yield Case("SAELens", f"its reader of {name}", dtype, "", laid_out(laid)), read_by_reader(laid)


def listed() -> dict[str, int]:
    """How many published SAEs SAELens lists, by the reader that it names; transcoders of a reader apart."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    counts = Counter[str]()
    for release in get_pretrained_saes_directory().values():
        for path in release.saes_map.values():
            apart = ", transcoders" if re.search("transcoder|clt", path) else ""
            counts[(release.conversion_func or "sae_lens") + apart] += 1
    return dict(counts)


def archive(root: Path, path: Path) -> None:
    """One compressed file of a folder, the same bytes from the same files."""
    with tarfile.open(path, "w:xz", preset=9) as tar:
        for file in sorted(root.rglob("*")):
            if file.is_file():
                info = tarfile.TarInfo(file.relative_to(root).as_posix())
                info.size = file.stat().st_size
                tar.addfile(info, io.BytesIO(file.read_bytes()))


def main(path: Path) -> None:
    warnings.filterwarnings("ignore")
    x = activations(TOKENS, seed=0)
    rows, kept = [], {"inputs": x[:KEPT].numpy()}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for case, read in cases():
            folder = root / case.folder
            folder.mkdir()
            case.write(folder)
            row, expected = compared(case, read, folder, x)
            rows.append(row)
            kept |= {f"{case.folder}/{name}": value for name, value in expected.items()}
            print(*(value for key, value in row.items() if key != "folder"), flush=True)
        np.savez(root / "expected.npz", **kept)
        (root / "table.json").write_text(json.dumps({"listed": listed(), "rows": rows}, indent=1))
        archive(root, path)
    print(f"{len(rows)} folders, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
