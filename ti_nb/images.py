"""Pictures become a clean, square, checked `ConceptImages`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from .checks import checked
from .pictures import MASKS, Crop, Picture, caption_of, find_pictures, mask_file, on_background, open_upright, square

if TYPE_CHECKING:
    import torch

EXAMPLES = Path(__file__).parent / "tiny" / "pictures"


@dataclass(frozen=True)
class ConceptImages:
    """Square RGB pictures of one concept, at their own resolution, and what was left out.

    Attributes:
        images: square PIL pictures in RGB.
        names: one name for each, the file's name where there was one.
        skipped: (name, reason) of everything that was not used.
        flip: whether training may mirror the pictures.
        captions: a prompt for each picture with "{}" where the word goes; () for none.
        masks: for each picture a grey picture of its size, white where the thing is, or None; () for none.
    """

    images: tuple[Image.Image, ...]
    names: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = field(default=())
    flip: bool = False
    captions: tuple[str, ...] = ()
    masks: tuple[Image.Image | None, ...] = ()

    def __post_init__(self) -> None:
        for name, items in (("captions", self.captions), ("masks", self.masks)):
            if items and len(items) != len(self.images):
                raise ValueError(f"{len(items)} {name} for {len(self.images)} pictures: give one for each")
        for name, caption in zip(self.names, self.captions):
            if caption and "{}" not in caption and "{word}" not in caption:
                raise ValueError(f"caption of {name} has no '{{}}' where the word goes: {caption!r}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Image.Image:
        return self.images[index]

    def pixels(self, size: int) -> torch.Tensor:
        """The pictures as the VAE wants them: (n, 3, size, size) float32 in [-1, 1]; mirror images follow if `flip`."""
        import numpy as np
        import torch

        resized = [image.resize((size, size), Image.Resampling.LANCZOS) for image in self.images]
        if self.flip:
            resized += [ImageOps.mirror(image) for image in resized]
        stacked = np.stack([np.asarray(image) for image in resized])
        return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 127.5 - 1

    def mask_pixels(self, size: int) -> torch.Tensor | None:
        """The masks (n, 1, size, size) float32 in 0..1, ones where a picture has none; None if none has."""
        import numpy as np
        import torch

        if not any(self.masks):
            return None
        white = Image.new("L", (size, size), 255)
        resized = [m.resize((size, size), Image.Resampling.BOX) if m else white for m in self.masks]
        if self.flip:
            resized += [ImageOps.mirror(mask) for mask in resized]
        return torch.from_numpy(np.stack([np.asarray(m) for m in resized])).float()[:, None] / 255

    def report(self, size: int = 512) -> str:
        """What was found, in a few lines: each picture's size, whether `size` px is more, and what was skipped."""
        lines = [f"{len(self)} picture{'s' if len(self) != 1 else ''}"]
        for number, (name, image) in enumerate(zip(self.names, self.images)):
            has = (("a caption", self.captions), ("a mask", self.masks))
            also = "".join(f", {what}" for what, each in has if each and each[number])
            note = f" (smaller than the model's {size}: it will be enlarged)" if image.width < size else ""
            lines.append(f"  {name}: {image.width} x {image.height}{also}{note}")
        lines += [f"  skipped {name}: {reason}" for name, reason in self.skipped]
        if not 3 <= len(self) <= 8:
            lines.append("  the paper found about 5 pictures best (appendix B)")
        return "\n".join(lines)


@checked()
def load_images(
    source: Picture | Iterable[Any],
    *,
    background: str | tuple[int, int, int] = "white",
    flip: bool = False,
    captions: str | Sequence[str] = (),
    masks: str | Sequence[Picture | None] = (),
    crops: str | Sequence[Crop | None] = (),
) -> ConceptImages:
    """Load the pictures of one concept.

    Args:
        source: a folder, one picture, or several: paths, PIL pictures or file contents (bytes).
        background: the colour put behind transparent parts, a name or (r, g, b).
        flip: also train on mirror images; off unless asked for, as it spoils text, logos and faces.
        captions: a prompt for each picture with "{}" where the word goes; or "files": text files of the pictures' names.
        masks: for each picture one of its size, white where the thing is; "alpha": the pictures' opacity; "files": PNG files
            of the pictures' names in a folder "masks" beside them.
        crops: for each picture a square (left, top, side) in px of the upright picture, None for the largest one around
            the middle; or "subject": where `guess_crop` takes the thing to be. Masks are cropped with their pictures.

    Raises:
        FileNotFoundError: the folder or a named file does not exist.
        ValueError: captions, masks or crops that don't fit the pictures; a named picture is empty, truncated or no picture (the message names it), or none is usable.
    """
    found, skipped = find_pictures(source)
    if not isinstance(crops, str) and crops and len(crops) != len(found):
        raise ValueError(f"{len(crops)} crops for {len(found)} pictures: give one for each, None for the middle")
    if captions == "files":
        captions = [caption_of(item) for _, item in found]
        with_files = {Path(name).with_suffix(".txt").name for name, _ in found}
        skipped = [(name, reason) for name, reason in skipped if name not in with_files]
    if masks == "files":
        masks = [mask_file(item) for _, item in found]
        skipped = [(name, reason) for name, reason in skipped if name != MASKS]
    images, names, covers = [], [], []
    for number, (name, item) in enumerate(found):
        picture = open_upright(item, name)
        crop, mask = _crop_of(picture, crops, number, name), _mask_of(picture, masks, number, name)
        covers.append(mask and square(mask, crop))
        images.append(square(on_background(picture, background), crop))
        names.append(name)
    if not images:
        detail = "; ".join(f"{name}: {reason}" for name, reason in skipped) or "it is empty"
        raise ValueError(f"no usable picture in {_describe(source)} ({detail}): give 3 to 5 PNG, JPEG or WebP pictures")
    if not isinstance(masks, str) and masks and len(masks) != len(images):
        raise ValueError(f"{len(masks)} masks for {len(images)} pictures: give one for each")
    return ConceptImages(
        tuple(images), tuple(names), tuple(skipped), flip, tuple(captions), tuple(covers) if any(covers) else ()
    )


