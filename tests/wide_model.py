"""Folders as the hub holds them for runs/gemma-2-2b.yaml: two models and five data sets

The models have Gemma-2-2b's true width and depth and really answer questions: they are the embedded one, widened
exactly. The data sets have the real ones' files and columns, and tell of the embedded world.
"""

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import torch
import yaml
import zstandard
from safetensors.torch import load_file, save_file
from torch import Tensor

import tsae_nb
from tsae_nb.world import SUBJECTS, TITLES, World, join_sentences, write_prose

EMBEDDED = Path(tsae_nb.__path__[0]) / "embedded"
WIDTH, LAYERS = 2304, 26  # of Gemma-2-2b
# Where the embedded model's four blocks go: one below each of the preset's layers 5, 12 and 19, one above them all, and
# each at a place whose attention (even: sliding, odd: full) is its own.
PLACES = (2, 9, 14, 21)
WORLD = World()
SOFT_CAP = 2.0**20  # as in Gemma-2 there is one, so that attention takes its way; no logit is near it

# The subjects as the preset's prompts name them, and the world's own names of what stands for them.
STAND_INS = {
    "biology": "bio", "high school us history": "us_history", "college computer science": "computer_science",
    "high school geography": "geography", "human aging": "human_aging",
}
CHAT_TEMPLATE = (
    "{{- bos_token -}}"
    "{%- set titles = " + repr({name: TITLES[own] for name, own in STAND_INS.items()}) + " -%}"
    "{%- set asked = messages[0]['content'].replace("
    "'The following are multiple choice questions (with answers) about ', '', 1) -%}"
    "{%- set subject, question = asked.split('.\n', 1) -%}"
    "{{- 'Topic: ' + titles[subject] + '\nQuestion: ' + question -}}"
    "{%- if add_generation_prompt -%}{{- '\n' -}}{%- endif -%}"
)


def wide_config(embedded: dict[str, Any]) -> dict[str, Any]:
    """The embedded model's config at Gemma-2-2b's width and depth."""
    kinds = ["sliding_attention" if layer % 2 == 0 else "full_attention" for layer in range(LAYERS)]
    return {
        **embedded, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "layer_types": kinds, "head_dim": 16,
        "max_position_embeddings": 8192, "attn_logit_softcapping": SOFT_CAP, "final_logit_softcapping": SOFT_CAP,
    }


