"""Editing a word does what geometry says: angles add up, lengths are kept or in proportion, ends are the ends."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

import ti_nb as ti
from ti_nb.words.edit import adjust, initializer, mix, slerp


def plane(degrees: float, length: float = 1.0) -> list[float]:
    """A vector of the first two of four axes."""
    return [length * math.cos(math.radians(degrees)), length * math.sin(math.radians(degrees)), 0.0, 0.0]


def word(*rows: list[float], name: str = "<w>", key: str = "clip_l", **facts: object) -> ti.Concept:
    return ti.Concept(name, {key: torch.tensor(rows)}, facts)


def random_words(count: int = 3, width: int = 48) -> tuple[ti.Concept, ti.Concept]:
    draw = torch.Generator().manual_seed(5)
    rows = [{k: torch.randn(count, width, generator=draw) for k in ("clip_l", "clip_g")} for _ in range(2)]
    return ti.Concept("<a>", rows[0], {"init": "cat", "steps": 9}), ti.Concept(
        "<b>", rows[1], {"init": "cat", "seed": 2}
    )


def angles(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return F.cosine_similarity(a.double(), b.double(), dim=-1).clamp(-1, 1).arccos()


@pytest.mark.parametrize("editability", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.0])
def test_editability_is_a_share_of_the_angle_and_strength_a_factor_of_the_length(
    editability: float, strength: float
) -> None:
    learned, start = word(plane(10, 3.0), plane(200, 0.4)), word(plane(90, 0.7), plane(120, 5.0))
    edited = adjust(learned, start, strength=strength, editability=editability).vectors["clip_l"]
    expected = [plane(10 + 80 * editability, 3.0 * strength), plane(200 - 80 * editability, 0.4 * strength)]
    torch.testing.assert_close(edited, torch.tensor(expected), atol=1e-6, rtol=1e-6)


def test_unedited_is_bit_equal_and_the_original_stays() -> None:
    learned, start = random_words()
    before = {k: v.clone() for k, v in learned.vectors.items()}
    same = adjust(learned, start)
    adjust(learned, start, strength=0.3, editability=0.7)
    for key, rows in before.items():
        assert torch.equal(same.vectors[key], rows)
        assert torch.equal(learned.vectors[key], rows)


def test_each_encoder_and_vector_turns_by_its_own_angle() -> None:
    learned, start = random_words()
    edited = adjust(learned, start, editability=0.3)
    for key, rows in learned.vectors.items():
        whole = angles(rows, start.vectors[key])
        torch.testing.assert_close(angles(rows, edited.vectors[key]), 0.3 * whole, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(angles(edited.vectors[key], start.vectors[key]), 0.7 * whole, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(edited.vectors[key].norm(dim=-1), rows.norm(dim=-1))


def test_shares_add_up() -> None:
    """A turn by s and then by t of what is left is one by s + t - st."""
    learned, start = random_words()
    twice = adjust(adjust(learned, start, editability=0.3), start, editability=0.4)
    once = adjust(learned, start, editability=0.3 + 0.4 - 0.3 * 0.4)
    for key in once.vectors:
        torch.testing.assert_close(twice.vectors[key], once.vectors[key], atol=1e-5, rtol=1e-5)


def test_a_mix_is_on_the_way_and_the_same_from_both_ends() -> None:
    a, b = random_words()
    for key in a.vectors:
        torch.testing.assert_close(mix(a, b, 0.0).vectors[key], a.vectors[key])
        torch.testing.assert_close(mix(a, b, 1.0).vectors[key], b.vectors[key])
        torch.testing.assert_close(mix(a, b, 0.3).vectors[key], mix(b, a, 0.7).vectors[key], atol=1e-5, rtol=1e-5)
        lengths = 0.7 * a.vectors[key].norm(dim=-1) + 0.3 * b.vectors[key].norm(dim=-1)
        torch.testing.assert_close(mix(a, b, 0.3).vectors[key].norm(dim=-1), lengths)
    quarter = mix(word(plane(0, 1.0)), word(plane(90, 3.0)), 1 / 3).vectors["clip_l"]
    torch.testing.assert_close(quarter, torch.tensor([plane(30, 5 / 3)]))


def test_facts_say_what_was_done() -> None:
    a, b = random_words()
    start = ti.Concept("<a>", b.vectors, {"init": "cat", "steps": 0})
    edited = adjust(a, start, strength=0.5, editability=0.2)
    assert edited.facts == {"init": "cat", "steps": 9, "edits": "strength 0.5, editability 0.2 towards 'cat'"}
    again = adjust(edited, b, editability=0.1)
    assert again.facts["edits"] == f"{edited.facts['edits']}; editability 0.1 towards <b>"
    assert adjust(a, b).facts == a.facts
    assert adjust(a, b, strength=2).facts["edits"] == "strength 2"
    mixed = mix(a, b, 0.25)
    assert (mixed.word, mixed.facts) == ("<a-b>", {"init": "cat", "edits": "0.75 of <a> and 0.25 of <b>"})
    assert mix(a, b, 0.25, "<c>").word == "<c>"


def test_parallel_opposite_and_zero_vectors() -> None:
    east, nearly, west = torch.tensor([plane(0)]), torch.tensor([plane(1e-7)]), torch.tensor([plane(180)])
    assert torch.equal(slerp(east, east, 0.5), east)
    torch.testing.assert_close(slerp(east, nearly, 0.5), east)
    with pytest.raises(ValueError, match="opposite"):
        slerp(east, west, 0.5)
    torch.testing.assert_close(slerp(east, west, 1.0), west)
    with pytest.raises(ValueError, match="length 0"):
        adjust(word(plane(0, 0.0)), word(plane(0)), editability=0.5)


def test_what_does_not_go_together_is_refused() -> None:
    one, two = word(plane(0)), word(plane(0), plane(90), name="<two>")
    with pytest.raises(ValueError, match=r"<w> has vectors clip_l 1 x 4 and <two> has clip_l 2 x 4"):
        adjust(one, two)
    with pytest.raises(ValueError, match="same encoders and widths"):
        mix(one, word([1.0, 0.0]), 0.5)
    with pytest.raises(ValueError, match="same encoders"):
        mix(one, word(plane(0), key="clip_h"), 0.5)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"editability is .* 0 to 1"):
            adjust(one, one, editability=share)
        with pytest.raises(ValueError, match=r"share is .* 0 to 1"):
            mix(one, one, share)
    for strength in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="strength is"):
            adjust(one, one, strength=strength)


def test_the_initializer_comes_back_from_the_facts(model: ti.Model) -> None:
    start = ti.initial_concept(model, "<w>", "penguin", 2)
    learned = ti.Concept("<w>", {"clip_l": start.vectors["clip_l"] + 1}, {**start.facts, "steps": 3})
    again = initializer(model, learned)
    assert again is not None
    assert torch.equal(again.vectors["clip_l"], start.vectors["clip_l"])
    for init in ("random", "", "qqzzxxjjkk", None, 3):
        assert initializer(model, ti.Concept("<w>", start.vectors, {"init": init})) is None
    assert initializer(model, ti.Concept("<w>", start.vectors)) is None


def test_words_are_joined_split_and_renamed_without_changing_a_number() -> None:
    rows = {"clip_l": torch.randn(3, 8), "clip_g": torch.randn(3, 12)}
    whole = ti.Concept("<cat>", rows, {"init": "cat", "steps": 5})
    parts = ti.split(whole)
    assert [one.word for one in parts] == ["<cat-1>", "<cat-2>", "<cat-3>"] and [len(one) for one in parts] == [1, 1, 1]
    again = ti.join(parts, "<again>")
    assert again.word == "<again>" and all(torch.equal(again.vectors[key], rows[key]) for key in rows)
    assert again.facts["init"] == "cat" and again.facts["edits"] == "joined from <cat-1>, <cat-2>, <cat-3>"
    other = ti.rename(whole, "<dog>")
    assert (other.word, other.facts) == ("<dog>", whole.facts) and other.vectors is whole.vectors
    for wrong in ("", "two words", " <cat>"):
        with pytest.raises(ValueError, match="one piece without spaces"):
            ti.rename(whole, wrong)
    with pytest.raises(ValueError, match="two words or more, not 1"):
        ti.join(parts[:1], "<x>")
    with pytest.raises(ValueError, match=r"<cat> for SDXL, <other> for"):
        ti.join([whole, ti.Concept("<other>", {"clip_l": torch.randn(1, 8)})], "<x>")


def test_a_word_whose_start_is_not_known_can_be_made_shorter_but_not_turned() -> None:
    learned, start = random_words()
    assert torch.equal(
        adjust(learned, None, strength=0.5).vectors["clip_l"], adjust(learned, start, strength=0.5).vectors["clip_l"]
    )
    with pytest.raises(ValueError, match="nothing to turn '<a>' to: give a class word"):
        adjust(learned, None, editability=0.2)


@pytest.mark.slow
def test_every_word_that_nearest_can_name_has_its_own_vector(model: ti.Model) -> None:
    encoder = model.encoders[0]
    for name, number in sorted(encoder.tokenizer.get_vocab().items(), key=lambda item: item[1])[: encoder.first : 7]:
        plain = name.removesuffix("</w>")
        if name.endswith("</w>") or f"{plain}</w>" not in encoder.tokenizer.get_vocab():
            assert torch.equal(ti.vectors_of(model, [plain])[plain], encoder.table[number].float().cpu()), name


def test_a_length_is_matched_apart_from_the_direction() -> None:
    """Token Embedding Adjustment: turned by a share of the angle, its length between its own and the class word's."""
    learned, start = word(plane(0, 8.0)), word(plane(90, 2.0))
    both = adjust(learned, start, editability=0.2, match_length=0.5, strength=2)
    torch.testing.assert_close(both.vectors["clip_l"], torch.tensor([plane(18, 10.0)]))
    alone = adjust(learned, start, match_length=1)
    torch.testing.assert_close(alone.vectors["clip_l"], torch.tensor([plane(0, 2.0)]))
    assert alone.facts["edits"] == "match length 1 towards <w>"
    with pytest.raises(ValueError, match=r"match_length is 0.5, and there is nothing to turn"):
        adjust(learned, None, match_length=0.5)


