"""Folders of other libraries' SAEs from random weights, and a generator of malformed ones."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

WIDTH, SIZE = 6, 10


class Layout(NamedTuple):
    """What a folder holds: the weights' file and its tensors, a settings' file and its content."""

    weights: str
    tensors: dict[str, Any]
    settings: str | None = None
    config: dict[str, Any] | None = None

    def write(self, folder: Path) -> Path:
        """The folder, written; returns the path of the weights."""
        path = folder / self.weights
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npz":
            np.savez(path, **self.tensors)
        elif path.suffix in (".pt", ".pth"):
            torch.save(self.tensors, path)
        else:
            save_file({name: tensor.contiguous() for name, tensor in self.tensors.items()}, path)
        if self.settings is not None:
            (folder / self.settings).write_text(json.dumps(self.config))
        return path


def layouts(
    seed: int = 0, size: int = SIZE, dtype: torch.dtype = torch.float32, uneven: bool = False
) -> dict[str, Layout]:
    """A whole folder of each layout; decoder rows have the length 1, or lengths from 0.1 to 10 where `uneven`."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    encoder, b_enc, b_dec = draw(WIDTH, size), 0.1 * draw(size), draw(WIDTH)
    decoder, threshold = nn.functional.normalize(draw(size, WIDTH), dim=1), 0.2 + draw(size).abs()
    if uneven:
        decoder = decoder * torch.logspace(-1, 1, size)[:, None]
    wide_encoder, wide_decoder = draw(1024, WIDTH), nn.functional.normalize(draw(1024, WIDTH), dim=1)

    def cast(**tensors: Tensor) -> dict[str, Tensor]:
        return {name.replace("__", "."): tensor.to(dtype).contiguous() for name, tensor in tensors.items()}

    matrices = cast(W_enc=encoder, b_enc=b_enc, W_dec=decoder, b_dec=b_dec)
    linear = cast(encoder__weight=encoder.T, encoder__bias=b_enc, decoder__weight=decoder.T)
    gain, magnitude = 0.3 * draw(size), 0.1 * draw(size)
    jump = matrices | cast(threshold=threshold)
    gated = {name: tensor for name, tensor in matrices.items() if name != "b_enc"} | cast(
        b_gate=b_enc, r_mag=gain, b_mag=magnitude)
    gate = {name: tensor for name, tensor in linear.items() if name != "encoder.bias"} | cast(
        gate_bias=b_enc, r_mag=gain, mag_bias=magnitude, decoder_bias=b_dec)
    numpy = {name: tensor.float() for name, tensor in jump.items()}
    lens = {"d_in": WIDTH, "d_sae": size, "dtype": str(dtype).removeprefix("torch."), "device": "cpu",
            "apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none",
            "metadata": {"sae_lens_version": "6.54.12", "model_name": "gpt2", "hook_name": "blocks.3.hook_resid_pre",
                         "dataset_path": "texts", "context_size": 128}}
    trainer = {"activation_dim": WIDTH, "dict_size": size, "lm_name": "gpt2", "layer": 3, "submodule_name":
               "resid_post_layer_3", "lr": 1e-3}
    dictionary = lambda name, **more: {"trainer": trainer | {"dict_class": name} | more,  # noqa: E731
                                       "buffer": {"io": "out", "ctx_len": 128}}
    hook = "blocks.7.hook_resid_post"
    weights, settings = "sae_weights.safetensors", "cfg.json"
    return {
        "saelens standard": Layout(weights, matrices, settings, lens | {"architecture": "standard"}),
        "saelens topk": Layout(weights, matrices, settings, lens | {
            "architecture": "topk", "k": 3, "rescale_acts_by_decoder_norm": False}),
        "saelens topk of norms": Layout(weights, matrices, settings, lens | {
            "architecture": "topk", "k": 3, "rescale_acts_by_decoder_norm": True}),
        "saelens jumprelu": Layout(weights, jump, settings, lens | {"architecture": "jumprelu"}),
        "saelens gated": Layout(weights, gated, settings, lens | {"architecture": "gated"}),
        "saelens 4": Layout(weights, matrices, settings, {
            "architecture": "standard", "d_in": WIDTH, "d_sae": size, "dtype": lens["dtype"],
            "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}, "apply_b_dec_to_input": True,
            "finetuning_scaling_factor": False, "normalize_activations": "none", "model_name": "gpt2",
            "hook_name": "blocks.3.hook_resid_pre", "hook_layer": 3, "hook_head_index": None, "prepend_bos": True,
            "context_size": 128, "dataset_path": "texts", "lp_norm": 1.0}),
        "AutoEncoder": Layout("ae.pt", linear | cast(bias=b_dec), "config.json", dictionary("AutoEncoder")),
        "AutoEncoderTopK": Layout("ae.pt", linear | cast(b_dec=b_dec) | {
            "k": torch.tensor(3), "threshold": torch.tensor(-1.0)}, "config.json", dictionary("AutoEncoderTopK", k=3)),
        "BatchTopKSAE": Layout("ae.pt", linear | cast(b_dec=b_dec) | {
            "k": torch.tensor(3), "threshold": torch.tensor(0.4)}, "config.json", dictionary("BatchTopKSAE", k=3)),
        "MatryoshkaBatchTopKSAE": Layout("ae.pt", matrices | {
            "k": torch.tensor(3), "threshold": torch.tensor(0.4), "group_sizes": torch.tensor([4, 6])}, "config.json",
            dictionary("MatryoshkaBatchTopKSAE", k=3, group_sizes=[4, 6])),
        "JumpReluAutoEncoder": Layout("ae.pt", jump, "config.json", dictionary("JumpReluAutoEncoder")),
        "GatedAutoEncoder": Layout("ae.pt", gate, "config.json", dictionary("GatedAutoEncoder")),
        "sparsify": Layout("sae.safetensors", cast(encoder__weight=encoder.T, encoder__bias=b_enc, W_dec=decoder,
                                                   b_dec=b_dec), settings, {
            "activation": "topk", "k": 3, "d_in": WIDTH, "num_latents": size, "expansion_factor": 32,
            "multi_topk": False, "normalize_decoder": True, "skip_connection": False, "transcode": False}),
        "gemma_scope": Layout("params.npz", numpy),
        "gemma_scope_2": Layout("params.safetensors", {name.lower(): tensor for name, tensor in jump.items()},
                                "config.json", {"architecture": "jump_relu", "model_name": "gemma-v3-1b-pt",
                                                "hf_hook_point_in": "model.layers.7.output", "width": size, "l0": 5}),
        "llama_scope": Layout("checkpoints/final.safetensors", linear | {"decoder.bias": matrices["b_dec"]},
                              "hyperparams.json", {
            "d_model": WIDTH, "d_sae": size, "jump_relu_threshold": 0.4, "hook_point_in": hook, "hook_point_out": hook,
            "dataset_average_activation_norm": {"in": 2.0, "out": 2.0}, "act_fn": "jumprelu",
            "norm_activation": "dataset-wise"}),
        "qwen_scope": Layout("SAE-Res-Qwen3-1.7B-Base-W1K-L0_5/layer3.sae.pt", cast(
            W_enc=wide_encoder, W_dec=wide_decoder.T, b_enc=0.1 * draw(1024), b_dec=b_dec)),
        "openai": Layout("autoencoders/8.pt", {
            "encoder.weight": linear["encoder.weight"], "decoder.weight": linear["decoder.weight"],
            "latent_bias": matrices["b_enc"], "pre_bias": matrices["b_dec"],
            "stats_last_nonzero": torch.zeros(size, dtype=torch.int64)}),
        "goodfire": Layout("Llama-3.1-8B-Instruct-SAE-l19.pth", {
            "encoder_linear.weight": linear["encoder.weight"], "encoder_linear.bias": matrices["b_enc"],
            "decoder_linear.weight": linear["decoder.weight"], "decoder_linear.bias": matrices["b_dec"]}),
        "deepseek_r1": Layout("DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt", linear | {"decoder.bias": matrices["b_dec"]}),
    }