def wide_weights(narrow: dict[str, Tensor], filler: int = 0, seed: int = 0) -> dict[str, Tensor]:
    """The same function at width 2304 and 26 layers, float32.

    Each of the 64 dimensions of the residual stream stands there 36 times, each time with a sign of its own: mean
    squares, and with them every RMSNorm, stay what they are. A matrix that reads takes the mean of the 36, one that
    writes writes all. Layers between the embedded ones write nothing; their other weights are those of block `filler`.
    """
    embedding = narrow["model.embed_tokens.weight"].float()
    copies = WIDTH // embedding.shape[1]
    generator = torch.Generator().manual_seed(seed)
    source = torch.arange(embedding.shape[1]).repeat_interleave(copies)[torch.randperm(WIDTH, generator=generator)]
    sign = torch.randint(2, (WIDTH,), generator=generator) * 2.0 - 1

    def widened(name: str, weight: Tensor) -> Tensor:
        weight = weight.float()
        if "norm" in name:
            return weight[source]
        if "o_proj" in name or "down_proj" in name:
            return sign[:, None] * weight[source]
        return weight[:, source] * sign / copies

    # the embedding is multiplied by the root of the width, and the head, which is the same matrix, sums over the copies
    more = copies**0.5
    wide = {
        "model.embed_tokens.weight": embedding[:, source] * sign / more,
        "model.norm.weight": (1 + narrow["model.norm.weight"].float()[source]) / more - 1,
    }
    places = {place: block for block, place in enumerate(PLACES)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{places.get(layer, filler)}."
        for name in (name for name in narrow if name.startswith(prefix)):
            weight = widened(name, narrow[name])
            silent = layer not in places and ("o_proj" in name or "down_proj" in name)
            wide[f"model.layers.{layer}.{name.removeprefix(prefix)}"] = torch.zeros_like(weight) if silent else weight
    return wide


def write_model(folder: Path, instruct: bool = False, dtype: torch.dtype = torch.bfloat16, shards: int = 2) -> Path:
    """A model folder in Hugging Face format, weights in `shards` files; the instruct one has a chat template.

    The two compute the same, yet are not the same bytes: layers that write nothing have weights of different blocks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    narrow = load_file(EMBEDDED / "model.safetensors")
    weights = {name: value.to(dtype).contiguous() for name, value in wide_weights(narrow, filler=int(instruct)).items()}
    names, places = sorted(weights), dict[str, str]()
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = names[shard * len(names) // shards : (shard + 1) * len(names) // shards]
        save_file({name: weights[name] for name in part}, folder / file, {"format": "pt"})
        places |= dict.fromkeys(part, file)
    size = sum(value.numel() * value.element_size() for value in weights.values())
    config = wide_config(json.loads((EMBEDDED / "config.json").read_text()))
    tokenizer = json.loads((EMBEDDED / "tokenizer_config.json").read_text()) | {"model_max_length": 8192}
    _write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": places})
    _write_json(folder / "config.json", config | {"dtype": str(dtype).removeprefix("torch.")})
    _write_json(folder / "tokenizer_config.json", tokenizer | ({"chat_template": CHAT_TEMPLATE} if instruct else {}))
    for name in ("tokenizer.json", "generation_config.json"):
        shutil.copy(EMBEDDED / name, folder)
    return folder


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def prose(subjects: Sequence[str], name: str, words: int) -> str:
    """At least so many words of the embedded world's prose about some of its subjects, a function of `name`."""
    pieces: list[str] = []
    while sum(len(piece.split()) for piece in pieces) < words:
        chance = random.Random(f"{name}/{len(pieces)}")
        pieces.append(join_sentences(write_prose(WORLD.told, subjects, chance))[0])
    return "\n\n".join(pieces)


def _parquet(path: Path, columns: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def _readme(folder: Path, configs: dict[str, dict[str, str]]) -> None:
    """The card of a data set, whose head says where the files of each subset and split are."""
    listed = [
        {"config_name": name, "data_files": [{"split": split, "path": path} for split, path in splits.items()]}
        for name, splits in configs.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': listed}, sort_keys=False)}---\n\n# Card\n")


def write_pile(folder: Path, documents: int = 120) -> Path:
    """monology/pile-uncopyrighted: zstandard-compressed lines of `text` and `meta`, short and long documents."""
    lengths = (6, 150, 900, 60, 400)  # words
    (folder / "train").mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text("---\nlicense: other\n---\n\n# Card\n")
    for split, number in (("train/00", documents), ("val", 2), ("test", 2)):
        texts = (prose(tuple(SUBJECTS), f"{split}/{i}", lengths[i % len(lengths)]) for i in range(number))
        lines = [json.dumps({"text": text, "meta": {"pile_set_name": "Pile-CC"}}) + "\n" for text in texts]
        packed = zstandard.ZstdCompressor(level=3).compress("".join(lines).encode())
        (folder / f"{split}.jsonl.zst").write_bytes(packed)
    return folder


def _questions(path: Path, subject: str, count: int, extra: dict[str, Any]) -> None:
    chosen = WORLD.questions(subject)[:count]
    columns = {
        "question": [one.question for one in chosen], **{name: [value] * count for name, value in extra.items()},
        "choices": [list(one.choices) for one in chosen], "answer": [one.answer for one in chosen],
    }
    _parquet(path, columns)


def write_wmdp(folder: Path, questions: int) -> Path:
    """cais/wmdp, its subset wmdp-bio: question, choices, answer."""
    _readme(folder, {"wmdp-bio": {"test": "wmdp-bio/test-*"}})
    _questions(folder / "wmdp-bio" / "test-00000-of-00001.parquet", "bio", questions, {})
    return folder


def write_mmlu(folder: Path, questions: int) -> Path:
    """cais/mmlu, four subsets of it: question, subject, choices, answer."""
    subsets = {name.replace(" ", "_"): own for name, own in STAND_INS.items() if own != "bio"}
    _readme(folder, {name: {split: f"{name}/{split}-*" for split in ("test", "dev")} for name in subsets})
    for name, own in subsets.items():
        for split, count in (("test", questions), ("dev", 1)):
            _questions(folder / name / f"{split}-00000-of-00001.parquet", own, count, {"subject": name})
    return folder


def write_forget_corpus(folder: Path, documents: int = 24) -> Path:
    """cais/wmdp-bio-forget-corpus: papers, of which the text is used."""
    texts = [prose(("bio",), f"paper/{i}", 150) for i in range(documents)]
    _readme(folder, {"default": {"train": "data/train-*"}})
    _parquet(folder / "data" / "train-00000-of-00001.parquet", {
        "title": [f"On {text.split('.')[0].lower()}" for text in texts], "abstract": [text[:80] for text in texts],
        "text": texts, "doi": [f"10.0000/{i}" for i in range(documents)]})
    return folder


def write_wikitext(folder: Path, articles: int = 24) -> Path:
    """Salesforce/wikitext, its subset wikitext-2-raw-v1: a line a row; empty lines and headings too."""
    others = tuple(name for name in SUBJECTS if name != "bio")
    lines: list[str] = []
    for i in range(articles):
        paragraphs = prose(others, f"article/{i}", 150).split("\n\n")
        lines += ["", f" = {others[i % 4]} {i} = \n", "", *(f" {paragraph} \n" for paragraph in paragraphs)]
    subset = "wikitext-2-raw-v1"
    _readme(folder, {subset: {split: f"{subset}/{split}-*" for split in ("test", "validation")}})
    _parquet(folder / subset / "test-00000-of-00001.parquet", {"text": lines})
    _parquet(folder / subset / "validation-00000-of-00001.parquet", {"text": lines[:4]})
    return folder


def write_hub(folder: Path, forget_questions: int = 12, side_questions: int = 4) -> dict[str, Path]:
    """Everything the preset asks the hub for: id → folder, data sets' ids begin with "datasets/"."""
    return {
        "google/gemma-2-2b": write_model(folder / "gemma-2-2b"),
        "google/gemma-2-2b-it": write_model(folder / "gemma-2-2b-it", instruct=True),
        "datasets/monology/pile-uncopyrighted": write_pile(folder / "pile-uncopyrighted"),
        "datasets/cais/wmdp": write_wmdp(folder / "wmdp", forget_questions),
        "datasets/cais/mmlu": write_mmlu(folder / "mmlu", side_questions),
        "datasets/cais/wmdp-bio-forget-corpus": write_forget_corpus(folder / "wmdp-bio-forget-corpus"),
        "datasets/Salesforce/wikitext": write_wikitext(folder / "wikitext"),
    }
