"""One command a step: `python -m tools.tiny_model fetch|compose|autoencoder|generator|judge|evaluate|export|all`.

Each step resumes where it stopped. `--size cpu` is what the shipped weights were made with; `--size gpu` trains longer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from .world import held_out_things, training_things

SIZES = {
    "cpu": dict(
        pictures=25_000, judge_pictures=24_000, autoencoder=(3_000, 32), generator=(2_600, 64), judge=(1_100, 128)
    ),
    "gpu": dict(
        pictures=120_000, judge_pictures=80_000, autoencoder=(8_000, 64), generator=(30_000, 128), judge=(8_000, 256)
    ),
}
STEPS = ("fetch", "compose", "autoencoder", "generator", "judge", "evaluate", "export")


def run(step: str, size: dict, assets: Path, build: Path, out: Path) -> None:
    """Run one step, importing only what it needs."""
    if step == "fetch":
        from .fetch import fetch

        fetch(assets)
    elif step == "compose":
        from .compose import run as compose

        compose(assets, build / "world", size["pictures"], size["judge_pictures"])
    elif step == "autoencoder":
        from .autoencoder import train

        train(np.load(build / "world/train/pictures.npy", mmap_mode="r"), build / "autoencoder", *size["autoencoder"])
    elif step == "generator":
        _generator(size, assets, build)
    elif step == "judge":
        from .judge import train
        from .runs import in_parallel

        in_parallel(train, build / "world/judge", _tokenizer(assets, build), build / "judge", *size["judge"])
    elif step == "evaluate":
        from .evaluate import evaluate

        evaluate(out, build / "world/train/scenes.json", Path("docs/pictures"))
    else:
        from .export import export

        export(assets, build, out)


def _tokenizer(assets: Path, build: Path):  # type: ignore[no-untyped-def]
    from transformers import CLIPTokenizer

    from .tokenizer import build as build_tokenizer

    folder = build / "tokenizer"
    return (
        CLIPTokenizer.from_pretrained(folder) if (folder / "vocab.json").exists() else build_tokenizer(assets, folder)
    )


def _generator(size: dict, assets: Path, build: Path) -> None:
    from . import autoencoder, generator, text
    from .runs import in_parallel

    path = build / "latents.pt"
    pictures = np.load(build / "world/train/pictures.npy", mmap_mode="r")
    if not path.exists():
        vae = autoencoder.load(build / "autoencoder")
        autoencoder.normalise(vae, np.asarray(pictures[:2000]))
        print(f"autoencoder: {autoencoder.psnr(vae, np.asarray(pictures[:500])):.2f} dB")
        torch.save({"latents": autoencoder.encode(vae, pictures), "vae": vae.state_dict()}, path)
    latents = torch.load(path, weights_only=True)["latents"]
    steps, batch = size["generator"]
    scenes = build / "world/train/scenes.json"
    tokenizer, text_path = _tokenizer(assets, build), build / "text.pt"
    if not text_path.exists():
        torch.manual_seed(0)
        encoder = generator.Generator(tokenizer).text_encoder
        text.pretrain(encoder, tokenizer, scenes)
        torch.save(encoder.state_dict(), text_path)
    in_parallel(generator.train, latents, scenes, text_path, tokenizer, build / "generator", steps, batch)


def main() -> None:
    """Parse the command line and run the steps."""
    parser = argparse.ArgumentParser(prog="python -m tools.tiny_model", description=__doc__)
    parser.add_argument("step", choices=(*STEPS, "all", "names", "test-pictures", "trained-pictures"))
    parser.add_argument("--size", choices=SIZES, default="gpu" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--assets", type=Path, default=Path("outputs/tiny_model/drawings"))
    parser.add_argument("--build", type=Path, default=Path("outputs/tiny_model"))
    parser.add_argument("--out", type=Path, default=Path("ti_nb/tiny"))
    options = parser.parse_args()
    if options.step.endswith("-pictures"):  # of things outside of the dev split, for `benchmarks.quality`
        from .export import concept_pictures

        split = options.step.removesuffix("-pictures")
        names = held_out_things("test") if split == "test" else list(training_things())[::6]
        concept_pictures(options.assets, Path(f"outputs/{split}_split"), list(names))
        return
    if options.step == "names":
        print(*training_things(), "\nheld out:", *held_out_things())
        return
    order = ("fetch", "compose", "autoencoder", "generator", "judge", "export", "evaluate")
    for step in order if options.step == "all" else (options.step,):
        run(step, SIZES[options.size], options.assets, options.build, options.out)


if __name__ == "__main__":
    main()
