"""Loads pictures as checked, square `ConceptImages`, and saves them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageColor, ImageOps

from ..errors import AlreadyThere, InvalidValue
from ..host.arguments import checked
from ..host.plain_text import place, warn
from .colours import on_background
from .folders import MASKS, NamedPictures, Skipped, captions_from_files, find_pictures, fresh_folder, masks_from_files
from .masks import mask_notes
from .picture import Crop, Photo, Picture, fitted, read_mask, read_photo, square, without_metadata

if TYPE_CHECKING:
    import torch

EXAMPLES = Path(__file__).parents[1] / "tiny" / "pictures"


@dataclass(frozen=True)
class ConceptImages:
    """Square RGB pictures of one concept, at their own resolution up to 1536 px, and what was skipped.

    Attributes:
        images: square PIL pictures in RGB.
        names: of each picture, its file's name where there was one.
        skipped: (name, reason) of each file that was not used.
        flip: whether training may mirror the pictures.
        captions: a prompt for each picture with "{}" where the word goes; () for none.
        masks: for each picture a grey picture of its size, white where the thing is, or None; () for none.
        notes: what was noticed while loading, such as damage, or masks that were not found.
    """

    images: tuple[Image.Image, ...]
    names: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = field(default=())
    flip: bool = False
    captions: tuple[str, ...] = ()
    masks: tuple[Image.Image | None, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, items in (("captions", self.captions), ("masks", self.masks)):
            if items and len(items) != len(self.images):
                raise InvalidValue(f"{len(items)} {name} for {len(self.images)} pictures: give one for each")
        for name, caption in zip(self.names, self.captions):
            if caption and "{}" not in caption and "{word}" not in caption:
                raise InvalidValue(f"caption of {name} has no '{{}}' where the word goes: {caption!r}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Image.Image:
        return self.images[index]

    def pixels(self, size: int | tuple[int, int]) -> torch.Tensor:
        """The pictures for the VAE: (n, 3, h, w) float32 in [-1, 1]; with `flip` followed by their mirror images.

        Args:
            size: a side in px, or width and height, to whose shape pictures are cropped in the middle.
        """
        import numpy as np
        import torch

        resized = [fitted(image, size, Image.Resampling.LANCZOS) for image in self.images]
        if self.flip:
            resized += [ImageOps.mirror(image) for image in resized]
        stacked = np.stack([np.asarray(image) for image in resized])
        return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 127.5 - 1

    def mask_pixels(self, size: int | tuple[int, int]) -> torch.Tensor | None:
        """The masks: (n, 1, h, w) float32 in [0, 1], ones for a picture without one; None if no picture has one."""
        import numpy as np
        import torch

        if not any(self.masks):
            return None
        white = Image.new("L", (size, size) if isinstance(size, int) else size, 255)
        resized = [fitted(m, size, Image.Resampling.BOX) if m else white for m in self.masks]
        if self.flip:
            resized += [ImageOps.mirror(mask) for mask in resized]
        return torch.from_numpy(np.stack([np.asarray(m) for m in resized])).float()[:, None] / 255

    def report(self, size: int = 512) -> str:
        """A summary in a few lines: each picture's size, which are smaller than `size` px, and what was skipped."""
        lines = [f"{len(self)} picture{'s' if len(self) != 1 else ''}"]
        for number, (name, image) in enumerate(zip(self.names, self.images)):
            extras = (("a caption", self.captions), ("a mask", self.masks))
            also = "".join(f", {what}" for what, each in extras if each and each[number])
            note = f" (smaller than the model's {size}: it will be enlarged)" if image.width < size else ""
            lines.append(f"  {name}: {image.width} x {image.height}{also}{note}")
        lines += [f"  {note}" for note in self.notes]
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

    >>> import ti_nb as ti
    >>> images = ti.load_images(ti.example_images("penguin").images, captions=["a photo of {}"] * 5)
    >>> len(images), images[0].size, images.pixels(64).shape
    (5, (64, 64), torch.Size([5, 3, 64, 64]))

    Args:
        source: a folder, one picture, or several: paths, PIL pictures or the bytes of files.
        background: the colour put behind transparent parts, a name or (r, g, b).
        flip: also train on mirror images; off by default, as it spoils text, logos and faces.
        captions: a prompt for each picture with "{}" where the word goes; or "files": .txt or .caption files with the
            pictures' names.
        masks: for each picture one of the same size, white where the thing is (if it has transparency: opaque); "alpha":
            the pictures' alpha channels; "files": files with the pictures' names in a folder "masks" beside them.
        crops: for each picture a square (left, top, side) in px of the upright picture, None for the largest in the middle;
            or "subject": `guess_crop`'s. Masks are cropped with their pictures.

    One warning tells what was skipped, not found, or odd, as does `report()`. EXIF is dropped.

    Raises:
        FileNotFoundError: the folder or a named file does not exist.
        ValueError: captions, masks or crops don't fit the pictures; a picture is empty, truncated or not one (the message names
            it); none is usable.
    """
    pictures, skipped = find_pictures(source)
    _check(pictures, skipped, source, background=background, captions=captions, masks=masks, crops=crops)
    notes: list[str] = []
    if isinstance(captions, str):
        captions, skipped = captions_from_files(pictures, skipped, notes)
    alpha = isinstance(masks, str) and masks == "alpha"
    if isinstance(masks, str):
        masks, skipped = ((), skipped) if alpha else masks_from_files(pictures, skipped, notes)
    loaded = []
    for number, (name, item) in enumerate(pictures):
        photo = read_photo(item, name)
        notes += [f"{name}: {note}" for note in photo.notes]
        mask = photo.opacity if alpha else _read_mask(photo, masks[number] if masks else None, notes)
        loaded.append(squared(photo, _checked_crop(photo, crops, number), mask, background))
        notes += mask_notes(name, loaded[-1][1], alpha)
    images, mask_squares = zip(*loaded)
    _warn_of(notes, skipped)
    names = tuple(name for name, _ in pictures)
    mask_squares = mask_squares if any(mask_squares) else ()
    return ConceptImages(images, names, tuple(skipped), flip, tuple(captions), mask_squares, tuple(notes))


def squared(
    photo: Photo, crop: Crop | None, mask: Image.Image | None, background: str | tuple[int, int, int] = "white"
) -> tuple[Image.Image, Image.Image | None]:
    """Picture and mask cropped to the square, the picture on `background`."""
    return on_background(square(photo.picture, crop), background), None if mask is None else square(mask, crop)


@checked()
def save_images(images: ConceptImages, folder: str | Path, *, fresh: bool = False) -> Path:
    """Write the square pictures, their captions and masks, for `load_images(folder, captions="files", masks="files")`.

    PNG files without metadata. Returns the folder; with `fresh`, if that is not empty, a new one beside it such as folder-2.

    Raises:
        FileExistsError: the folder holds pictures already. OSError: it can't be written.

    Examples:
        >>> import ti_nb as ti
        >>> len(ti.load_images(ti.save_images(ti.example_images("penguin"), "prepared")))
        5
    """
    folder = Path(folder).expanduser()
    folder = fresh_folder(folder) if fresh else folder
    folder.mkdir(parents=True, exist_ok=True)
    if existing := [name for name, _ in find_pictures(folder)[0]]:
        raise AlreadyThere(
            f"{place(folder)} holds pictures already ({existing[0]}, ...): give another folder, or fresh=True for a new one"
        )
    digits = max(2, len(str(len(images))))
    for number, image in enumerate(images.images):
        stem = Path(images.names[number]).stem[:60]  # file names may have 255 bytes
        path = folder / f"{number + 1:0{digits}}-{stem}.png"
        without_metadata(image).save(path)
        if images.captions and images.captions[number]:
            path.with_suffix(".txt").write_text(images.captions[number], encoding="utf-8")
        mask = images.masks[number] if images.masks else None
        if mask is not None:
            (folder / MASKS).mkdir(exist_ok=True)
            without_metadata(mask).save(folder / MASKS / path.name)
    return folder


def _check(
    pictures: NamedPictures,
    skipped: Skipped,
    source: object,
    *,
    background: str | tuple[int, int, int],
    captions: str | Sequence[str],
    masks: str | Sequence[Picture | None],
    crops: str | Sequence[Crop | None],
) -> None:
    """Refuse wrong arguments before anything is decoded."""
    if not pictures:
        detail = "; ".join(f"{name}: {reason}" for name, reason in skipped) or "it is empty"
        raise InvalidValue(f"no usable picture in {_named(source)} ({detail}): give 3 to 5 PNG, JPEG or WebP pictures")
    if isinstance(background, str):
        ImageColor.getrgb(background)
    each = {"captions": (captions, "'files'"), "masks": (masks, "'alpha', 'files'"), "crops": (crops, "'subject'")}
    for what, (given, words) in each.items():
        if isinstance(given, str) and repr(given) not in words:
            raise InvalidValue(f"{what} is {given!r}: give {words} or one for each picture")
        if not isinstance(given, str) and given and len(given) != len(pictures):
            raise InvalidValue(f"{len(given)} {what} for {len(pictures)} pictures: give one for each, or None for some")
        if given == "files" and not all(isinstance(item, (str, Path)) for _, item in pictures):
            raise InvalidValue(f"{what}='files' needs pictures given as files: pass the {what} themselves")


def _read_mask(photo: Photo, item: Picture | None, notes: list[str]) -> Image.Image | None:
    """The picture's mask, its size checked."""
    if item is None:
        return None
    mask, more = read_mask(item, f"mask of {photo.name}")
    notes += [f"mask of {photo.name}: {note}" for note in more]
    if mask.size != photo.picture.size:
        raise InvalidValue(
            f"mask of {photo.name} is {mask.size} px, the picture {photo.picture.size}: make them the same size"
        )
    return mask


