"""Pictures as cameras, phones, editors and other programs write them are read as they look, or named; and so are masks."""

from __future__ import annotations

import ast
import gc
import io
import os
import struct
import warnings
import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

import ti_nb as ti
from tests.odd_pictures import (
    AS_SRGB,
    EPS,
    HEIC_HEAD,
    LINEAR,
    P3,
    PSD,
    SRGB,
    animation,
    chunk,
    chunks_in,
    contents,
    exif_block,
    grey_tiff,
    png_that_claims,
    profile,
    with_chunks,
)
from ti_nb.pictures import folders
from ti_nb.pictures import picture as pictures
from ti_nb.pictures.picture import KEPT

RED, CLEAR = (200, 30, 40), (0, 0, 0, 0)


def scene() -> Image.Image:
    """Four plain fields of strong colours."""
    picture = Image.new("RGB", (64, 48), (20, 200, 60))
    for box, colour in (((0, 0, 32, 24), (255, 40, 30)), ((32, 24, 64, 48), (40, 60, 220)), ((0, 24, 32, 48), RED)):
        picture.paste(colour, box)
    return picture


def disc() -> Image.Image:
    """A mask, 48 x 48: black, its middle white."""
    mask = Image.new("L", (48, 48), 0)
    mask.paste(255, (12, 12, 36, 36))
    return mask