@checked()
def save_images(images: ConceptImages, folder: str | Path, *, fresh: bool = False) -> Path:
    """Write the square pictures, their captions and masks, for `load_images(folder, captions="files", masks="files")`.

    PNG without the camera's data or the place. Returns the folder; with `fresh` it is a new one beside `folder`, such as
    folder-2, if that holds anything.

    Raises:
        FileExistsError: the folder holds pictures already. OSError: it can't be written.
    """
    folder = Path(folder).expanduser()
    folder = fresh_folder(folder) if fresh else folder
    folder.mkdir(parents=True, exist_ok=True)
    if there := [name for name, _ in find_pictures(folder)[0]]:
        raise FileExistsError(
            f"'{folder}' holds pictures already ({there[0]}, ...): give another folder, or fresh=True for a new one"
        )
    for number, image in enumerate(images.images):
        path = folder / f"{number + 1:02}-{Path(images.names[number]).stem}.png"
        image.save(path)
        if images.captions and images.captions[number]:
            path.with_suffix(".txt").write_text(images.captions[number], encoding="utf-8")
        mask = images.masks[number] if images.masks else None
        if mask is not None:
            (folder / MASKS).mkdir(exist_ok=True)
            mask.save(folder / MASKS / path.name)
    return folder


def fresh_folder(folder: Path) -> Path:
    """`folder`, or if it holds anything the first of folder-2, folder-3, ... that does not exist; made."""
    if folder.is_dir() and any(folder.iterdir()):
        number = 2
        while (other := folder.with_name(f"{folder.name}-{number}")).exists():
            number += 1
        folder = other
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _mask_of(picture: Image.Image, masks: str | Sequence[Picture | None], number: int, name: str) -> Image.Image | None:
    """The mask of picture `number`, of its size; None where it has none."""
    if isinstance(masks, str):
        if masks != "alpha":
            raise ValueError(f"masks is {masks!r}: give 'alpha', 'files' or one mask for each picture")
        return picture.convert("RGBA").getchannel("A") if "A" in picture.getbands() else None
    given = masks[number] if number < len(masks) else None
    if given is None:
        return None
    mask = open_upright(given, f"mask of {name}").convert("L")
    if mask.size != picture.size:
        raise ValueError(f"mask of {name} is {mask.size} px, the picture {picture.size}: make them the same size")
    return mask


def _crop_of(picture: Image.Image, crops: str | Sequence[Crop | None], number: int, name: str) -> Crop | None:
    """The square of picture `number`, checked; None for the middle."""
    if isinstance(crops, str):
        if crops != "subject":
            raise ValueError(f"crops is {crops!r}: give 'subject' or one square for each picture")
        from .guesses import guess_crop

        return guess_crop(picture)
    crop = crops[number] if crops else None
    if crop is not None:
        left, top, side = crop
        if min(left, top, side - 1, picture.width - left - side, picture.height - top - side) < 0:
            size = f"{picture.width} x {picture.height}"
            raise ValueError(f"crop {crop} of {name} is no square (left, top, side) within its {size} px")
    return crop


@checked()
def example_images(name: str = "penguin", *, held_back: bool = False) -> ConceptImages:
    """Pictures of a thing the embedded model has never seen: five to learn from, or five others to compare with.

    Raises:
        ValueError: no such example; the message lists them.
    """
    if name not in example_names():
        raise ValueError(f"no example {name!r}: there are {', '.join(example_names())}")
    return load_images(EXAMPLES / name / ("held_back" if held_back else "pictures"))


def example_names() -> list[str]:
    """What `example_images` knows."""
    return sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())


def _describe(source: object) -> str:
    return repr(str(source)) if isinstance(source, (str, Path)) else "what was given"
