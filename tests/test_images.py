"""Pictures of every kind come out upright, square and RGB; what can't be used is named."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ti_nb as ti
from ti_nb.pictures.picture import read_photo
from ti_nb.pictures.subject import guess_crop, shrunk

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def quarters(width: int = 64, height: int = 64) -> Image.Image:
    """Red, green / blue, white: any turn or mirror shows."""
    image = Image.new("RGB", (width, height), "white")
    image.paste(RED, (0, 0, width // 2, height // 2))
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    return image


def contents(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(orientation: int) -> None:
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    back = {1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180}
    back |= {4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90}
    back |= {7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270}
    assert set(turns) | {1} == set(back)
    how = back[orientation]
    stored = quarters() if how is None else quarters().transpose(how)
    exif = Image.Exif()
    exif[0x0112] = orientation
    (loaded,) = ti.load_images(contents(stored, "PNG", exif=exif)).images
    assert np.array_equal(np.asarray(loaded), np.asarray(quarters()))
    once = read_photo(contents(stored, "PNG", exif=exif), "it").picture
    assert np.array_equal(np.asarray(shrunk(once)), np.asarray(quarters()))  # which reads it again


def test_alpha_goes_on_the_chosen_background() -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert ti.load_images(clear)[0].getpixel((4, 4)) == (255, 255, 255)
    assert ti.load_images(clear, background="blue")[0].getpixel((4, 4)) == BLUE
    assert ti.load_images(clear, background=(1, 2, 3))[0].getpixel((4, 4)) == (1, 2, 3)
    half = Image.new("LA", (8, 8), (0, 128))
    assert ti.load_images(half)[0].getpixel((4, 4)) == (127, 127, 127)


def test_transparent_palette_goes_on_the_background() -> None:
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    data = contents(palette, "PNG", transparency=0)
    assert ti.load_images(data, background="blue")[0].getpixel((4, 4)) == BLUE


def test_grey_cmyk_and_16_bit_become_8_bit_rgb() -> None:
    assert ti.load_images(Image.new("L", (8, 8), 77))[0].getpixel((0, 0)) == (77, 77, 77)
    assert ti.load_images(Image.new("CMYK", (8, 8), (0, 255, 255, 0)))[0].getpixel((0, 0)) == RED
    deep = Image.fromarray(np.full((8, 8), 0x8080, np.uint16))
    assert ti.load_images(contents(deep, "PNG"))[0].getpixel((0, 0)) == (128, 128, 128)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 8), c) for c in (RED, GREEN)]
    data = contents(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert ti.load_images(data)[0].getpixel((4, 4)) == RED


def test_crop_is_square_and_keeps_the_aspect() -> None:
    wide = Image.new("RGB", (90, 30), "black")
    wide.paste(RED, (30, 0, 60, 30))
    (loaded,) = ti.load_images(wide).images
    assert loaded.size == (30, 30)
    assert loaded.getcolors() == [(900, RED)]


def test_crops_take_the_square_given_and_masks_follow() -> None:
    picture, mask = quarters(40, 20), Image.new("L", (40, 20), 0)
    mask.paste(255, (20, 0, 40, 10))  # the green quarter
    (kept,) = ti.load_images([picture], crops=[(25, 0, 10)], masks=[mask]).images
    assert kept.getcolors() == [(100, GREEN)]
    both = ti.load_images([picture, picture], crops=[(5, 0, 20), None], masks=[mask, mask])
    assert [image.size for image in both.images] == [m.size for m in both.masks if m] == [(20, 20)] * 2
    for image, cover in zip(both.images, both.masks):
        green = (np.asarray(image) == GREEN).all(-1)
        assert cover is not None and np.array_equal(green, np.asarray(cover) == 255)
    assert np.array_equal(both[1], ti.load_images(picture)[0])
    clear = Image.merge("RGBA", (*picture.split(), mask))
    (cover,) = ti.load_images(clear, crops=[(15, 0, 20)], masks="alpha").masks
    assert cover is not None and np.array_equal(cover, mask.crop((15, 0, 35, 20)))


def test_crops_are_of_the_upright_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    data = contents(quarters(40, 20).transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    assert ti.load_images(data, crops=[(30, 0, 10)])[0].getcolors() == [(100, GREEN)]


def test_subject_crops_are_those_guess_crop_gives() -> None:
    picture = Image.new("RGB", (1600, 800), (90, 120, 90))
    picture.paste(RED, (1250, 300, 1450, 500))
    left, top, side = guess_crop(picture)
    found = ti.load_images([picture], crops="subject")
    assert np.array_equal(found[0], picture.crop((left, top, left + side, top + side)))


@pytest.mark.parametrize("crop", [(-1, 0, 5), (0, 0, 0), (36, 0, 5), (0, 16, 5), (0, 0, 21)])
def test_squares_out_of_the_picture_are_refused(crop: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"crop .* of picture 1 .* 40 x 20 px"):
        ti.load_images([quarters(40, 20)], crops=[crop])


def test_crops_must_be_one_for_each_picture() -> None:
    with pytest.raises(ValueError, match="2 crops for 1 pictures"):
        ti.load_images([quarters()], crops=[None, None])
    with pytest.raises(ValueError, match="give 'subject'"):
        ti.load_images([quarters()], crops="face")


def test_folder_skips_and_names_what_is_no_picture(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG"):
        quarters().save(tmp_path / name)
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "more").mkdir()
    found = ti.load_images(tmp_path)
    assert found.names == ("a.JPG", "b.png")
    assert dict(found.skipped) == {".DS_Store": "hidden", "notes.txt": "not a picture", "more": "a folder"}
    assert "notes.txt" in found.report()


def test_the_report_tells_of_sizes_captions_and_masks() -> None:
    small, large = quarters().resize((64, 64)), quarters().resize((600, 600))
    found = ti.load_images([small, large], captions=["a {}", ""], masks=[None, Image.new("L", (600, 600))])
    assert found.report(512).splitlines()[1:3] == [
        "  picture 1: 64 x 64, a caption (smaller than the model's 512: it will be enlarged)",
        "  picture 2: 600 x 600, a mask",
    ]


def test_pixels_are_in_range_and_mirrors_only_when_asked() -> None:
    pixels = ti.load_images(quarters()).pixels(16)
    assert pixels.shape == (1, 3, 16, 16)
    assert (pixels.min(), pixels.max()) == (-1, 1)
    flipped = ti.load_images(quarters(), flip=True).pixels(16)
    assert len(flipped) == 2
    assert (flipped[1] == flipped[0].flip(-1)).all()


def test_truncated_empty_and_false_pictures_are_named(tmp_path: Path) -> None:
    whole = contents(Image.effect_noise((64, 64), 90).convert("RGB"), "JPEG")
    for name, data in (("cut.jpg", whole[: len(whole) // 2]), ("empty.png", b""), ("text.png", b"hello")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=name):
            ti.load_images([tmp_path / name])
        with pytest.raises(ValueError, match=name):
            ti.load_images(tmp_path)
        (tmp_path / name).unlink()


def test_nothing_usable_and_nothing_there_say_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no usable picture"):
        ti.load_images(tmp_path)
    with pytest.raises(ValueError, match="no usable picture"):
        ti.load_images([])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ti.load_images(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="picture 1 is a int"):
        ti.load_images([3])  # type: ignore[list-item]


def test_unknown_example_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match="penguin"):
        ti.example_images("dragon of nowhere")


def test_saved_pictures_load_again_with_captions_and_masks(tmp_path: Path) -> None:
    photos = ti.example_images("penguin")
    mask = Image.new("L", photos[1].size, 90)
    given = replace(photos, captions=("a {} here", *[""] * 4), masks=(None, mask, None, None, None))
    again = ti.load_images(ti.save_images(given, tmp_path / "new"), captions="files", masks="files")
    assert [a.tobytes() for a in again.images] == [p.tobytes() for p in photos.images]
    assert again.captions == given.captions
    assert [m and m.tobytes() for m in again.masks] == [None, mask.tobytes(), None, None, None]
    assert again.skipped == ()
    with pytest.raises(FileExistsError, match="holds pictures already"):
        ti.save_images(given, tmp_path / "new")
    assert ti.save_images(given, tmp_path / "new", fresh=True) == tmp_path / "new-2"
    assert ti.save_images(given, tmp_path / "new", fresh=True) == tmp_path / "new-3"
    assert ti.save_images(given, tmp_path / "other", fresh=True) == tmp_path / "other"