def loaded(source: object, **options: object) -> tuple[ti.ConceptImages, str]:
    """What `load_images` gives, and what it says in its one warning, "" if nothing."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = ti.load_images(source, **options)  # type: ignore[arg-type]
    ours = [str(one.message) for one in said if one.filename == __file__]
    assert len(ours) <= 1
    return found, "".join(ours)


def level(source: object) -> list[float]:
    """Mean levels of a loaded picture."""
    return [float(mean) for mean in np.asarray(loaded(source)[0][0]).reshape(-1, 3).mean(0)]


# -- which decoders may look ------------------------------------------------------------------------------------------


def test_pillow_opens_nothing_without_being_told_the_formats() -> None:
    opened = 0
    for path in Path(ti.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open":
                opened += 1
                assert "formats" in {word.arg for word in node.keywords}, f"{path.name}:{node.lineno}"
    assert opened >= 4
    assert not {"EPS", "WMF", "PSD", "FITS", "PDF"} & set(pictures.FORMATS)


def test_no_picture_starts_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ghostscript = tmp_path / "bin/gs"
    ghostscript.parent.mkdir()
    ghostscript.write_text(f"#!/bin/sh\necho started >> {tmp_path}/started\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ghostscript.parent}:{os.environ['PATH']}")
    (tmp_path / "cat.png").write_bytes(EPS)
    for item in (tmp_path / "cat.png", EPS, Image.open(io.BytesIO(EPS))):
        for read in (ti.load_images, ti.find_faults):
            with pytest.raises(ValueError, match=r"no known format|EPS is not read"):
                read([item])
    with pytest.raises(ValueError, match="mask of picture 1"):
        ti.load_images([scene()], masks=[EPS])
    ti.PreparePanel().add([("cat.png", EPS)])
    assert not (tmp_path / "started").exists()


# -- one bad file -----------------------------------------------------------------------------------------------------

BAD = {
    "flat.psd": PSD,
    "cat.eps": EPS,
    "empty.png": b"",
    "text.jpg": b"not found",
    "heic.jpg": HEIC_HEAD,
    "bent.avif": b"\0\0\0\x1cftypavif" + bytes(80),
    "huge.png": png_that_claims(13300, 13300),
    "beyond.gif": b"GIF89a" + b"\xff\xff\xff\xff\0\0\0" + bytes(20),
    "nothing.png": png_that_claims(0, 0),
    "head.png": png_that_claims(64, 64),
    **{
        f"cut.{form.lower()}": (whole := contents(Image.effect_noise((64, 64), 90).convert("RGB"), form))[
            : len(whole) // 2
        ]
        for form in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP")
    },
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_and_spoils_no_upload(name: str, tmp_path: Path) -> None:
    panel = ti.PreparePanel()
    panel.add([("a.png", contents(scene())), (name, BAD[name]), ("c.png", contents(scene()))])
    assert [entry.name for entry in panel.entries] == ["a.png", "c.png"] and len(panel._tiles.children) == 2
    assert name in panel.loaded.value and "2 pictures added" in panel.loaded.value
    (tmp_path / name).write_bytes(BAD[name])
    for read in (ti.load_images, ti.find_faults):
        with pytest.raises(ValueError, match=f"^{name} "):
            read([tmp_path / name])


def test_pictures_of_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ValueError, match="13300 x 13300 px are more than 67 million"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own
        ti.load_images(png_that_claims(13300, 13300))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(13000, 7000), (7000, 26000)])  # above what Pillow warns of, and refuses
def test_a_large_phones_jpeg_is_read_at_half_its_size(size: tuple[int, int]) -> None:
    (found, said) = loaded(contents(Image.new("L", size, 90), "JPEG"))
    assert found[0].size == (KEPT, KEPT) and found[0].getextrema() == ((90, 90),) * 3
    assert f"it has {size[0]} x {size[1]} px and was read at half its size" in said


@pytest.mark.parametrize(("size", "options"), [((8200, 8200), {"progressive": True}), ((16400, 16400), {})])
def test_a_jpeg_that_would_take_too_much_memory_is_refused(size: tuple[int, int], options: dict[str, bool]) -> None:
    small = contents(Image.new("L", (16, 16)), "JPEG", **options)
    start = small.index(b"\xff\xc2" if options else b"\xff\xc0") + 5  # the frame's height and width
    huge = small[:start] + struct.pack(">HH", *reversed(size)) + small[start + 4 :]
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} px are more than 67 million"):
        ti.load_images(huge)


# -- colours ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("curve", [AS_SRGB, LINEAR], ids=["as sRGB", "linear"])
def test_colours_of_a_profile_become_srgb(form: str, curve: bytes) -> None:
    there = profile(P3, curve)
    wide, srgb = ImageCms.ImageCmsProfile(io.BytesIO(there)), ImageCms.createProfile("sRGB")
    stored = ImageCms.profileToProfile(scene(), srgb, wide, outputMode="RGB")
    assert stored is not None and np.abs(np.asarray(stored, int) - np.asarray(scene())).max() > 20
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(form, {})
    (found, said) = loaded(contents(stored, form, icc_profile=there, **options))
    middles = [(8, 8), (40, 8), (8, 40), (40, 40)]
    for x, y in middles:
        assert np.abs(np.subtract(found[0].getpixel((x, y)), scene().getpixel((x + 8, y)))).max() <= 6
    assert said == "" and found[0].info == {}


def test_a_profile_of_srgb_changes_no_pixel() -> None:
    for there in (profile(SRGB, AS_SRGB), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()):
        found = ti.load_images(contents(scene().crop((8, 0, 56, 48)), icc_profile=there))
        assert np.array_equal(found[0], scene().crop((8, 0, 56, 48)))


def test_profiles_of_grey_and_of_colours_on_grey_are_used() -> None:
    grey = Image.new("L", (48, 48), 128)
    assert level(contents(grey, icc_profile=profile(None, LINEAR))) == pytest.approx([188] * 3, abs=1.5)
    assert level(contents(grey, icc_profile=profile(P3, LINEAR))) == pytest.approx([188] * 3, abs=1.5)
    assert level(contents(grey.convert("LA"), icc_profile=profile(None, LINEAR))) == pytest.approx([188] * 3, abs=1.5)


def test_transparency_and_palettes_keep_to_the_profile() -> None:
    there = profile(P3, LINEAR)
    plain = level(contents(Image.new("RGB", (48, 48), RED), icc_profile=there))
    cut_out = Image.new("RGBA", (48, 48), (*RED, 255))
    cut_out.paste(CLEAR, (0, 0, 48, 24))
    found, _ = loaded(contents(cut_out, icc_profile=there), masks="alpha", background="blue")
    assert np.asarray(found[0])[40, 40].tolist() == pytest.approx(plain, abs=1)
    assert found[0].getpixel((4, 4)) == (0, 0, 255) and found.masks[0].getextrema() == (0, 255)  # type: ignore[union-attr]
    palette = contents(Image.new("RGB", (48, 48), RED).quantize(4), icc_profile=there)
    assert level(palette) == pytest.approx(plain, abs=1)


@pytest.mark.parametrize("there", [b"no profile", profile(P3, AS_SRGB)[:200], profile(None, LINEAR)])
def test_a_profile_that_does_not_fit_is_said_and_the_colours_kept(there: bytes) -> None:
    found, said = loaded(contents(Image.new("RGB", (48, 48), RED), icc_profile=there))
    assert found[0].getpixel((4, 4)) == RED
    assert "picture 1: its colour profile is damaged or not made for it" in said and said in found.report()


def test_lab_and_cmyk_are_seen_in_their_colours() -> None:
    lab = ImageCms.profileToProfile(
        scene(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    found = ti.load_images(contents(lab, "TIFF"))
    assert np.abs(np.asarray(found[0], int) - np.asarray(ti.load_images(scene())[0])).max() <= 12
    red = Image.new("CMYK", (48, 48), (0, 255, 255, 0))
    for form in ("TIFF", "JPEG"):  # Adobe's JPEG is inverted
        assert level(contents(red, form)) == pytest.approx([255, 0, 0], abs=3)


# -- depths -----------------------------------------------------------------------------------------------------------

RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)
DEEP = {
    "float 0..1": RAMP.astype(np.float32),
    "float 0..255": (255 * RAMP).astype(np.float32),
    "float 0..65535": (65535 * RAMP).astype(np.float32),
    "float -1..1": (2 * RAMP - 1).astype(np.float32),
    "float 0..10 million": (1e7 * RAMP).astype(np.float32),
    "uint16": (65535 * RAMP).astype(np.uint16),
    "int16": (32767 * RAMP).astype(np.int16),
    "int32": (RAMP * (2**31 - 1)).astype(np.int32),
    "uint32": (RAMP * (2**32 - 1)).astype(np.uint32),
    "uint8": (255 * RAMP).astype(np.uint8),
}


@pytest.mark.parametrize("kind", DEEP)
def test_every_depth_is_scaled_to_its_range(kind: str) -> None:
    found, said = loaded(grey_tiff(DEEP[kind]))
    assert np.abs(np.asarray(found[0])[..., 0] - 255 * RAMP).max() <= 1
    assert ("was taken for black" in said) == (kind not in ("uint16", "uint8", "float 0..65535"))


def test_highlights_and_what_is_no_number_darken_no_float() -> None:
    values = DEEP["float 0..1"].copy()
    values[0, :5] = np.nan, np.inf, -np.inf, 40, 7
    found, said = loaded(grey_tiff(values))
    assert np.abs(np.asarray(found[0])[1:, :, 0] - 255 * RAMP[1:]).max() <= 1 and "1 for white" in said


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"]
)
def test_every_mode_that_pillow_has_is_read(mode: str) -> None:
    via = {"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode, mode)
    picture = Image.new("RGB", (48, 48), "white").convert(via).convert(mode)
    assert level(picture) == pytest.approx([255] * 3, abs=2)
    assert len(ti.find_faults([picture, picture])) and ti.guess_crop(picture)[2] == 48
    assert ti.mask_by_threshold(picture).size == (48, 48)


# -- transparency and masks -------------------------------------------------------------------------------------------


def in_every_form_of_transparency() -> dict[str, bytes]:
    """A red picture, all clear but its middle."""
    alpha = disc()
    rgba = Image.new("RGBA", alpha.size, CLEAR)
    rgba.paste((*RED, 255), mask=alpha)
    indexed = Image.new("P", alpha.size, 0)
    indexed.putpalette([9, 9, 9, *RED])
    indexed.paste(1, mask=alpha)
    key = np.where(np.asarray(alpha) > 0, 1000, 7).astype(np.uint16)
    return {
        "RGBA png": contents(rgba),
        "RGBA webp": contents(rgba, "WEBP", lossless=True),
        "RGBA tiff": contents(rgba, "TIFF"),
        "LA png": contents(rgba.convert("LA")),
        "P and a colour": contents(indexed, transparency=0),
        "P and bytes": contents(indexed, transparency=b"\0\xff"),
        "P gif": contents(indexed, "GIF", transparency=0),
        "L and a level": contents(Image.fromarray(key.astype(np.uint8)), transparency=7),
        "16 bits and a level": contents(Image.fromarray(key), transparency=7),
        "1 and a level": contents(alpha.convert("1"), transparency=0),
        "RGB and a colour": contents(rgba.convert("RGB"), transparency=(0, 0, 0)),
    }


@pytest.mark.parametrize("form", in_every_form_of_transparency())
def test_a_mask_is_made_of_every_form_of_transparency(form: str) -> None:
    data = in_every_form_of_transparency()[form]
    found, said = loaded([data], masks="alpha", background="blue")
    assert np.array_equal(found.masks[0], disc()) and "transparent" not in said and "mask" not in said
    assert found[0].getpixel((2, 2)) == (0, 0, 255)
    _, said = loaded([data], masks="alpha", crops=[(0, 0, 12)])
    assert "picture 1: its mask keeps 0.0% of the square" in said
    panel = ti.PreparePanel()
    panel.add([("cat.png", data)])
    panel.editor.mask.value = "alpha"
    assert np.array_equal(panel.images().masks[0], disc()) and "no transparent" not in panel.editor.said.value


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P"])
def test_a_picture_without_transparency_gives_no_mask_and_says_so(mode: str) -> None:
    found, said = loaded([scene().convert(mode)], masks="alpha")
    assert found.masks == () and "picture 1: nothing in it is transparent" in said


def in_every_form_of_mask(white: Image.Image) -> dict[str, Image.Image | bytes]:
    levels = np.asarray(white)
    on_clear, cut_out = Image.new("RGBA", white.size, (255, 255, 255, 0)), Image.new("RGBA", white.size, CLEAR)
    on_clear.putalpha(white)
    cut_out.paste((*RED, 255), mask=white)
    return {
        "L": white,
        "1": white.convert("1"),
        "P": white.convert("P"),
        "RGB": white.convert("RGB"),
        "RGBA, opaque": white.convert("RGBA"),
        "LA, opaque": white.convert("LA"),
        "white on clear": on_clear,
        "the thing, cut out": cut_out,
        "CMYK": contents(white.convert("RGB").convert("CMYK"), "TIFF"),
        "JPEG": contents(white, "JPEG", quality=100),
        "16 bits": Image.fromarray(levels.astype(np.uint16) * 257),
        "32 bits": grey_tiff(levels.astype(np.int32) * (2**31 // 256)),
        "float": grey_tiff(levels.astype(np.float32) / 255),
    }


@pytest.mark.parametrize("form", in_every_form_of_mask(disc()))
def test_masks_of_every_form_are_read_and_empty_ones_said(form: str) -> None:
    square = scene().crop((0, 0, 48, 48))
    found, said = loaded([square], masks=[in_every_form_of_mask(disc())[form]])
    assert np.abs(np.asarray(found.masks[0], int) - np.asarray(disc(), int)).max() <= 12 and "keeps" not in said
    _, said = loaded([square], masks=[in_every_form_of_mask(Image.new("L", (48, 48), 0))[form]])
    assert "picture 1: its mask keeps 0.0% of the square" in said


def test_masks_and_captions_of_all_usual_names_are_found(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    masks = {"a.png": "a.jpg", "b.JPG": "b.PNG", "c.v2.png": "c.v2.webp", "cafe\u0301.png": "café.png"}
    texts = ("a.caption", "b.TXT", "c.v2.png.txt", "café.txt")
    for (name, mask), text in zip(masks.items(), texts):
        scene().save(tmp_path / name)
        half = Image.new("L", scene().size)
        half.paste(255, (0, 0, half.width // 2, half.height))
        half.save(tmp_path / "masks" / mask)
        (tmp_path / text).write_text(f"{name} with {{}}")
    found, said = loaded(tmp_path, masks="files", captions="files")
    assert len(found) == 4 and all(found.masks) and found.skipped == () and said == ""
    assert found.captions == tuple(f"{name} with {{}}" for name in found.names)
    found, said = loaded(tmp_path)
    assert 'passed over a.caption: a caption, which is read with captions="files"' in said
    assert 'passed over masks: masks, which are read with masks="files"' in said


def test_masks_and_captions_that_are_not_found_are_said(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    for name in "abc":
        scene().save(tmp_path / f"{name}.png")
    (tmp_path / "b.txt").write_text(" \n")
    Image.new("L", scene().size, 255).save(tmp_path / "masks/z.png")
    found, said = loaded(tmp_path, masks="files", captions="files")
    assert (found.masks, found.captions) == ((), ())
    assert "no mask for a.png, b.png, c.png" in said and "no caption for a.png, b.png, c.png" in said
    assert "no picture for masks/z.png" in said
    assert all(line in found.report() for line in said.splitlines() if "passed" not in line)
    (tmp_path / "a.txt").write_text("a {}")
    assert "no caption for b.png, c.png:" in loaded(tmp_path, captions="files")[1]


# -- EXIF, texts and other things beside the pixels -------------------------------------------------------------------

DAMAGED = {
    "no TIFF": b"Exif\0\0garbage",
    "cut": exif_block((0x0112, 3, 1, b"\0\x06\0\0"))[:20],
    "pointing nowhere": exif_block((0x8825, 4, 1, b"\xff\xff\xff\xff")),
    "numbers out of range": exif_block((0x0100, 8, 1, b"\xff\xff\0\0")),
    "words for the orientation": exif_block((0x0112, 2, 4, b"up!\0")),
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_picture_with_damaged_exif_is_used_as_it_lies(form: str, damage: str) -> None:
    data = contents(scene(), form, exif=DAMAGED[damage])
    plain = ti.load_images(contents(scene(), form))
    assert np.array_equal(loaded(data)[0][0], plain[0])
    ti.find_faults([data])
    panel = ti.PreparePanel()
    panel.add([("cat", data)])
    assert np.array_equal(panel.images()[0], plain[0])


def test_an_orientation_beside_damage_is_followed() -> None:
    data = contents(scene(), exif=exif_block((0x0112, 3, 1, b"\0\x06\0\0"), (0x0100, 8, 1, b"\xff\xff\0\0")))
    turned = scene().transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(loaded(data)[0][0], ti.load_images(turned)[0])


@cache
def long_texts() -> dict[str, bytes]:
    text, png = PngInfo(), contents(scene())
    text.add_text("workflow", "x" * 2_000_000, zip=True)
    packed, profiled = zlib.compress(bytes(3_000_000)), zlib.compress(profile(P3, AS_SRGB, 3_000_000))
    return {
        "zTXt": contents(scene(), pnginfo=text),
        "iTXt": with_chunks(png, chunk(b"iTXt", b"workflow\0\1\0\0\0" + packed)),
        "many": with_chunks(png, *[chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(1_000_000)))] * 66),
        "a profile that is none": with_chunks(png, chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(30_000_000)))),
        "a damaged text": with_chunks(
            png, chunk(b"zTXt", b"workflow\0\0no zlib"), chunk(b"tEXt", b"a\0b", sound=False)
        ),
        "a long profile": with_chunks(png, chunk(b"iCCP", b"x\0\0" + profiled)),
    }


@pytest.mark.parametrize("what", long_texts())
def test_a_png_with_long_or_damaged_chunks_is_read(what: str) -> None:
    found, _ = loaded(long_texts()[what])
    if what == "a long profile":
        assert np.array_equal(found[0], ti.load_images(contents(scene(), icc_profile=profile(P3, AS_SRGB)))[0])
        assert not np.array_equal(found[0], ti.load_images(scene())[0])
    else:
        assert np.array_equal(found[0], ti.load_images(scene())[0])


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_taken_and_that_is_said(form: str) -> None:
    found, said = loaded(animation(form, ["red", "blue"]))
    assert np.asarray(found[0])[4, 4].tolist() == pytest.approx([255, 0, 0], abs=3)
    assert "picture 1: it has several frames" in said
    assert any(one.kind == "file" for one in ti.find_faults(animation(form, ["red", "blue"])))
    assert loaded(animation("MPO", ["red", "blue"]))[1] == ""  # a phone's second picture is its depth or its light


def from_a_camera() -> Image.Image:
    """A picture that says where, with what and by whom it was taken, wherever Pillow keeps such things."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a secret camera", 6
    exif.get_ifd(0x8825)[1], exif.get_ifd(0x8825)[2] = "N", (51.0, 30.0, 0.0)
    xmp = b"<x>GPSLatitude secret</x>"
    jpeg = contents(scene(), "JPEG", exif=exif, xmp=xmp, comment=b"secret", icc_profile=profile(P3, AS_SRGB))
    picture = Image.open(io.BytesIO(jpeg))
    picture.info |= {"Software": "secret", "text": "secret", "XML:com.adobe.xmp": "secret", "photoshop": {1: b"secret"}}
    picture.load()
    return picture