def _checked_crop(photo: Photo, crops: str | Sequence[Crop | None], number: int) -> Crop | None:
    """The square of picture `number`, checked; None for the middle."""
    if isinstance(crops, str):
        from .subject import guess_crop

        return guess_crop(photo.picture)
    crop, (width, height) = crops[number] if crops else None, photo.picture.size
    if crop is not None:
        left, top, side = crop
        if min(left, top, side - 1, width - left - side, height - top - side) < 0:
            raise InvalidValue(
                f"crop {crop} of {photo.name} is not a square (left, top, side) within its {width} x {height} px"
            )
    return crop


def _warn_of(notes: Sequence[str], skipped: Skipped) -> None:
    """Warn once of all of it."""
    lines = [*notes, *(f"passed over {name}: {why}" for name, why in skipped if why != "hidden")]
    if len(lines) > 12:
        lines = [*lines[:12], f"and {len(lines) - 12} others, which report() lists"]
    if lines:
        warn("\n".join(lines))


@checked()
def example_images(name: str = "penguin", *, held_back: bool = False) -> ConceptImages:
    """Five pictures of a thing that `tiny` has never seen, to learn from; or with `held_back` five others, to compare with.

    Raises:
        ValueError: no such example; the message lists them.

    Examples:
        >>> import ti_nb as ti
        >>> len(ti.example_images("penguin"))
        5
    """
    if name not in example_names():
        raise InvalidValue(f"no example {name!r}: there are {', '.join(example_names())}")
    return load_images(EXAMPLES / name / ("held_back" if held_back else "pictures"))


def example_names() -> list[str]:
    """The names that `example_images` takes.

    Examples:
        >>> import ti_nb as ti
        >>> "penguin" in ti.example_names()
        True
    """
    return sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())


def _named(source: object) -> str:
    return repr(str(source)) if isinstance(source, (str, Path)) else "what was given"