STATISTICS = ("stats_last_nonzero", "group_sizes", "k")  # read by nobody, or not a tensor of real numbers
STRUCTURE = {  # settings on which the function hangs: a value that means something else
    "architecture": "abstopk", "apply_b_dec_to_input": "yes", "normalize_activations": "layer_norm",
    "reshape_activations": "hook_z", "activation_fn_str": "tanh-relu", "finetuning_scaling_factor": True, "k": 7.5,
    "rescale_acts_by_decoder_norm": "perhaps", "dtype": "int8", "activation": "groupmax", "transcode": True,
    "skip_connection": True, "num_latents": 99, "d_in": 99, "d_sae": 99, "d_model": 99, "width": 99,
    "hf_hook_point_in": 3, "model_name": ["gpt2"], "jump_relu_threshold": "high", "hook_point_out": "elsewhere",
    "act_fn": "gelu", "norm_activation": "token-wise", "hook_layer": 5,
}


class Malformed(NamedTuple):
    """A folder with one fault: its layout's name, and the file and key that the sentence must name."""

    name: str
    folder: Path
    file: str
    key: str


def _fault(name: str, layout: Layout, chance: random.Random) -> tuple[Layout, str, str]:
    """The layout with one fault; the file and key of it."""
    tensors, config = dict(layout.tensors), json.loads(json.dumps(layout.config))
    real = sorted(key for key in tensors if key not in STATISTICS
                  and not (key == "threshold" and name == "AutoEncoderTopK"))  # which does not use it
    kinds: list[Callable[[], tuple[str, str]]] = []

    def change(key: str, value: Any) -> tuple[str, str]:
        tensors[key] = value
        return layout.weights, key

    def missing() -> tuple[str, str]:
        key = chance.choice(real)
        del tensors[key]
        return layout.weights, key

    def not_finite() -> tuple[str, str]:
        key, value = chance.choice(real), chance.choice((torch.nan, torch.inf))
        found = tensors[key].clone()
        found.view(-1)[chance.randrange(found.numel())] = value
        return change(key, found)

    def whole_numbers() -> tuple[str, str]:
        key = chance.choice(real)
        return change(key, tensors[key].long())

    def another_shape() -> tuple[str, str]:
        key = chance.choice([key for key in real if tensors[key].dim() == 1])
        return change(key, torch.cat((tensors[key], tensors[key][:1])))

    def unknown_tensor() -> tuple[str, str]:
        key = chance.choice(("W_skip", "r_mag", "b_gate", "scaling_factor", "affine_skip_connection", "theta", "more"))
        return change(key, torch.full((4,), 2.0))

    kinds += [missing, not_finite, whole_numbers, another_shape, unknown_tensor]
    if config is not None:
        inner = config.get("trainer", config)
        prefix = "trainer." if "trainer" in config else ""

        def unknown_setting() -> tuple[str, str]:
            key = chance.choice(("gain", "tau", "use_error_gate", "b_dec_scale"))
            inner[key] = chance.choice((True, 2, "on"))
            return layout.settings or "", prefix + key

        def other_function() -> tuple[str, str]:
            key = chance.choice(sorted(key for key in inner if key in STRUCTURE))
            inner[key] = STRUCTURE[key]
            return layout.settings or "", prefix + key

        kinds += [unknown_setting]
        if any(key in STRUCTURE for key in inner):
            kinds += [other_function] * 2
        if prefix:
            def other_trainer() -> tuple[str, str]:
                key, value = chance.choice((("dict_class", "IdentityDict"), ("dict_size", 99), ("layer", 4),
                                            ("activation_dim", 99)))
                inner[key] = value
                return layout.settings or "", prefix + key
            kinds += [other_trainer] * 2
            if "k" in inner:
                def other_k() -> tuple[str, str]:
                    inner["k"] = 4  # the weights say 3
                    return layout.settings or "", "trainer.k"
                kinds += [other_k]
    file, key = chance.choice(kinds)()
    return Layout(layout.weights, tensors, layout.settings, config), file, key


def malformed(number: int, folder: Path) -> Malformed:
    """The malformed folder of this number, written into `folder`."""
    known = layouts(number)
    name = sorted(known)[number % len(known)]
    layout, file, key = _fault(name, known[name], random.Random(number))
    layout.write(folder)
    return Malformed(name, folder, file, key)
