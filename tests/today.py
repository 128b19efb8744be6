"""Pipelines of the families of today, of their real classes, very small, with random weights and tokenizers made in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    GlmConfig,
    GlmModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    Qwen3VLConfig,
    Qwen3VLModel,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

from ti_nb.models import TINY

CHAT = (
    "{% for m in messages %}{{'<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n'}}{% if enable_thinking is defined and enable_thinking is "
    "false %}{{'<think>\n\n</think>\n\n'}}{% endif %}{% endif %}"
)
SPARE = 61  # rows of a table past its tokenizer's tokens, as Qwen's and T5's have them
SIDE = 32


def bytes_as_characters() -> list[str]:
    """GPT-2's characters for the 256 bytes, in its order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return [*map(chr, plain), *(chr(256 + i) for i in range(len(rest)))]


def qwen() -> Qwen2Tokenizer:
    """Bytes, and " cat" as a token of its own."""
    names = [*bytes_as_characters(), "Ġc", "at", "Ġcat", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocab = {name: i for i, name in enumerate(names)}
    merges = [("Ġ", "c"), ("a", "t"), ("Ġc", "at")]
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=merges, extra_special_tokens=["<|im_start|>", "<|im_end|>"])
    tokenizer.chat_template = CHAT
    return tokenizer


def qwen3(tokenizer: Any, kind: Any = Qwen3Model, width: int = 16) -> Any:
    return kind(
        Qwen3Config(
            hidden_size=width,
            intermediate_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=8,
            vocab_size=len(tokenizer) + SPARE,
            max_position_embeddings=2048,
        )
    )


def vae(channels: int, shift: float | None = None, scale: float = 0.18215, levels: int = 2) -> AutoencoderKL:
    """Of 2 px to a latent, or 2 to the power of one less than `levels`."""
    return AutoencoderKL(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=channels,
        norm_num_groups=4,
        shift_factor=shift,
        scaling_factor=scale,
        layers_per_block=1,
    )


def flow(**said: Any) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(**said)


def z_image() -> tuple[Any, dict[str, Any]]:
    tokenizer = qwen()
    network = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=16,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    torch.nn.init.ones_(network.x_pad_token)  # which the class leaves empty
    torch.nn.init.ones_(network.cap_pad_token)
    parts = {"text_encoder": qwen3(tokenizer), "tokenizer": tokenizer, "vae": vae(16, 0.1159, 0.3611)}
    return diffusers.ZImagePipeline(transformer=network, scheduler=flow(shift=3.0), **parts), {
        "max_sequence_length": 128
    }


def clip() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(TINY / "tokenizer", model_max_length=77)