def test_a_loaded_picture_has_nothing_of_the_camera() -> None:
    found = ti.load_images([from_a_camera()], masks=[from_a_camera()])
    panel = ti.PreparePanel(source=[from_a_camera()])
    assert any(one.kind == "gps" for one in ti.find_faults([from_a_camera()]))
    for picture in (found[0], found.masks[0], panel.images()[0]):
        assert picture is not None and picture.info == {} and not dict(picture.getexif())


def test_a_saved_picture_has_its_pixels_and_no_more(tmp_path: Path) -> None:
    picture, mask = from_a_camera(), from_a_camera().convert("L")
    assert picture.getexif().get_ifd(0x8825) and mask.info["exif"]  # what could be kept
    given = ti.ConceptImages((picture,), ("cat",), masks=(mask,))
    folder = ti.save_images(given, tmp_path / "saved")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 2
    for path in files:
        assert set(chunks_in(path.read_bytes())) == {b"IHDR", b"IDAT", b"IEND"}
        with Image.open(path) as saved:
            assert not dict(saved.getexif()) and not saved.getexif().get_ifd(0x8825)
    assert picture.info["exif"]  # what was given is left as it was


def test_pictures_come_back_in_their_order_and_whatever_their_names(tmp_path: Path) -> None:
    colours = [(number, 2 * number, 200) for number in range(101)]
    names = ["../up/x.png", "é" * 200 + ".png", "a" * 300, *(f"{number}.png" for number in range(98))]
    given = ti.ConceptImages(tuple(Image.new("RGB", (8, 8), colour) for colour in colours), tuple(names))
    again = ti.load_images(ti.save_images(given, tmp_path / "many"))
    assert [image.getpixel((0, 0)) for image in again.images] == colours