def test_an_average_is_in_the_middle_of_all_whatever_their_order() -> None:
    words = [word(plane(degrees, length)) for degrees, length in ((20, 1.0), (60, 2.0), (40, 6.0))]
    torch.testing.assert_close(ti.average(words).vectors["clip_l"], torch.tensor([plane(40, 3.0)]))
    turned = ti.average(words[::-1])
    torch.testing.assert_close(turned.vectors["clip_l"], ti.average(words).vectors["clip_l"])
    a, b = random_words()
    halfway = mix(a, b, 0.5)
    for key, rows in ti.average([a, b], "<c>").vectors.items():
        torch.testing.assert_close(rows, halfway.vectors[key], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="cancel each other"):
        ti.average([word(plane(0)), word(plane(180))])
    with pytest.raises(ValueError, match="same encoders"):
        ti.average([word(plane(0)), word(plane(0), plane(1))])


def test_a_sum_is_weighed_and_says_so() -> None:
    a, b = random_words()
    total = ti.combine([(a, 2), (b, -0.5), (a, -1)], "<c>")
    for key, rows in total.vectors.items():
        torch.testing.assert_close(rows, a.vectors[key] - 0.5 * b.vectors[key])
    assert total.facts == {"init": "cat", "edits": "sum of +2 <a> -0.5 <b> -1 <a>"}
    with pytest.raises(ValueError, match="add up to nothing"):
        ti.combine([(a, 1), (a, -1)], "<c>")