def clip_encoder(width: int, kind: Any = CLIPTextModel) -> Any:
    size = {"hidden_size": width, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    return kind(CLIPTextConfig(vocab_size=3562, projection_dim=width, bos_token_id=0, eos_token_id=2, **size))


def t5() -> T5Tokenizer:
    """Letters, and a few words."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'\"()-<>*_/"
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    words = [("▁" + word, -1.0) for word in ("a", "photo", "of", "cat", "the")]
    vocab = special + [(letter, -5.0) for letter in letters] + words
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=512)


def t5_encoder(tokenizer: Any) -> T5EncoderModel:
    size = {"d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4}
    return T5EncoderModel(T5Config(vocab_size=len(tokenizer) + SPARE, feed_forward_proj="gated-gelu", **size))


def gemma() -> GemmaTokenizer:
    """Bytes, letters, and " cat"."""
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{i:02X}>" for i in range(256))]
    names += [*"▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,", "▁c", "at", "▁cat"]
    vocab = {name: i for i, name in enumerate(names)}
    return GemmaTokenizer(vocab=vocab, merges=[("▁", "c"), ("a", "t"), ("▁c", "at")], model_max_length=300)


def gemma2(tokenizer: Any) -> Gemma2Model:
    size = {"head_dim": 8, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "attn_implementation": "eager"}
    return Gemma2Model(Gemma2Config(vocab_size=len(tokenizer) + SPARE, **size, **heads))


def sd3() -> tuple[Any, dict[str, Any]]:
    tokenizer = t5()
    network = diffusers.SD3Transformer2DModel(
        sample_size=16,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        out_channels=4,
        pos_embed_max_size=16,
    )
    texts = {
        "text_encoder": clip_encoder(16, CLIPTextModelWithProjection),
        "text_encoder_2": clip_encoder(16, CLIPTextModelWithProjection),
        "text_encoder_3": t5_encoder(tokenizer),
    }
    tokenizers = {"tokenizer": clip(), "tokenizer_2": clip(), "tokenizer_3": tokenizer}
    parts = {"transformer": network, "vae": vae(4, 0.0609, 1.5305), **texts, **tokenizers}
    return diffusers.StableDiffusion3Pipeline(scheduler=flow(shift=3.0), **parts), {"max_sequence_length": 64}


def of_flux(kind: Any, **more: Any) -> Any:
    """A transformer of FLUX's layout."""
    size = {"num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2}
    return kind(patch_size=1, in_channels=4, joint_attention_dim=more.pop("joint_attention_dim", 32), **size, **more)


def flux() -> tuple[Any, dict[str, Any]]:
    tokenizer, axes = t5(), [4, 4, 8]
    how = {"pooled_projection_dim": 32, "guidance_embeds": True, "axes_dims_rope": axes}
    texts = {"text_encoder": clip_encoder(32), "text_encoder_2": t5_encoder(tokenizer)}
    parts = {"vae": vae(1, 0.1159, 0.3611), "tokenizer": clip(), "tokenizer_2": tokenizer, **texts}
    network = of_flux(diffusers.FluxTransformer2DModel, **how)
    shifting = flow(use_dynamic_shifting=True, shift=3.0)
    return diffusers.FluxPipeline(transformer=network, scheduler=shifting, **parts), {"max_sequence_length": 64}


def chroma() -> tuple[Any, dict[str, Any]]:
    tokenizer = t5()
    how = {"approximator_hidden_dim": 32, "approximator_layers": 1, "approximator_num_channels": 16}
    network = of_flux(diffusers.ChromaTransformer2DModel, axes_dims_rope=[4, 4, 8], **how)
    parts = {"vae": vae(1, 0.1159, 0.3611), "tokenizer": tokenizer, "text_encoder": t5_encoder(tokenizer)}
    return diffusers.ChromaPipeline(transformer=network, scheduler=flow(), **parts), {"max_sequence_length": 64}


def klein() -> tuple[Any, dict[str, Any]]:
    tokenizer = qwen()
    how = {"timestep_guidance_channels": 256, "axes_dims_rope": [4, 4, 4, 4], "guidance_embeds": False}
    network = of_flux(diffusers.Flux2Transformer2DModel, joint_attention_dim=48, **how)
    encoder = diffusers.AutoencoderKLFlux2(
        sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 4),
        layers_per_block=1,
        latent_channels=1,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    encoder.bn.running_mean.normal_()
    encoder.bn.running_var.uniform_(0.5, 2)
    texts = {"tokenizer": tokenizer, "text_encoder": qwen3(tokenizer, Qwen3ForCausalLM)}
    shifting = flow(use_dynamic_shifting=True, shift=3.0)
    made = diffusers.Flux2KleinPipeline(transformer=network, scheduler=shifting, vae=encoder, **texts)
    return made, {"text_encoder_out_layers": (1, 2, 3), "max_sequence_length": 128}


def sana() -> tuple[Any, dict[str, Any]]:
    tokenizer = gemma()
    blocks = {f"{side}_block_types": ("ResBlock", "EfficientViTBlock") for side in ("encoder", "decoder")}
    widths = {f"{side}_block_out_channels": (8, 8) for side in ("encoder", "decoder")}
    scales = {f"{side}_qkv_multiscales": ((), (5,)) for side in ("encoder", "decoder")}
    layers = {f"{side}_layers_per_block": (1, 1) for side in ("encoder", "decoder")}
    encoder = diffusers.AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
        **blocks,
        **widths,
        **scales,
        **layers,
    )
    network = diffusers.SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=8,
        sample_size=32,
    )
    parts = {"vae": encoder, "tokenizer": tokenizer, "text_encoder": gemma2(tokenizer)}
    told = {"max_sequence_length": 64, "complex_human_instruction": ["Given a prompt."]}
    return diffusers.SanaPipeline(transformer=network, scheduler=flow(shift=3.0), **parts), told