# -- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_is_gone_through_by_what_its_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "reads_heic", lambda: False)
    for name, form in (("b.jfif", "JPEG"), ("c.JPE", "JPEG"), ("no ending", "WEBP"), ("e.TIFF", "TIFF"), ("f", "TIFF")):
        scene().save(tmp_path / name, form)
    scene().save(tmp_path / "g.jpg_large", "JPEG")
    (tmp_path / "IMG_1.HEIC").write_bytes(HEIC_HEAD)
    (tmp_path / "raw.DNG").write_bytes(contents(scene(), "TIFF"))  # which Pillow reads as its thumbnail
    (tmp_path / "drawing.svg").write_text("<svg/>")
    (tmp_path / "BMW notes").write_text("BM is how a bitmap begins")
    (tmp_path / "dir.png").mkdir()
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "b.jfif")
    (tmp_path / "._b.jfif").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.png")
    found, said = loaded(tmp_path)
    assert set(found.names) == {"b.jfif", "c.JPE", "no ending", "e.TIFF", "f", "g.jpg_large", "link.png"}
    why = dict(found.skipped)
    assert why.pop("._b.jfif") == "hidden" and "._b" not in said
    assert (
        "pip install pillow-heif" in why["IMG_1.HEIC"] and "raw data" in why["raw.DNG"] and "SVG" in why["drawing.svg"]
    )
    assert why["dir.png"] == "a folder" and why["lost.png"] == why["loop.png"] == "a link to nothing"
    assert (why["pipe.png"], why["BMW notes"]) == ("no file", "not a picture")
    assert all(f"passed over {name}: {reason}" in said for name, reason in why.items())


