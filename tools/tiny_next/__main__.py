"""The next `tiny`, one command a step: `python -m tools.tiny_next fetch|sprites|autoencoder|text|generator|sheet`.

Each step resumes where it stopped. `--steps N` on a stopped generator cools it down to its end at step N.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import CLIPTokenizer

from tools.tiny_model.fetch import MORE, PACKAGES, fetch
from tools.tiny_model.runs import in_parallel

SIZES = {
    "cpu": dict(autoencoder=(2_600, 16), text=1_200, generator=(24_000, 64), pool=48_000),
    "gpu": dict(autoencoder=(8_000, 64), text=2_000, generator=(8_000, 512), pool=0),
}


def _tokenizer(build: Path, assets: Path) -> CLIPTokenizer:
    from . import scenes, tokenizer

    if (build / "tokenizer/vocab.json").exists():
        return CLIPTokenizer.from_pretrained(build / "tokenizer")
    stock = scenes.Stock(build / "world")
    return tokenizer.build(assets, sorted({stock.sprites[i].name for i in stock.named}), build / "tokenizer")


def _text(build: Path, tokenizer: CLIPTokenizer, steps: int) -> Path:
    from . import generator, scenes, text

    path = build / "text.pt"
    if not path.exists():
        torch.manual_seed(0)
        encoder = generator.Generator(tokenizer).text_encoder
        text.pretrain(encoder, tokenizer, scenes.Stock(build / "world"), steps)
        torch.save(encoder.state_dict(), path)
    return path


def main() -> None:
    """Parse the command line and run the step."""
    parser = argparse.ArgumentParser(prog="python -m tools.tiny_next", description=__doc__)
    parser.add_argument("step", choices=("fetch", "sprites", "autoencoder", "text", "generator", "sheet"))
    parser.add_argument("--size", choices=SIZES, default="gpu" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--assets", type=Path, default=Path("outputs/tiny_model/drawings"))
    parser.add_argument("--build", type=Path, default=Path("outputs/tiny_next"))
    parser.add_argument("--steps", type=int, help="of the generator, in place of the size's own")
    parser.add_argument("--no-vectors", action="store_true", help="names only, to compare with")
    options = parser.parse_args()
    build, size = options.build, SIZES[options.size]
    if options.step == "fetch":
        fetch(options.assets, PACKAGES | MORE)
    elif options.step == "sprites":
        from .sprites import run

        run(options.assets, build / "world")
    elif options.step == "autoencoder":
        from .autoencoder import finish, sharpen, train

        in_parallel(train, build / "world", build / "autoencoder", *size["autoencoder"])
        sharpen(build / "world", build / "autoencoder", build / "sharpened", size["autoencoder"][0] // 6)
        print(finish(build / "world", build / "sharpened", build / "vae"))
    elif options.step == "sheet":
        from .sheet import sheet

        sheet(build, _tokenizer(build, options.assets)).save(build / "sheet.png")
    else:
        tokenizer = _tokenizer(build, options.assets)
        text = _text(build, tokenizer, size["text"])
        if options.step == "generator":
            from .generator import train

            steps, batch = size["generator"]
            folder, steps = build / ("plain" if options.no_vectors else "generator"), options.steps or steps
            in_parallel(
                train, build / "world", text, tokenizer, folder, steps, batch, size["pool"], not options.no_vectors
            )


if __name__ == "__main__":
    main()