def pixart() -> tuple[Any, dict[str, Any]]:
    tokenizer = t5()
    network = diffusers.PixArtTransformer2DModel(
        sample_size=16,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=32,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
    )
    parts = {"vae": vae(4, None, 0.13025), "tokenizer": tokenizer, "text_encoder": t5_encoder(tokenizer)}
    made = diffusers.PixArtSigmaPipeline(transformer=network, scheduler=diffusers.DDIMScheduler(), **parts)
    return made, {"max_sequence_length": 64}


def lumina() -> tuple[Any, dict[str, Any]]:
    tokenizer = gemma()
    network = diffusers.Lumina2Transformer2DModel(
        sample_size=4,
        patch_size=2,
        in_channels=4,
        hidden_size=8,
        num_layers=2,
        num_attention_heads=1,
        num_kv_heads=1,
        multiple_of=16,
        scaling_factor=1.0,
        axes_dim_rope=[4, 2, 2],
        cap_feat_dim=8,
    )
    encoder = vae(4, 0.1159, 0.3611, levels=4)  # the pipeline counts on 8 px to a latent
    parts = {"vae": encoder, "tokenizer": tokenizer, "text_encoder": gemma2(tokenizer)}
    return diffusers.Lumina2Pipeline(transformer=network, scheduler=flow(), **parts), {"max_sequence_length": 256}


def qwen_vae() -> Any:
    return diffusers.AutoencoderKLQwenImage(
        base_dim=24,
        z_dim=4,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[0.5, 1.0, 2.0, 1.5],
    )


def qwen_image() -> tuple[Any, dict[str, Any]]:
    tokenizer = qwen()
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": len(tokenizer) + SPARE}
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, **heads}
    text |= {"rope_scaling": rope, "rope_theta": 1e6}
    sight = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=sight)
    network = diffusers.QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
    )
    texts = {"tokenizer": tokenizer, "text_encoder": Qwen2_5_VLForConditionalGeneration(config)}
    made = diffusers.QwenImagePipeline(transformer=network, scheduler=flow(), vae=qwen_vae(), **texts)
    return made, {"max_sequence_length": 512}


def umt5_encoder(tokenizer: Any) -> UMT5EncoderModel:
    size = {"d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4}
    return UMT5EncoderModel(UMT5Config(vocab_size=len(tokenizer) + SPARE, **size))


def louder(network: Any) -> Any:
    """With larger weights: else it hardly hears the prompt."""
    for weight in network.parameters():
        weight.data.mul_(4)
    return network


def aura_flow() -> tuple[Any, dict[str, Any]]:
    tokenizer = t5()
    network = diffusers.AuraFlowTransformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        out_channels=4,
        pos_embed_max_size=256,
    )
    parts = {"vae": vae(4, None, 0.13025), "tokenizer": tokenizer, "text_encoder": umt5_encoder(tokenizer)}
    return diffusers.AuraFlowPipeline(transformer=louder(network), scheduler=flow(), **parts), {
        "max_sequence_length": 64
    }


def cog_view4() -> tuple[Any, dict[str, Any]]:
    tokenizer, start = qwen(), "<|im_start|>"  # before each prompt, as GLM's has two
    mark = [(start, tokenizer.convert_tokens_to_ids(start))]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{start} $A", special_tokens=mark)
    size = {"hidden_size": 32, "intermediate_size": 8, "num_hidden_layers": 3, "head_dim": 8, "pad_token_id": 0}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": len(tokenizer) + SPARE}
    network = diffusers.CogView4Transformer2DModel(
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=4,
        num_attention_heads=4,
        out_channels=4,
        text_embed_dim=32,
        time_embed_dim=8,
        condition_dim=4,
    )
    shift = {"base_shift": 0.25, "max_shift": 0.75, "base_image_seq_len": 256, "time_shift_type": "linear"}
    parts = {"vae": vae(4), "tokenizer": tokenizer, "text_encoder": GlmModel(GlmConfig(**size, **heads))}
    scheduler = flow(use_dynamic_shifting=True, **shift)
    return diffusers.CogView4Pipeline(transformer=network, scheduler=scheduler, **parts), {"max_sequence_length": 64}


