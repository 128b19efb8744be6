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

STEPS = ("fetch", "sprites", "autoencoder", "text", "generator", "sheet", "judge", "export", "evaluate", "pack", "on-gpu", "join")  # fmt: skip
SIZES = {
    "cpu": dict(autoencoder=(2_600, 16), text=1_500, generator=(24_000, 64), pool=32_000, judge=(2_400, 128)),
    "gpu": dict(autoencoder=(8_000, 64), text=2_000, generator=(8_000, 512), pool=0, judge=(6_000, 256, 60_000)),
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
        model = generator.Generator(tokenizer)
        text.pretrain(model, tokenizer, scenes.Stock(build / "world"), steps)
        torch.save({k: getattr(model, k).state_dict() for k in ("text_encoder", "drawing_encoder")}, path)
    return path


def _elsewhere(options: argparse.Namespace, size: dict) -> None:
    from . import bundle
    from .generator import train

    build = options.build
    if options.step == "pack":
        bundle.pack(build, options.packed)
    elif options.step == "join":
        bundle.join(options.pieces, build / "generator")
    else:
        bundle.unpack(options.packed, build)
        tokenizer, (steps, batch) = CLIPTokenizer.from_pretrained(build / "tokenizer"), size["generator"]
        text, limit = build / "text.pt", 0.0 if options.steps else options.minutes
        train(
            0, 1, build / "world", text, tokenizer, build / "generator", options.steps or steps, batch, 0, minutes=limit
        )
        bundle.split(build / "generator", options.pieces)


def _finish(options: argparse.Namespace, size: dict) -> None:
    from tools.tiny_model.judge import load

    from . import evaluate, export, judge, scenes, sprites

    build, tokenizer = options.build, _tokenizer(options.build, options.assets)
    if options.step == "judge":
        sprites.run(options.assets, build / "wide", held_out=True)
        in_parallel(judge.train, build / "wide", tokenizer, build / "judge", *size["judge"])
        stock = scenes.Stock(build / "wide")
        trained = load(build / "judge", judge.config(tokenizer))
        print(judge.held_to(trained, tokenizer, stock, build / "wide"))
    elif options.step == "export":
        export.export(build, tokenizer, options.out)
    else:
        evaluate.evaluate(options.out, build, Path("docs/pictures"))


def main() -> None:
    """Parse the command line and run the step."""
    parser = argparse.ArgumentParser(prog="python -m tools.tiny_next", description=__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--size", choices=SIZES, default="gpu" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--assets", type=Path, default=Path("outputs/tiny_model/drawings"))
    parser.add_argument("--build", type=Path, default=Path("outputs/tiny_next"))
    parser.add_argument("--steps", type=int, help="of the generator, in place of the size's own")
    parser.add_argument("--minutes", type=float, default=6.0, help="of `on-gpu`'s training")
    parser.add_argument(
        "--packed", type=Path, default=Path("outputs/packed"), help="what `pack` writes and `on-gpu` reads"
    )
    parser.add_argument(
        "--pieces", type=Path, default=Path("outputs/pieces"), help="what `on-gpu` writes and `join` reads"
    )
    parser.add_argument("--out", type=Path, default=Path("ti_nb/tiny"))
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
    elif options.step in ("pack", "on-gpu", "join"):
        _elsewhere(options, size)
    elif options.step in ("judge", "export", "evaluate"):
        _finish(options, size)
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
