"""Other libraries' SAEs: read exactly, or refused in one sentence that names file and key."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_layouts import SIZE, WIDTH, Layout, layouts, malformed
from safetensors.torch import load_file
from torch import Tensor, nn

from tsae_nb.cli import main
from tsae_nb.config import TAKES_ACTIVE, SAEConfig, SparseCodeConfig
from tsae_nb.foundation import UserError
from tsae_nb.interop import (
    FORMATS,
    SAELENS_ARCHITECTURES,
    Source,
    after_block,
    export_sae,
    import_sae,
    inspect_saes,
    keep_sae,
    open_sae,
)
from tsae_nb.sae import SparseAutoencoder, save_sae

NAMES = sorted(layouts())
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def by_formula(name: str, layout: Layout, h: Tensor) -> tuple[Tensor, Tensor]:
    """Codes in units of unit decoder rows, and the reconstruction, in float64, as the library's formula says."""
    tensors = {key: torch.as_tensor(value).double() for key, value in layout.tensors.items()}
    pick = lambda *keys: next(tensors[key] for key in keys if key in tensors)  # noqa: E731
    encoder = pick("encoder.weight", "W_enc", "w_enc", "encoder_linear.weight")
    decoder = pick("decoder.weight", "W_dec", "w_dec", "decoder_linear.weight")
    encoder = encoder if encoder.shape[1] == WIDTH else encoder.T
    decoder = decoder if decoder.shape[1] == WIDTH else decoder.T
    b_enc = pick("encoder.bias", "b_enc", "latent_bias", "b_gate", "gate_bias", "encoder_linear.bias")
    b_dec = pick("b_dec", "bias", "pre_bias", "decoder.bias", "decoder_bias", "decoder_linear.bias")
    scale = WIDTH**0.5 / 2.0 if name == "llama_scope" else 1.0
    subtracts = name not in ("JumpReluAutoEncoder", "gemma_scope", "gemma_scope_2", "llama_scope", "qwen_scope",
                             "goodfire", "deepseek_r1")
    pre = scale * (h.double() - (b_dec if subtracts else 0)) @ encoder.T + b_enc
    z = pre.relu()
    if name in ("saelens topk", "saelens 4", "AutoEncoderTopK", "sparsify", "qwen_scope"):
        z = torch.zeros_like(z).scatter(1, pre.topk(5 if name == "qwen_scope" else 3).indices, 1.0) * z
    elif name == "saelens topk of norms":
        z = torch.zeros_like(z).scatter(1, (pre * decoder.norm(dim=1)).topk(3).indices, 1.0) * z
    elif "r_mag" in tensors:
        z = ((pre - b_enc) * tensors["r_mag"].exp() + pick("b_mag", "mag_bias")).relu() * (pre > 0)
    elif "threshold" in tensors:
        z = z * (pre > tensors["threshold"])
    elif name == "llama_scope":
        z = z * (pre > 0.4 * scale)
    return z * decoder.norm(dim=1) / scale, z @ decoder / scale + b_dec / scale