def bert() -> BertTokenizer:
    """Letters, and "cat"."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *".,<>", *("##" + x for x in letters), "cat"]
    return BertTokenizer(vocab={name: i for i, name in enumerate(names)}, model_max_length=77)


def hunyuan() -> tuple[Any, dict[str, Any]]:
    first, second = bert(), t5()
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
    network = diffusers.HunyuanDiT2DModel(
        sample_size=16,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        in_channels=4,
        cross_attention_dim=32,
        cross_attention_dim_t5=32,
        pooled_projection_dim=16,
        hidden_size=24,
        activation_fn="gelu-approximate",
    )
    texts = {
        "text_encoder": BertModel(BertConfig(vocab_size=len(first) + SPARE, max_position_embeddings=77, **size)),
        "text_encoder_2": t5_encoder(second),
    }
    made = diffusers.HunyuanDiTPipeline(
        transformer=network,
        vae=vae(4, None, 0.13025, levels=4),  # the pipeline counts on 8 px to a latent
        scheduler=diffusers.DDIMScheduler(prediction_type="v_prediction"),
        tokenizer=first,
        tokenizer_2=second,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **texts,
    )
    return made, {}


def bria() -> tuple[Any, dict[str, Any]]:
    tokenizer = t5()
    network = diffusers.BriaTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=[0, 4, 4],
    )
    parts = {"vae": vae(4, 0, 0.13025), "tokenizer": tokenizer, "text_encoder": t5_encoder(tokenizer)}
    return diffusers.BriaPipeline(transformer=network, scheduler=flow(), **parts), {"max_sequence_length": 64}


def ovis() -> tuple[Any, dict[str, Any]]:
    tokenizer = qwen()
    how = {"out_channels": 4, "joint_attention_dim": 16, "axes_dims_rope": (4, 4, 8)}
    network = of_flux(diffusers.OvisImageTransformer2DModel, **how)
    parts = {"vae": vae(1, 0.1159, 0.3611), "tokenizer": tokenizer, "text_encoder": qwen3(tokenizer)}
    shifting = flow(use_dynamic_shifting=True, shift=3.0)
    made = diffusers.OvisImagePipeline(transformer=network, scheduler=shifting, **parts)
    return made, {"max_sequence_length": 256}


def krea2() -> tuple[Any, dict[str, Any]]:
    tokenizer = qwen()
    rope = {"mrope_section": [2, 1, 1], "rope_type": "default", "mrope_interleaved": True}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": len(tokenizer) + SPARE}
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "head_dim": 8, **heads}
    sight = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    config = Qwen3VLConfig(
        text_config={**text, "rope_scaling": rope}, vision_config={**sight, "deepstack_visual_indexes": [0]}
    )
    network = diffusers.Krea2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=32,
        timestep_embed_dim=8,
        text_hidden_dim=16,
        num_text_layers=3,
        text_num_attention_heads=2,
        text_num_key_value_heads=1,
        text_intermediate_size=16,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(8, 4, 4),
    )
    texts = {"tokenizer": tokenizer, "text_encoder": Qwen3VLModel(config), "text_encoder_select_layers": (0, 1, 2)}
    shifting = flow(use_dynamic_shifting=True, shift=3.0)
    made = diffusers.Krea2Pipeline(transformer=network, scheduler=shifting, vae=qwen_vae(), **texts)
    return made, {"max_sequence_length": 256}


def wan() -> tuple[Any, dict[str, Any]]:
    tokenizer = t5()
    network = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=32,
        freq_dim=256,
        ffn_dim=32,
        num_layers=1,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
    encoder = diffusers.AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    texts = {"tokenizer": tokenizer, "text_encoder": umt5_encoder(tokenizer)}
    made = diffusers.WanPipeline(transformer=louder(network), scheduler=flow(shift=7.0), vae=encoder, **texts)
    return made, {"max_sequence_length": 64}


TODAY: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "Z-Image": z_image,
    "Sana": sana,
    "FLUX.2 klein 4B": klein,
    "SD 3": sd3,
    "Chroma": chroma,
    "PixArt-Sigma": pixart,
    "Lumina 2": lumina,
    "Qwen-Image": qwen_image,
    "Flux": flux,
    "AuraFlow": aura_flow,
    "CogView4": cog_view4,
    "HunyuanDiT": hunyuan,
    "Bria": bria,
    "Ovis-Image": ovis,
    "Krea 2": krea2,
    "Wan 2.1": wan,
}


def pipeline(family: str) -> tuple[Any, dict[str, Any]]:
    """A pipeline, and what its call is told beside the prompt."""
    torch.manual_seed(0)
    return TODAY[family]()
