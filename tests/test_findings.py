"""Faults that were put into pictures are found, and those that were not are not; crops and masks find the thing."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

import ti_nb as ti
from ti_nb.pictures import faults, masks, subject
from ti_nb.pictures.concept_images import EXAMPLES
from ti_nb.pictures.faults import find_faults

THING = (640, 200, 840, 400)  # of `scene`


def scene(seed: int = 0, width: int = 1000, height: int = 700) -> Image.Image:
    """A smooth, softly coloured background as of a blurred room, and a sharp checked thing at its right."""
    draw = np.random.default_rng(seed)
    small = Image.fromarray(draw.integers(60, 160, (5, 7, 3), dtype=np.uint8))
    picture = small.resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for i in range(0, 200, 20):
        for j in range(0, 200, 20):
            colour = (250, 210, 20) if (i + j) // 20 % 2 else (200, 20, 30)
            pen.rectangle((THING[0] + i, THING[1] + j, THING[0] + i + 19, THING[1] + j + 19), fill=colour)
    return picture


def kinds(*pictures: object, size: int = 512) -> list[str]:
    """Of the faults of pictures, less the remark that they are few."""
    return [f.kind for f in find_faults(list(pictures), size=size) if f.kind != "count"]  # type: ignore[arg-type]


def as_file(picture: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def middle(picture: Image.Image) -> Image.Image:
    return picture.crop((440, 0, 1000, 560))


def test_a_good_picture_has_no_fault() -> None:
    assert kinds(middle(scene())) == []


@pytest.mark.parametrize("radius", [2, 3, 6])
def test_blurred_is_found_and_a_sharp_thing_on_a_smooth_background_is_not(radius: float) -> None:
    sharp = middle(scene())
    assert "blurred" not in kinds(sharp)
    assert "blurred" in kinds(sharp.filter(ImageFilter.GaussianBlur(radius)))


def test_blur_is_judged_at_the_models_size() -> None:
    big = middle(scene()).resize((2240, 2240), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(4))
    assert "blurred" not in kinds(big, size=256)  # 0.5 px there
    assert "blurred" in kinds(big, size=2048)


def test_sharpness_falls_with_the_radius() -> None:
    values = [faults.sharpness(middle(scene()).filter(ImageFilter.GaussianBlur(r))) for r in (0, 1, 2, 4)]
    assert values == sorted(values, reverse=True)


def test_small_pictures_are_found() -> None:
    small = middle(scene()).resize((300, 300))
    found = {f.kind: f for f in find_faults([small], size=512)}
    assert found["small"].severity == "warning"
    assert "300 px" in found["small"].text and "512" in found["small"].text
    assert "small" not in kinds(small, size=300)


def test_near_duplicates_are_named_once_with_both_names() -> None:
    one, copy = scene(1), as_file(scene(1).resize((800, 560)), quality=50)
    found = [f for f in find_faults([one, copy, scene(2)], names=["a", "b", "c"]) if f.kind == "duplicate"]
    assert len(found) == 1
    assert {"a", "b"} <= set(found[0].text.replace(":", " ").split())


def test_mirrored_and_other_pictures_are_no_duplicates() -> None:
    assert "duplicate" not in kinds(scene(1), ImageOps.mirror(scene(1)), scene(2), scene(3))


def test_the_same_drawing_on_other_colours_can_be_no_duplicate() -> None:
    for name in ("axe", "monkey", "shield", "volcano"):
        assert "duplicate" not in {f.kind for f in find_faults(EXAMPLES / name / "pictures", size=64)}


@pytest.mark.parametrize("orientation", [1, 6])
def test_turned_by_exif_is_a_note(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = find_faults([as_file(middle(scene()), exif=exif)])
    assert [f.severity for f in found if f.kind == "turned"] == ["note"] * (orientation == 6)


def test_a_place_in_the_file_is_a_note_and_is_not_kept_by_a_loaded_picture() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (51.0, 30.0, 0.0)
    data = as_file(middle(scene()), exif=exif)
    if not Image.open(io.BytesIO(data)).getexif().get_ifd(0x8825):
        pytest.skip("this Pillow writes no place")
    assert "gps" in kinds(data)
    assert "gps" not in kinds(as_file(middle(scene())))
    assert not Image.open(io.BytesIO(as_file(ti.load_images(data)[0]))).getexif()


@pytest.mark.parametrize(
    ("change", "kind"),
    [(lambda a: a * 0.2, "dark"), (lambda a: 180 + a * 0.25, "bright"), (lambda a: a * 2.6, "clipped")],
)
def test_light_is_judged(change: object, kind: str) -> None:
    levels = np.asarray(middle(scene()), dtype=float)
    assert kind in kinds(Image.fromarray(change(levels).clip(0, 255).astype(np.uint8)))  # type: ignore[operator]


def test_of_a_picture_too_dark_to_judge_only_that_is_said() -> None:
    levels = np.asarray(middle(scene()), dtype=float)
    black = Image.fromarray((levels * 0.05).astype(np.uint8))
    assert "dark" in kinds(black) and "blurred" not in kinds(black)


def test_much_burnt_out_is_a_warning_and_little_a_note() -> None:
    for share, severity in ((0.4, "note"), (0.7, "warning")):
        picture = middle(scene())
        side = picture.width
        low, high = (round(side * (1 + sign * share) / 2) for sign in (-1, 1))
        picture.paste("white", (low, low, high, high))
        (found,) = [f for f in find_faults([picture]) if f.kind == "clipped"]
        assert found.severity == severity, found


def test_a_white_wall_or_sky_behind_the_thing_is_not_burnt_out() -> None:
    for box in ((0, 0, 560, 250), (0, 0, 200, 560)):
        picture = middle(scene())
        picture.paste("white", box)
        assert "clipped" not in kinds(picture)


def test_most_with_one_background_are_named_first() -> None:
    wall = []
    for left in (50, 300, 550, 700):
        wall.append(Image.new("RGB", (1000, 700), (70, 90, 160)))
        wall[-1].paste(scene().crop(THING), (left, 200))
    found = faults.faults_of_set([*wall, scene(1)], "abcde")
    assert found[0].kind == "background" and found[0].severity == "warning"
    assert "4 of 5" in found[0].text and "(a, b, c, d)" in found[0].text
    assert not any(f.kind == "background" for f in faults.faults_of_set([*wall[:2], *map(scene, (1, 2, 3))], "abcde"))


def test_a_plain_white_background_is_not_burnt_out() -> None:
    picture = Image.new("RGB", (600, 600), "white")
    picture.paste(scene().crop(THING), (200, 200))
    assert kinds(picture) == []


def test_what_a_middle_square_cuts_off_is_said() -> None:
    (cut,) = [f for f in find_faults([scene()]) if f.kind == "cut"]
    assert "30% of its width" in cut.text
    wide = Image.new("RGB", (1200, 600), (90, 120, 90))
    for left, severity in ((500, "note"), (950, "warning")):
        picture = wide.copy()
        picture.paste(scene().crop(THING), (left, 200))
        assert [f.severity for f in find_faults([picture]) if f.kind == "cut"] == [severity]


def test_one_background_for_all_and_numbers_are_remarks_on_the_set() -> None:
    room = [scene(i) for i in range(4)]
    assert {f.kind for f in faults.faults_of_set(room, "abcd")} == set()
    wall = []
    for left in (50, 300, 550, 700):
        wall.append(Image.new("RGB", (1000, 700), (70, 90, 160)))
        wall[-1].paste(scene().crop(THING), (left, 200))
    assert {f.kind for f in faults.faults_of_set(wall, "abcd")} == {"background"}
    for count in (1, 2, 9):
        found = faults.faults_of_set([scene(i) for i in range(count)], list("abcdefghi")[:count])
        assert [f.name for f in found if f.kind == "count"] == [""]


@pytest.mark.parametrize("x", [40, 300, 800, 1250])
def test_a_guessed_crop_holds_a_bright_thing_off_the_middle(x: int) -> None:
    for size, box in (((1600, 800), (x, 250, x + 300, 550)), ((800, 1600), (250, x, 550, x + 300))):
        picture = Image.new("RGB", size, (90, 120, 90))
        picture.paste(scene().crop(THING).resize((300, 300)), box[:2])
        left, top, side = subject.guess_crop(picture)
        assert left <= box[0] and top <= box[1] and box[2] <= left + side and box[3] <= top + side
        assert 0 <= left <= size[0] - side and 0 <= top <= size[1] - side


def test_a_guessed_crop_is_not_smaller_than_the_model_needs() -> None:
    picture = Image.new("RGB", (900, 700), (90, 120, 90))
    picture.paste(RED, (400, 300, 500, 400))
    assert subject.guess_crop(picture, least=600)[2] == 600
    assert subject.guess_crop(picture, least=2000)[2] == 700
    assert subject.guess_crop(Image.new("RGB", (40, 30), "white"), least=10)[2] == 30


RED = (255, 0, 0)


def test_threshold_mask_is_the_thing_without_holes_and_specks() -> None:
    picture = Image.new("RGB", (400, 400), (240, 240, 235))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((100, 100, 300, 300), fill=(30, 60, 120))
    truth = np.asarray(picture)[..., 0] < 100
    pen.ellipse((180, 180, 200, 200), fill=(240, 240, 235))  # a hole
    pen.rectangle((350, 350, 356, 356), fill=(0, 0, 0))  # a speck
    mask = np.asarray(subject.mask_by_threshold(picture, 40)) > 127
    assert mask.shape == truth.shape
    assert (mask & truth).sum() / (mask | truth).sum() > 0.97
    assert not mask[340:].any()


def test_a_higher_tolerance_keeps_less_and_nothing_gives_nothing() -> None:
    shares = [np.asarray(subject.mask_by_threshold(scene(), t)).mean() for t in (10, 40, 100)]
    assert shares == sorted(shares, reverse=True)
    assert not np.asarray(subject.mask_by_threshold(Image.new("RGB", (50, 50), "blue"))).any()


def test_blobs_are_theconnected_pieces() -> None:
    where = np.array([[1, 1, 0, 1], [0, 1, 0, 1], [1, 0, 0, 0], [1, 1, 1, 1]], dtype=bool)
    labels = subject.connected_pieces(where)
    assert (labels > 0).tolist() == where.tolist()
    assert labels[0, 0] == labels[0, 1] == labels[1, 1]
    assert labels[0, 3] == labels[1, 3]
    assert labels[2, 0] == labels[3, 0] == labels[3, 3]
    assert len(np.unique(labels)) == 4


def test_paint_is_a_disc_of_the_right_size_and_leaves_the_given_mask() -> None:
    mask = Image.new("L", (400, 200), 0)
    painted = subject.paint(mask, 0.75, 0.5, 0.25)
    assert painted.getpixel((300, 100)) == 255 and painted.getpixel((300 - 53, 100)) == 0
    assert abs((np.asarray(painted) > 0).sum() / (np.pi * 50**2) - 1) < 0.05
    assert not np.asarray(mask).any()
    assert not np.asarray(subject.paint(painted, 0.75, 0.5, 0.3, white=False)).any()


def test_unreadable_pictures_are_named() -> None:
    with pytest.raises(ValueError, match="bad"):
        find_faults([b"no picture"], names=["bad"])


def test_a_finding_is_said_in_a_line_that_names_its_picture_once() -> None:
    found = find_faults([scene(), scene().resize((300, 210))], names=["room.jpg", "copy.jpg"])
    assert [str(one) for one in found if one.kind in ("small", "duplicate", "count")] == [
        "warning: copy.jpg: its shorter side has 210 px, the model 512: it will be enlarged",
        "warning: copy.jpg is nearly the same picture as room.jpg: use one of them",
        "2 pictures: 3 to 5 of different sides and places teach more",
    ]


def busy_scene() -> tuple[Image.Image, np.ndarray]:
    """A blue thing in the middle of grass and bricks, and where it is."""
    draw = np.random.default_rng(0)
    noise = draw.integers(-40, 40, (240, 240, 3))
    ground = np.where(np.arange(240)[:, None, None] < 120, (90, 150, 60), (150, 70, 50)) + noise
    thing = Image.new("L", (240, 240), 0)
    ImageDraw.Draw(thing).ellipse((80, 60, 170, 180), fill=255)
    where = np.asarray(thing) > 0
    ground[:, 14:36] = (230, 180, 40) + noise[:, 14:36] // 2  # outside the crop, and unlike the border
    ground[where] = np.array((40, 60, 190)) + noise[where] // 2
    return Image.fromarray(ground.clip(0, 255).astype(np.uint8)), where


def test_a_mask_is_guessed_where_the_background_is_busy() -> None:
    pytest.importorskip("cv2")
    picture, truth = busy_scene()
    found = np.asarray(ti.guess_mask(picture, (40, 30, 180))) > 127
    assert (found & truth).sum() / (found | truth).sum() > 0.9
    plain = np.asarray(ti.mask_by_threshold(picture)) > 127
    assert (plain & truth).sum() / (plain | truth).sum() < 0.75  # it is no job for that one
    assert np.array_equal(found, np.asarray(ti.guess_mask(picture, (40, 30, 180))) > 127)


def test_without_opencv_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "has_opencv", lambda: False)
    with pytest.raises(RuntimeError, match="pip install opencv-python-headless"):
        ti.guess_mask(busy_scene()[0])


@pytest.mark.parametrize(("kept", "odd"), [(0.0, "nothing"), (0.05, "little"), (0.3, ""), (0.99, "nearly all")])
def test_an_odd_share_of_a_mask_is_remarked_on(kept: float, odd: str) -> None:
    said = masks.odd_share(kept)
    assert odd in said and bool(said) == bool(odd)
