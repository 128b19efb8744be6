"""Captions and masks by other models: tiny ones with random weights, made here; and nothing is fetched unasked."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ti_nb as ti
from ti_nb.results.helpers import caption_by, mask_by


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BLIP of some kilobytes that says a few words at random."""
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
        BlipTextConfig,
        BlipVisionConfig,
    )

    folder = tmp_path_factory.mktemp("captioner")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "bear", "brown", "rock", "on", "the"]
    (folder / "vocab.txt").write_text("\n".join(words))
    small: dict[str, Any] = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    text = BlipTextConfig(
        vocab_size=len(words), bos_token_id=2, eos_token_id=3, sep_token_id=3, pad_token_id=0, **small
    )
    torch.manual_seed(0)
    config = BlipConfig(
        text_config=text.to_dict(), vision_config=BlipVisionConfig(image_size=16, patch_size=8, **small).to_dict()
    )
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipProcessor(
        BlipImageProcessor(size={"height": 16, "width": 16}), BertTokenizer(str(folder / "vocab.txt"))
    ).save_pretrained(folder)
    return folder


def test_a_caption_is_what_the_model_says(captioner: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    picture = Image.effect_noise((40, 30), 90)
    processor = AutoProcessor.from_pretrained(captioner)
    network = AutoModelForImageTextToText.from_pretrained(captioner)
    ids = network.generate(
        **processor(images=picture.convert("RGB"), return_tensors="pt"), max_new_tokens=60, do_sample=False
    )
    said = ti.load_captioner(captioner)(picture)
    assert said == " ".join(processor.batch_decode(ids, skip_special_tokens=True)[0].split()) != ""
    assert caption_by(network, processor, picture) == said


def test_a_mask_is_the_most_salient_segment() -> None:
    picture = Image.new("RGB", (120, 80), (90, 120, 90))
    picture.paste((200, 20, 20), (50, 25, 80, 60))
    thing, rest = Image.new("L", picture.size, 0), Image.new("L", picture.size, 255)
    thing.paste(255, (50, 25, 80, 60))
    rest.paste(0, (50, 25, 80, 60))
    chosen = mask_by(lambda _: [{"mask": rest}, {"mask": thing}], picture)
    assert np.array_equal(chosen, thing)
    assert not np.asarray(mask_by(lambda _: [], picture)).any()


def test_any_segmentation_model_of_a_folder_makes_masks(tmp_path: Path) -> None:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    torch.manual_seed(0)
    small = dict(hidden_sizes=[4, 4], num_attention_heads=[1, 1], depths=[1, 1], sr_ratios=[1, 1], patch_sizes=[3, 3])
    config = SegformerConfig(
        num_encoder_blocks=2, strides=[2, 2], mlp_ratios=[1, 1], decoder_hidden_size=4, num_labels=3, **small
    )
    if "torchvision" in getattr(SegformerImageProcessor, "_backends", ()) and not find_spec("torchvision"):
        pytest.skip("this transformers reads pictures for it with torchvision only")
    SegformerForSemanticSegmentation(config).save_pretrained(tmp_path)
    SegformerImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    mask = ti.load_segmenter(tmp_path)(Image.effect_noise((60, 40), 90))
    assert mask.size == (60, 40) and set(np.unique(mask)) <= {0, 255} and np.asarray(mask).any()


def test_a_promptable_model_is_asked_for_what_is_in_the_square(tmp_path: Path) -> None:
    from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor

    torch.manual_seed(0)
    layer = dict(hidden_size=16, num_attention_heads=2, num_hidden_layers=1, mlp_dim=16)
    eye = dict(image_size=64, patch_size=16, output_channels=16, global_attn_indexes=[0], num_pos_feats=8, **layer)
    asked = dict(hidden_size=16, image_size=64, patch_size=16, mask_input_channels=4)
    decoder = dict(iou_head_hidden_dim=16, **layer)
    config = SamConfig(vision_config=eye, prompt_encoder_config=asked, mask_decoder_config=decoder)
    network, side = SamModel(config).eval(), {"height": 64, "width": 64}
    if "torchvision" in getattr(SamImageProcessor, "_backends", ()) and not find_spec("torchvision"):
        pytest.skip("this transformers reads pictures for it with torchvision only")
    reader = SamImageProcessor(size={"longest_edge": 64}, pad_size=side)
    network.save_pretrained(tmp_path)
    SamProcessor(reader).save_pretrained(tmp_path)
    picture = Image.effect_noise((128, 64), 90)
    mask = np.asarray(ti.load_segmenter(tmp_path)(picture, (32, 16, 40)))
    pixels = reader(picture.convert("RGB"), return_tensors="pt")["pixel_values"]  # half as large
    with torch.no_grad():
        found = network(pixels, input_boxes=torch.tensor([[[16.0, 8, 36, 28]]]), multimask_output=False).pred_masks
    whole = torch.nn.functional.interpolate(found[:, 0], (64, 64), mode="bilinear", align_corners=False)[..., :32, :]
    whole = torch.nn.functional.interpolate(whole, (64, 128), mode="bilinear", align_corners=False)
    assert mask.shape == (64, 128) and set(np.unique(mask)) == {0, 255}
    assert np.mean((mask > 0) == (whole[0, 0] > 0).numpy()) > 0.99
    assert ti.load_segmenter(tmp_path)(picture).size == picture.size  # of a guessed square


@pytest.mark.parametrize(
    ("caption", "noun", "template", "rest"),
    [
        ("a brown bear sitting on a rock", "bear", "a brown {} sitting on a rock", "brown, sitting on a rock"),
        ("two Bears.", "bear", "two {}", "two"),
        ("a stuffed animal on a rock", "toy", "a {} on a rock", "on a rock"),
        ("a teddy bear", "", "a {}", ""),
        ("the {bear} is red", "bear", "the {} is red", "is red"),
    ],
)
def test_the_noun_becomes_the_word_and_the_rest_is_listed(caption: str, noun: str, template: str, rest: str) -> None:
    assert ti.caption_for_word(caption, noun) == (template, rest)


def test_nothing_is_fetched_before_it_was_said_what(hub: Any) -> None:
    hub.add("someone/captions", {"model.safetensors": b"x" * 5000, "config.json": b"{}"})
    facts = ti.about_model("someone/captions")
    assert facts.bytes == 5000 and facts.address == f"{hub.url}/someone/captions"
    with pytest.raises(RuntimeError, match=r"5 kB from .*fetch=True"):
        ti.load_captioner("someone/captions")
    assert not hub.asked("GET", "/resolve/main/model.safetensors")


def test_pickles_and_what_is_not_there_are_refused_in_words(hub: Any, tmp_path: Path) -> None:
    hub.add("someone/pickled", {"pytorch_model.bin": b"x", "config.json": b"{}"})
    with pytest.raises(ValueError, match="no weights in safetensors"):
        ti.load_segmenter("someone/pickled", fetch=True)
    with pytest.raises(ValueError, match="no model 'someone/nothing'"):
        ti.about_model("someone/nothing")
    with pytest.raises(ValueError, match="can't be loaded for this"):
        ti.load_captioner(tmp_path)
