"""Templates are the paper's; a prompt with words tokenises as diffusers' tokenizer with the words added does."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest

import ti_nb as ti
from ti_nb.models import tokens
from ti_nb.words import prompts


def test_templates_count_as_in_the_paper_and_its_code() -> None:
    assert len(ti.OBJECT_TEMPLATES) == len(set(ti.OBJECT_TEMPLATES)) == 27
    assert len(ti.OBJECT_TEMPLATES_CODE) == 81
    assert len(set(ti.OBJECT_TEMPLATES_CODE)) == 57
    assert len(ti.STYLE_TEMPLATES) == 19
    assert len(set(ti.STYLE_TEMPLATES)) == 17
    assert all(t.endswith("{}.") for t in ti.TEMPLATES["object-paper"])
    assert "an illustration of my {}" in ti.OBJECT_TEMPLATES_CODE
    assert "a depiction of one {}" in ti.OBJECT_TEMPLATES_CODE


@pytest.mark.parametrize(
    "prompt",
    [
        "a photo of a <my-cat>",
        "<my-cat>, <my-cat-2> and a teapot",
        "a <my-cat>'s hat",
        "<my-cat> on the beach   at night",
        "(<my-cat>)",
        "nothing new here",
        "two <my-cat>s",
        "一张<my-cat>的照片",
        "a<my-cat>b<my-cat-2>c",
    ],
)
def test_same_ids_as_a_tokenizer_with_the_words_added(model: ti.Model, prompt: str) -> None:
    tokenizer = deepcopy(model.tokenizer)
    tokenizer.add_tokens(["<my-cat>", "<my-cat-2>"])
    first = len(model.tokenizer)
    expected = tokenizer(prompt, padding="max_length", max_length=77).input_ids
    assert tokens.tokenise(prompt, model.tokenizer, {"<my-cat>": [first], "<my-cat-2>": [first + 1]}) == expected


def test_several_vectors_take_several_ids(model: ti.Model) -> None:
    ids = tokens.tokenise("a <x> b", model.tokenizer, {"<x>": [9001, 9002, 9003]})
    assert ids[2:5] == [9001, 9002, 9003]
    assert len(ids) == 77


def test_a_word_inside_another_is_left_alone() -> None:
    assert tokens.split_on_words("cats and cat", {"cat": [1]}) == ["cats and ", "cat"]
    assert tokens.split_on_words("bad bad-hands", {"bad": [1], "bad-hands": [2]}) == ["bad", "bad-hands"]


def test_prompts_beyond_77_tokens_are_cut_into_chunks(model: ti.Model) -> None:
    fits, end = " ".join(["a"] * 75), model.tokenizer.eos_token_id
    assert len(tokens.tokenise(fits, model.tokenizer)) == 77
    first, second = tokens.in_chunks(fits + " a", model.tokenizer)
    assert first == tokens.tokenise(fits, model.tokenizer) and second == tokens.tokenise("a", model.tokenizer)
    with pytest.raises(ValueError, match="601 tokens long, 600 fit"):
        tokens.tokenise(" ".join(["a"] * 601), model.tokenizer)
    with pytest.raises(ValueError, match=r"'<x>' is 68 vectors long.*shorten"):
        tokens.tokenise("a cat on the left of a cat <x>", model.tokenizer, {"<x>": range(9000, 9068)})
    cut, word = tokens.in_chunks(" ".join(["a"] * 74) + " <x>", model.tokenizer, {"<x>": [9000, 9001]})
    assert cut[75] == end and word[1:4] == [9000, 9001, end]  # a word's vectors stay together


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("teapot", "already in the model's vocabulary"),
        ("<cat", "only one of '<' and '>'"),
        ("my cat", "without spaces"),
        ("", "without spaces"),
        ("<Cat>", "capitals"),
        ("<{}>", "brace"),
    ],
)
def test_bad_words_are_refused_with_a_reason(model: ti.Model, word: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        tokens.check_word(word, model.tokenizer)


def test_unknown_and_empty_initializers_are_refused(model: ti.Model) -> None:
    with pytest.raises(ValueError, match="xqzvwkjh"):
        tokens.init_ids("xqzvwkjh", model.tokenizer)
    with pytest.raises(ValueError, match="empty"):
        tokens.init_ids("", model.tokenizer)


def test_word_is_deleted_for_prompt_fidelity() -> None:
    assert ti.without_word("a photo of a <x> on the beach", "<x>") == "a photo of a on the beach"


@pytest.mark.parametrize("word", ["<my-cat>", "mycatx", "*", "S*", "*s", "猫猫"])
@pytest.mark.parametrize(
    "template", ["a photo of a {}", "two {}s", "{word}s", "一张{}的照片", "x{}{}x", "non-{}_{word}"]
)
def test_the_word_is_found_wherever_its_place_was(model: ti.Model, template: str, word: str) -> None:
    ids = tokens.tokenise(prompts.fill(template, word), model.tokenizer, {word: [9001]})
    around = [piece for piece in template.replace("{word}", "{}").split("{}")]
    expected: list[int] = []
    for number, piece in enumerate(around):
        expected += [9001] * bool(number) + model.tokenizer(piece, add_special_tokens=False).input_ids
    assert ids[1 : 1 + len(expected)] == expected
    assert ids[1 + len(expected)] == model.tokenizer.eos_token_id


@pytest.mark.parametrize("template", ["two {}s", "一张{}的照片"])
@pytest.mark.parametrize("word", ["<new>", "newx"])
@pytest.mark.parametrize("captions", [True, False])
def test_a_word_beside_a_letter_is_learned(
    model: ti.Model, photos: ti.ConceptImages, template: str, word: str, captions: bool
) -> None:
    told = replace(photos, captions=(template,) * len(photos)) if captions else photos
    given = {} if captions else {"templates": (template,)}
    run = ti.train(model, told, word=word, init="animal", steps=1, batch=1, watch=0, **given)
    next(run)
    assert not run.concept().vectors["clip_l"].equal(run.start.vectors["clip_l"])


def test_another_word_is_put_only_where_the_word_is_said() -> None:
    assert prompts.replace_word("risks of sks, two <sks>s", "sks", "no") == "risks of no, two <no>s"
    assert prompts.replace_word("two <sks>s", "<sks>", "<not-sks>") == "two <not-sks>s"


def test_what_looks_inside_refuses_a_prompt_without_the_word(model: ti.Model, photos: ti.ConceptImages) -> None:
    concept = ti.initial_concept(model, "<new>", "animal")
    with pytest.raises(ValueError, match="does not say <new>"):
        ti.attention(model, photos, "a photo of a cat", concept)
    with pytest.raises(ValueError, match="does not say <new>"):
        ti.loss_by_timestep(model, photos, [concept], template="a photo of a cat")