@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_every_layout_is_read_exactly(name: str, dtype: torch.dtype, uneven: bool, tmp_path: Path) -> None:
    layout = layouts(1, dtype=dtype, uneven=uneven)[name]
    layout.write(tmp_path)
    sae = import_sae(tmp_path)
    h = 2 * torch.randn(1000, WIDTH, generator=torch.Generator().manual_seed(0))
    z, reconstruction = by_formula(name, layout, h)
    codes = sae.encode(h)
    assert ((codes > 0) != (z > 0)).any(1).sum() == 0
    torch.testing.assert_close(codes.double(), z, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(sae.decode(codes).double(), reconstruction, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("number", range(80))
def test_a_malformed_folder_is_one_sentence_that_names_file_and_key(number: int, tmp_path: Path) -> None:
    name, folder, file, key = malformed(number, tmp_path / "sae")
    with pytest.raises(UserError) as caught:
        import_sae(folder)
    said = str(caught.value)
    assert f"{folder / file}: {key!r} " in said and "\n" not in said and "ed (" not in said.split(key)[0], said
    assert len(said.replace(str(folder), "")) < 330, said
    (about,) = inspect_saes(folder)
    assert about["refused"] == said


def test_the_malformed_folders_are_of_every_layout_and_of_many_faults(tmp_path: Path) -> None:
    found = [malformed(number, tmp_path / str(number)) for number in range(80)]
    assert {one.name for one in found} == set(NAMES)
    assert len({one.key for one in found}) > 25


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_malformed_is_read(name: str, tmp_path: Path) -> None:
    layouts(3)[name].write(tmp_path)
    (about,) = inspect_saes(tmp_path)
    assert "refused" not in about and (about["width"], about["features"]) == (
        WIDTH, 1024 if name == "qwen_scope" else SIZE)


def edited(name: str, folder: Path, config: dict[str, Any] | None = None, **tensors: Tensor | None) -> Path:
    """A layout with some entries other, or none."""
    layout = layouts()[name]
    content = (layout.config or {}) | (config or {})
    kept = {key: value for key, value in (layout.tensors | tensors).items() if value is not None}
    Layout(layout.weights, kept, layout.settings, content).write(folder)
    return folder


def test_k_of_all_features_is_a_relu_and_more_is_refused(tmp_path: Path) -> None:
    sae = import_sae(edited("saelens topk", tmp_path / "all", {"k": SIZE}))
    h = torch.randn(50, WIDTH)
    relu = import_sae(edited("saelens standard", tmp_path / "relu"))
    assert torch.equal(sae.encode(h), relu.encode(h))
    for k in (SIZE + 1, 7.0, 0, -1, True, "3", None):
        with pytest.raises(UserError, match=r"cfg\.json: 'k' is "):
            import_sae(edited("saelens topk", tmp_path / str(k), {"k": k}))


@pytest.mark.parametrize("key", ["gain", "W_more"])
def test_what_is_not_known_is_read_on_the_word_of_the_user_alone(key: str, tmp_path: Path) -> None:
    edited("saelens standard", tmp_path, {"gain": 2}, W_more=torch.ones(3))
    with pytest.raises(UserError, match="not known here"):
        import_sae(tmp_path, ignored=[key])
    assert import_sae(tmp_path, ignored=["gain", "W_more"]).dictionary_size == SIZE


def test_what_is_known_to_be_another_function_is_not_read_on_anybodys_word(tmp_path: Path) -> None:
    edited("saelens standard", tmp_path, W_skip=torch.eye(WIDTH))
    with pytest.raises(UserError, match="'W_skip' is a skip connection"):
        import_sae(tmp_path, ignored=["W_skip"])


def test_a_scaling_factor_of_ones_changes_nothing(tmp_path: Path) -> None:
    assert import_sae(edited("saelens standard", tmp_path / "a", scaling_factor=torch.ones(SIZE)))
    with pytest.raises(UserError, match="'scaling_factor' is a factor"):
        import_sae(edited("saelens standard", tmp_path / "b", scaling_factor=torch.full((SIZE,), 2.0)))


@pytest.mark.parametrize("architecture", ["transcoder", "skip_transcoder", "jumprelu_transcoder",
                                          "jumprelu_skip_transcoder", "abstopk", "matching_pursuit", "temporal",
                                          "batchtopk", "matryoshka_batchtopk"])
def test_other_architectures_are_refused_with_the_reason(architecture: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"cfg\.json: 'architecture' is '{architecture}' \(.*\), which cannot be"):
        import_sae(edited("saelens standard", tmp_path, {"architecture": architecture}))


def test_a_pickle_of_anything_but_tensors_is_refused_by_name(tmp_path: Path) -> None:
    edited("AutoEncoder", tmp_path)
    torch.save({"encoder": nn.Linear(2, 3)}, tmp_path / "ae.pt")
    with pytest.raises(UserError, match=r"ae\.pt .*torch\.nn\.modules\.linear\.Linear"):
        import_sae(tmp_path)


def test_a_root_of_several_names_them_and_its_settings_are_read(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for place in ("layers.3", "layers.5", "layers.5.mlp"):
        layouts()["sparsify"].write(root / place)
    (root / "config.json").write_text(json.dumps({"sae": {"k": 3}, "model": "gpt2", "dataset": "pile", "ctx_len": 64}))
    with pytest.raises(UserError, match="holds 3 SAEs"):
        import_sae(root)
    about = inspect_saes(root)
    assert [(one["hook"], one["layer"], one["model"], one["corpus"], one["context_size"]) for one in about] == [
        ("layers.3", 3, "gpt2", "pile", 64), ("layers.5", 5, "gpt2", "pile", 64),
        ("layers.5.mlp", None, "gpt2", "pile", 64)]
    (root / "config.json").write_text(json.dumps({"sae": {"transcode": True}}))
    with pytest.raises(UserError, match=r"config\.json: 'sae\.transcode' is True \(it writes another place"):
        import_sae(root / "layers.3")


def test_the_source_is_kept_and_checked(tmp_path: Path) -> None:
    edited("saelens jumprelu", tmp_path / "foreign")
    sae = keep_sae(tmp_path / "foreign", tmp_path / "ours")
    assert sae.source == Source("saelens", "jumprelu", "gpt2", "blocks.3.hook_resid_pre", "texts", 128)
    again, source = open_sae(tmp_path / "ours")
    assert source == sae.source and source.layer == 2 and again.content_hash() == sae.content_hash()
    source.check("openai-community/gpt2", 2)
    source.check(str(tmp_path), 2)  # a folder may be called anything
    with pytest.raises(UserError, match="trained on blocks.3.hook_resid_pre, not on the residual stream after block 3"):
        source.check("gpt2", 3)
    with pytest.raises(UserError, match="trained on gpt2, not on"):
        source.check("gpt2-medium", 2)
    with pytest.raises(UserError, match=r"trained on blocks\.2\.hook_mlp_out"):
        Source(hook="blocks.2.hook_mlp_out").check("gpt2", 2)


@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
@pytest.mark.parametrize("name", [
    "saelens standard", "saelens topk", "saelens topk of norms", "saelens jumprelu", "saelens gated", "AutoEncoder",
    "AutoEncoderTopK", "BatchTopKSAE", "JumpReluAutoEncoder", "GatedAutoEncoder", "sparsify"])
def test_in_and_out_again_not_a_bit_changes(name: str, uneven: bool, tmp_path: Path) -> None:
    layout = layouts(uneven=uneven)[name]
    layout.write(tmp_path / "before")
    form = next(form for form, known in FORMATS.items() if known.known_by == layout.weights)
    sae = import_sae(tmp_path / "before")
    export_sae(sae, tmp_path / "after", form)
    again = import_sae(tmp_path / "after")
    before, after = sae.state_dict(), again.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    read = torch.load if form == "dictionary_learning" else load_file
    written = read(tmp_path / "after" / FORMATS[form].known_by)
    for key, tensor in layout.tensors.items():
        if key not in ("k", "threshold") or tensor.dim():
            assert torch.equal(written[key], tensor), key
    if form != "sparsify":  # whose root says it
        assert (again.source.model, again.source.layer) == (sae.source.model, sae.source.layer) != (None, None)


@pytest.mark.parametrize("dead", [False, True], ids=["alive", "a row of zeros"])
def test_a_choice_by_contribution_is_the_same_in_every_format(dead: bool, tmp_path: Path) -> None:
    layout = layouts(uneven=True)["saelens topk of norms"]
    if dead:
        layout.tensors["W_dec"][4] = 0.0
    layout.write(tmp_path / "before")
    sae = import_sae(tmp_path / "before")
    h = 2 * torch.randn(1000, WIDTH, generator=torch.Generator().manual_seed(0))
    z, reconstruction = by_formula("saelens topk of norms", layout, h)
    assert torch.equal(sae.encode(h) > 0, z > 0)
    torch.testing.assert_close(sae.decode(sae.encode(h)).double(), reconstruction, atol=1e-4, rtol=1e-4)
    for form in ("saelens", "dictionary_learning", "sparsify"):
        export_sae(sae, tmp_path / form, form)
        again = import_sae(tmp_path / form)
        assert torch.equal(again.encode(h) > 0, z > 0)
        torch.testing.assert_close(again.encode(h).double(), z, atol=1e-4, rtol=1e-4)
    keep_sae(tmp_path / "before", tmp_path / "kept")
    assert torch.equal(open_sae(tmp_path / "kept")[0].encode(h), sae.encode(h))


@pytest.mark.parametrize("kind", ["standard", "topk", "jumprelu", "gated"])
def test_from_one_librarys_convention_to_anothers(kind: str, tmp_path: Path) -> None:
    before = import_sae(edited(f"saelens {kind}", tmp_path / "before", {"apply_b_dec_to_input": False}))
    export_sae(before, tmp_path / "after", "dictionary_learning")  # all but JumpReLU subtract the bias
    after = import_sae(tmp_path / "after")
    assert after.config.subtract_decoder_bias == (kind != "jumprelu")
    h = 2 * torch.randn(1000, WIDTH, generator=torch.Generator().manual_seed(0))
    assert torch.equal(after.encode(h) > 0, before.encode(h) > 0)
    torch.testing.assert_close(after.encode(h), before.encode(h), atol=1e-5, rtol=1e-5)


WRITTEN = [(form, kind) for form in ("saelens", "dictionary_learning") for kind in SAELENS_ARCHITECTURES]


@pytest.mark.parametrize("form, kind", [*WRITTEN, ("sparsify", "topk")])
def test_what_is_written_is_read_again(form: str, kind: str, tmp_path: Path) -> None:
    code = SparseCodeConfig(kind, active=3 if kind in TAKES_ACTIVE else None)  # type: ignore[arg-type]
    sae = SparseAutoencoder(WIDTH, SAEConfig(dictionary_size=SIZE, sparse_code=code, sparsity=None), scale=0.5).eval()
    for number, (name, value) in enumerate(sorted(sae.named_parameters())):
        if name != "decoder_weight":
            value.data.normal_(generator=torch.Generator().manual_seed(number)).abs_()
    place = Source(model="gpt2", hook=after_block(3), corpus="texts", context_size=128)
    metadata = FORMATS[form].naming(place) | {"note": "ours", "numbers": [1, 2], "dict_class": "Other", "k": 99}
    export_sae(sae, tmp_path / "one", form, metadata)
    one = import_sae(tmp_path / "one")
    export_sae(one, tmp_path / "two", form, {"note": "again"})
    two = import_sae(tmp_path / "two")
    assert two.source == one.source and one.content_hash() == two.content_hash()
    assert (one.source.model, one.source.layer, one.source.context_size) == ("gpt2", 3, 128)
    assert one.source.corpus == (None if form == "dictionary_learning" else "texts")
    h = torch.randn(100, WIDTH, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(one.encode(h), sae.encode(h), atol=1e-5, rtol=1e-5)
    assert one.config.sparse_code.active in (None, 3)
    assert "ours" in "".join(file.read_text() for file in (tmp_path / "one").glob("c*.json"))


def test_weights_are_rounded_to_what_the_library_computes_in(tmp_path: Path) -> None:
    rounded = import_sae(edited("saelens jumprelu", tmp_path / "rounded", {"dtype": "bfloat16"}))
    tensors = {key: tensor.bfloat16() for key, tensor in layouts()["saelens jumprelu"].tensors.items()}
    stored = import_sae(edited("saelens jumprelu", tmp_path / "stored", {"dtype": "bfloat16"}, **tensors))
    assert rounded.content_hash() == stored.content_hash()


def test_a_folder_of_ours_and_a_damaged_one_of_ours_are_known(tmp_path: Path) -> None:
    edited("saelens jumprelu", tmp_path / "foreign")
    ours = SparseAutoencoder(WIDTH, SAEConfig(dictionary_size=8, sparsity=None))
    save_sae(ours, tmp_path / "run" / "sae", {"layer": 4})
    keep_sae(tmp_path / "foreign", tmp_path / "run" / "kept")
    kept, trained = inspect_saes(tmp_path / "run")
    assert (trained["format"], trained["layer"], trained["features"]) == ("tsae_nb", 4, 8)
    assert (kept["format"], kept["layer"], kept["model"]) == ("saelens", 2, "gpt2")
    with pytest.raises(UserError, match="read it with load_sae"):
        import_sae(tmp_path / "run" / "sae")
    (tmp_path / "run" / "sae" / "stored.json").unlink()
    assert "stored.json is missing" in inspect_saes(tmp_path / "run")[1]["refused"]


def test_import_and_inspect_from_a_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited("saelens jumprelu", tmp_path / "foreign", {"gain": 2})
    out = str(tmp_path / "ours")
    assert main(["import", str(tmp_path / "foreign"), out]) == 2
    assert "cfg.json: 'gain' is not known here" in capsys.readouterr().err and not Path(out).exists()
    assert main(["import", str(tmp_path / "foreign"), out, "--ignore", "gain"]) == 0
    assert main(["import", str(tmp_path / "foreign"), out, "--ignore", "gain"]) == 0  # the same again
    assert main(["import", str(edited("AutoEncoder", tmp_path / "another")), out]) == 2
    assert "is there already, and is something else" in capsys.readouterr().err
    for place, options in ((out, []), (str(tmp_path / "foreign"), ["--ignore", "gain"])):
        assert main(["inspect", place, "--json", *options]) == 0
        (about,) = json.loads(capsys.readouterr().out)
        assert (about["format"], about["model"], about["layer"], about["code"]) == ("saelens", "gpt2", 2, "jumprelu")
    assert main(["inspect", out]) == 0
    assert "hook         blocks.3.hook_resid_pre" in capsys.readouterr().out


def test_a_folder_of_ours_and_others_lists_both(tmp_path: Path) -> None:
    save_sae(SparseAutoencoder(WIDTH, SAEConfig(dictionary_size=8, sparsity=None)), tmp_path / "run" / "sae")
    edited("AutoEncoder", tmp_path / "run.dictionary_learning")
    assert [one["format"] for one in inspect_saes(tmp_path)] == ["tsae_nb", "dictionary_learning"]


def test_what_has_the_same_weights_and_another_source_is_not_replaced(tmp_path: Path) -> None:
    for model in ("one", "other"):
        edited("saelens standard", tmp_path / model, {"metadata": {"model_name": model}})
    keep_sae(tmp_path / "one", tmp_path / "out")
    with pytest.raises(UserError, match="is something else"):
        keep_sae(tmp_path / "other", tmp_path / "out")
    assert open_sae(tmp_path / "out")[1].model == "one"


def test_of_two_imports_at_once_the_later_does_not_replace_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (edited(name, tmp_path / name) for name in ("AutoEncoder", "JumpReluAutoEncoder"))
    refused = list[str]()

    def other() -> None:
        try:
            keep_sae(second, tmp_path / "out")
        except UserError as error:
            refused.append(str(error))

    thread = threading.Thread(target=other)

    def slow(*given: Any) -> None:
        if not thread.ident:
            thread.start()
            thread.join(0.5)
        save_sae(*given)

    monkeypatch.setattr("tsae_nb.interop.save_sae", slow)
    keep_sae(first, tmp_path / "out")
    thread.join()
    assert open_sae(tmp_path / "out")[1].architecture == "AutoEncoder" and "is something else" in refused[0]


@pytest.mark.parametrize("name", ["a\udc80b", "a\nb", "a\x1b[31m", "layers." + "1" * 5000], ids=ascii)
def test_a_name_is_one_printable_line(name: str, tmp_path: Path) -> None:
    for key in ("model_name", "hook_name"):
        folder = edited("saelens standard", tmp_path / key, {"metadata": {key: name}})
        with pytest.raises(UserError, match=rf"cfg\.json: 'metadata\.{key}' is .*, not a name") as caught:
            keep_sae(folder, tmp_path / "out")
        said = str(caught.value).replace(str(folder), "")
        assert said.isprintable() and len(said) < 300


@pytest.mark.parametrize("odd", [torch.ones(SIZE, WIDTH).to_sparse(), torch.ones(SIZE, WIDTH, device="meta")])
def test_a_tensor_that_is_not_plain_is_refused_in_one_sentence(odd: Tensor, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ae\.pt: 'encoder\.weight' is stored sparse or without its numbers") as caught:
        import_sae(edited("AutoEncoder", tmp_path, **{"encoder.weight": odd}))
    assert "\n" not in str(caught.value)


def test_numbers_beyond_float32_are_refused(tmp_path: Path) -> None:
    for number in (10**400, 1e300, 1e-300):
        with pytest.raises(UserError, match=r"hyperparams\.json: 'jump_relu_threshold' is .* that float32 holds"):
            import_sae(edited("llama_scope", tmp_path / "a", {"jump_relu_threshold": number}))
    with pytest.raises(UserError, match=r"final\.safetensors: its numbers are too large or too small"):
        import_sae(edited("llama_scope", tmp_path / "b", {"dataset_average_activation_norm": {"in": 1e38}},
                          **{"decoder.weight": torch.full((WIDTH, SIZE), 10.0)}))
    with pytest.raises(UserError, match=r"its numbers are too large or too small"):  # the lengths of such rows
        import_sae(edited("saelens standard", tmp_path / "c", W_dec=torch.full((SIZE, WIDTH), 3e38)))


def test_long_keys_and_values_do_not_fill_the_screen(tmp_path: Path) -> None:
    long = "x" * 100_000
    for config in ({"architecture": long}, {"d_in": long}, {long: 1}, {"k": [1] * 100_000}):
        with pytest.raises(UserError) as caught:
            import_sae(edited("saelens topk", tmp_path, config))
        assert len(str(caught.value).replace(str(tmp_path), "")) < 400


OTHERWISE = {  # what once was accepted in silence, or ended in a traceback: layout, changes, file and key
    "a skip matrix without a flag": ("sparsify", {}, {"W_skip": torch.eye(WIDTH)}, "sae.safetensors: 'W_skip'"),
    "a gate": ("saelens standard", {}, {"r_mag": torch.ones(SIZE)}, "sae_weights.safetensors: 'r_mag'"),
    "a transcoder's bias": ("saelens standard", {}, {"b_dec_out": torch.ones(WIDTH)}, "safetensors: 'b_dec_out'"),
    "two numbers k": ("AutoEncoderTopK", {"trainer": {"dict_class": "AutoEncoderTopK", "k": 9}},
                      {"k": torch.tensor(4)}, "config.json: 'trainer.k' is 9, but ae.pt says 4"),
    "weights that are no numbers": ("saelens standard", {}, {"W_enc": torch.full((WIDTH, SIZE), torch.nan)},
                                    "sae_weights.safetensors: 'W_enc' holds NaN"),
    "more chosen than there are": ("saelens topk", {"k": SIZE + 1}, {}, "cfg.json: 'k' is 11"),
    "a bias too long": ("saelens jumprelu", {}, {"b_enc": torch.ones(SIZE + 1)}, "'b_enc' has the shape (11,)"),
    "a threshold too long": ("saelens jumprelu", {}, {"threshold": torch.ones(SIZE + 1)}, "'threshold' has the shape"),
    "two layers": ("saelens 4", {"hook_layer": 5}, {}, "cfg.json: 'hook_layer' is 5"),
    "a place written": ("gemma_scope_2", {"hf_hook_point_out": "model.layers.8.output"}, {}, "'hf_hook_point_out'"),
}


@pytest.mark.parametrize("what", OTHERWISE)
def test_what_a_file_says_otherwise_is_named(what: str, tmp_path: Path) -> None:
    name, config, tensors, said = OTHERWISE[what]
    with pytest.raises(UserError) as caught:
        import_sae(edited(name, tmp_path, config, **tensors))
    assert said in str(caught.value)


def test_the_folders_above_say_what_a_file_without_settings_is(tmp_path: Path) -> None:
    scope = layouts()["gemma_scope"]
    scope.write(tmp_path / "gemma-scope-9b-it-res" / "layer_20" / "width_16k")
    scope.write(tmp_path / "gemma-scope-2b-pt-mlp" / "layer_3" / "width_16k")
    residual, mlp = (import_sae(tmp_path / name).source for name in ("gemma-scope-9b-it-res", "gemma-scope-2b-pt-mlp"))
    assert (residual.model, residual.layer) == ("google/gemma-2-9b-it", 20)
    assert (mlp.hook, mlp.layer) == ("blocks.3.hook_mlp_out", None)
    scope.write(tmp_path / "gemma-scope-2b-pt-transcoders" / "layer_3")
    with pytest.raises(UserError, match="'transcoder' in its path"):
        import_sae(tmp_path / "gemma-scope-2b-pt-transcoders")
    layouts()["qwen_scope"]._replace(weights="layer3.sae.pt").write(tmp_path / "renamed")
    with pytest.raises(UserError, match=r"layer3\.sae\.pt: 'k' is not in the file"):
        import_sae(tmp_path / "renamed")
