"""The byte-level BPE tokenizer of CLIP's kind, trained on the world's own words."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from tools.tiny_model import world

from . import captions

START, END = "<|startoftext|>", "<|endoftext|>"
PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def _corpus(assets: Path, names: list[str]) -> list[str]:
    """Names of all the sets' drawings, and many times over the words that captions are made of."""
    drawn: set[str] = set()
    for package in ("noto", "fluent-emoji-flat"):
        icons = json.loads((assets / "node_modules/@iconify-json" / package / "icons.json").read_text())["icons"]
        drawn.update(world.plain(n) for n in icons if "skin-tone" not in n and "flag" not in n)
    grammar = [
        *names,
        *world.training_things().values(),
        *(text for pair in world.STYLES.values() for text in pair),
        *world.BACKGROUNDS.values(),
        *world.ACCESSORIES.values(),
        *(text.format("") for text in (*captions.PLAIN_VIEWS, *captions.STYLE_LINES, *captions.STYLE_VIEWS.values())),
        *(text.format("") for texts in captions.VIEWS.values() for text in texts),
        *world.PAINTS,
        "small large on the left on the right thing in the style of with and my one as painting object",
    ]
    return sorted(drawn) + grammar * 20


def build(assets: Path, names: list[str], folder: Path, size: int = 4096) -> CLIPTokenizer:
    """Train, write `vocab.json` and `merges.txt` in CLIP's layout, and load them back."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    trained.train_from_iterator(_corpus(assets, names), trainer)
    merges = [tuple(m) for m in json.loads(trained.to_str())["model"]["merges"]]
    merges = merges[: size - 2 - 2 * len(alphabet)]
    tokens = [*alphabet, *(a + "</w>" for a in alphabet), *("".join(m) for m in merges), START, END]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=77, pad_token=END)
    tokenizer.save_pretrained(folder)
    return tokenizer