def test_heic_is_named_where_it_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "reads_heic", lambda: False)
    monkeypatch.setattr(folders, "reads_heic", lambda: False)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    for name in ("a.heic", "b.jpg"):
        (tmp_path / name).write_bytes(HEIC_HEAD)
        with pytest.raises(ValueError, match=rf"{name}.*pip install pillow-heif, or export it as JPEG"):
            ti.load_images([tmp_path / name])
    (tmp_path / "b.jpg").unlink()
    with pytest.raises(ValueError, match=r"no usable picture.*a\.heic: HEIC.*pip install pillow-heif"):
        ti.load_images(tmp_path)


def test_heic_is_read_where_it_can_be(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    square = Image.new("RGB", (64, 64), RED)
    square.save(tmp_path / "IMG_1.HEIC", format="HEIF", quality=95)
    for source in (tmp_path, tmp_path / "IMG_1.HEIC", (tmp_path / "IMG_1.HEIC").read_bytes()):
        found, said = loaded(source)
        assert np.abs(np.asarray(found[0], int) - np.asarray(square)).max() < 12 and said == ""


def test_names_that_are_no_text_can_be_printed(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(odd)).write_bytes(contents(scene()))
    except OSError:
        pytest.skip("this disk takes text only")
    found, _ = loaded(tmp_path)
    assert found.names == ("caf�.png",) and found.report().encode()


def test_a_picture_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    scene().save(tmp_path / "cat.png")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ValueError, match=r"cat\.png can't be read \(Permission denied\)"):
        ti.load_images(tmp_path)
    with pytest.raises(ValueError, match="is a folder"):
        ti.load_images([tmp_path])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"captions": "file"}, "captions is 'file': give 'files'"),
        ({"masks": "file"}, "masks is 'file': give 'alpha', 'files'"),
        ({"crops": "file"}, "crops is 'file': give 'subject'"),
        ({"background": "file"}, "unknown color specifier: 'file'"),
        ({"masks": [None, None]}, "2 masks for 1 pictures"),
        ({"captions": "files"}, "needs pictures given as files"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_decoded(
    options: dict, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ti_nb.pictures.picture.read_photo", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ValueError, match=said):
        ti.load_images([contents(scene())], **options)


# -- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_of_a_large_photograph_no_more_is_kept_than_models_need(tmp_path: Path) -> None:
    photo, mask = Image.linear_gradient("L").resize((2400, 1800)).convert("RGB"), Image.new("L", (2400, 1800), 0)
    mask.paste(255, (1200, 0, 2400, 1800))
    photo.save(tmp_path / "a.jpg")
    (tmp_path / "masks").mkdir()
    mask.save(tmp_path / "masks/a.png")
    del photo, mask
    found, _ = loaded(tmp_path, masks="files", crops=[(600, 0, 1800)])
    panel = ti.PreparePanel(source=tmp_path)
    panel.add([("b.jpg", (tmp_path / "a.jpg").read_bytes())])
    gc.collect()
    kept = [one.size for one in gc.get_objects() if issubclass(type(one), Image.Image)]
    assert (KEPT, KEPT) in kept and max(width * height for width, height in kept) <= KEPT**2
    assert all(max(entry.small.size) < 700 for entry in panel.entries)
    assert found.masks[0] is not None and found.masks[0].size == found[0].size == (KEPT, KEPT)
    middle = np.asarray(found.masks[0])[:, KEPT // 3 - 8 : KEPT // 3 + 8]
    assert middle[:, 0].max() == 0 and middle[:, -1].min() == 255


def test_what_the_panel_reads_again_is_what_load_images_gives(tmp_path: Path) -> None:
    Image.effect_noise((900, 600), 60).convert("RGB").save(tmp_path / "a.png")
    panel = ti.PreparePanel(source=tmp_path)
    panel.entries[0].crop = (250, 50, 500)
    assert np.array_equal(panel.images()[0], ti.load_images(tmp_path, crops=[(250, 50, 500)])[0])
    panel.editor.guess()
    assert panel.entries[0].crop == ti.guess_crop(Image.open(tmp_path / "a.png"), least=512)
    (tmp_path / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png"):
        panel.images()


# -- captions ---------------------------------------------------------------------------------------------------------

SAID = "a café “here” with {} in it"
ENCODED = {
    "UTF-8": SAID.encode(),
    "UTF-8 with its mark": SAID.encode("utf-8-sig"),
    "UTF-16": SAID.encode("utf-16"),
    "UTF-16 LE with its mark": b"\xff\xfe" + SAID.encode("utf-16-le"),
    "UTF-16 BE with its mark": b"\xfe\xff" + SAID.encode("utf-16-be"),
    "UTF-16 LE without": "a café with {} in it".encode("utf-16-le"),
    "UTF-16 BE without": "a café with {} in it".encode("utf-16-be"),
    "UTF-32": SAID.encode("utf-32"),
    "cp1252": SAID.encode("cp1252"),
    "latin-1": "a café with {} in it".encode("latin-1"),
    "Windows' line ends": b"a caf\xc3\xa9 \r\n\r\nwith {} in it\r\n",
    "old Macs' line ends": b"a caf\xc3\xa9 \rwith {} in it\r",
    "two marks": b"\xef\xbb\xbf" + SAID.encode("utf-8-sig"),
    "Japanese": "一枚の写真 {}".encode(),
}


@pytest.mark.parametrize("encoding", ENCODED)
def test_captions_are_read_in_every_encoding_that_editors_write(encoding: str, tmp_path: Path) -> None:
    scene().save(tmp_path / "cat.png")
    (tmp_path / "cat.txt").write_bytes(ENCODED[encoding])
    found, said = loaded(tmp_path, captions="files")
    assert found.captions[0] in (SAID, "a café with {} in it", "一枚の写真 {}")
    assert ("cat.txt: it is not in UTF-8 and was read as cp1252" in said) == (encoding in ("cp1252", "latin-1"))
    assert ti.PreparePanel(source=tmp_path).images().captions == found.captions


UNREADABLE = {
    "Cyrillic": "кот {} на стуле".encode("cp1251"),
    "Japanese": "一枚の写真 {}".encode("shift-jis"),
    "Chinese": "一张照片 {}".encode("gbk"),
    "half a letter": b"\xff\xfea\0b",
    "no text": bytes(range(256)),
    "zeros": b"a {}\0\0\0\0",
    "a book": b"a {} " * 20_000,
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_caption_that_cannot_be_read_is_named_and_spoils_no_panel(what: str, tmp_path: Path) -> None:
    scene().save(tmp_path / "cat.png")
    (tmp_path / "cat.txt").write_bytes(UNREADABLE[what])
    with pytest.raises(ValueError, match=r"cat\.txt"):
        ti.load_images(tmp_path, captions="files")
    panel = ti.PreparePanel(source=tmp_path)
    assert len(panel.entries) == 1 and "cat.txt" in panel.loaded.value


def test_a_mask_that_cannot_be_used_is_named_and_its_picture_kept(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    for name, mask in (("a", b"no picture"), ("b", contents(Image.new("L", (9, 9)))), ("c", EPS)):
        scene().save(tmp_path / f"{name}.png")
        (tmp_path / f"masks/{name}.png").write_bytes(mask)
    panel = ti.PreparePanel(source=tmp_path)
    assert [entry.mask for entry in panel.entries] == ["off"] * 3
    assert all(f"mask of {name}.png" in panel.loaded.value for name in "abc")


def test_the_same_names_from_two_folders_are_both_kept(tmp_path: Path) -> None:
    for number in "12":
        (tmp_path / number).mkdir()
        scene().save(tmp_path / number / "cat.png")
    found = ti.load_images([tmp_path / "1/cat.png", str(tmp_path / "2/cat.png")])
    assert found.names == ("cat.png", "cat.png")
    folder = ti.save_images(replace(found, captions=("one {}", "two {}")), tmp_path / "saved")
    assert ti.load_images(folder, captions="files").captions == ("one {}", "two {}")
    assert ti.PreparePanel(source=found).images().names == ("cat.png", "cat.png (2)")