def test_a_vector_is_dropped_and_the_others_stay() -> None:
    whole, _ = random_words()
    for number, kept in ((1, [1, 2]), (2, [0, 2]), (3, [0, 1])):
        left = ti.drop(whole, number)
        assert all(torch.equal(rows, whole.vectors[key][kept]) for key, rows in left.vectors.items())
        assert left.facts["edits"] == f"without vector {number} of 3"
    for wrong in (0, 4):
        with pytest.raises(ValueError, match=rf"number is {wrong}"):
            ti.drop(whole, wrong)
    with pytest.raises(ValueError, match="one must stay"):
        ti.drop(word(plane(0)), 1)


@pytest.mark.slow
def test_a_projection_is_the_nearest_point_that_known_words_can_say(model: ti.Model) -> None:
    """What is left of the vector is at right angles to all of these words; a known word, and all words together, change nothing."""
    encoder = model.encoders[0]
    torch.manual_seed(1)
    learned = ti.Concept("<w>", {"clip_l": 3 * torch.randn(2, encoder.width)})
    said = ti.project(model, learned, 7)
    table = encoder.table.double()
    for own, point in zip(learned.vectors["clip_l"].double(), said.vectors["clip_l"].double()):
        near = table[(F.normalize(table, dim=-1) @ own).topk(7).indices]
        assert float(point.norm()) == pytest.approx(float(own.norm()), rel=1e-5)
        foot = point * (own @ point) / (point @ point)
        assert float((near @ (own - foot)).abs().max()) < 1e-4
        assert float(F.cosine_similarity(own, point, dim=0)) < 0.99
    known = ti.initial_concept(model, "<w>", "penguin")
    torch.testing.assert_close(
        ti.project(model, known, 3).vectors["clip_l"], known.vectors["clip_l"], atol=1e-4, rtol=1e-4
    )
    every = ti.project(model, learned, 1000)
    torch.testing.assert_close(every.vectors["clip_l"], learned.vectors["clip_l"], atol=1e-3, rtol=1e-3)
