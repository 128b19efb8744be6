"""The families of today, a row each."""

from __future__ import annotations

from .recipe import Family, Network, Recipe, Release

NO_BINNING = {"use_resolution_binning": False}  # which would draw at another size than it was asked for
APACHE = "apache-2.0"

# Text encoders, as configurations and the classes' own counts have them; tokens are those of a prompt.
CLIPS = Network(0.82, 32, 1280, 77, 0.1)
T5 = Network(4.76, 24, 4096, 512, 0.13)
QWEN = Network(4.02, 36, 2560, 512, 0.39)
GEMMA = Network(2.61, 26, 2304, 300, 0.59)
QWEN_VL = Network(8.29, 28, 3584, 512, 1.09)

TODAY = (
    Family(
        "Flux",
        ("clip_l", "t5xxl"),
        pipeline="FluxPipeline",
        tag="flux",
        releases={
            "flux": Release(
                "black-forest-labs/FLUX.1-dev",
                34,
                networks=(Network(11.9, 57, 3072, 1536), T5, Network(0.12, 12, 768, 77, 0.04)),
                terms="a licence of its own, not commercial",
                gated=True,
            )
        },
        recipe=Recipe(packed="2x2", clock="t/1000", negative=False),  # its guidance is an input of the network
    ),
    Family(
        "SD 3",
        ("clip_l", "clip_g", "t5xxl"),
        pipeline="StableDiffusion3Pipeline",
        tag="sd3",
        releases={
            "sd3.5": Release(
                "stabilityai/stable-diffusion-3.5-medium",
                16,
                networks=(Network(2.24, 24, 1536, 1357), T5, CLIPS),
                terms="Stability AI's community licence",
                gated=True,
            )
        },
        recipe=Recipe(),
    ),
    Family(
        "Z-Image",
        ("qwen3_4b",),
        pipeline="ZImagePipeline",
        tag="z-image",
        license=APACHE,
        releases={
            "z-image": Release("Tongyi-MAI/Z-Image", 21, networks=(Network(6.15, 34, 3840, 1536), QWEN), terms=APACHE)
        },
        recipe=Recipe(packed="list", clock="1 - t/1000", sign=-1, off=0.0),  # its guidance is still on at 1
    ),
    Family(
        "FLUX.2 klein 4B",
        ("qwen3_4b",),
        width=2560,
        pipeline="Flux2KleinPipeline",
        tag="flux2",
        license=APACHE,
        releases={
            "klein": Release(  # the base, which is not distilled
                "black-forest-labs/FLUX.2-klein-base-4B",
                16,
                networks=(Network(3.9, 25, 3072, 1536), QWEN),
                terms=APACHE,
            )
        },
        recipe=Recipe(latents="patched", packed="tokens", clock="t/1000"),
    ),
    Family(
        "FLUX.2 klein 9B",
        ("qwen3_8b",),
        width=4096,
        pipeline="Flux2KleinPipeline",
        tag="flux2",
        recipe=Recipe(latents="patched", packed="tokens", clock="t/1000"),
    ),
    Family(
        "Sana",
        ("gemma2_2b",),
        pipeline="SanaPipeline",
        tag="sana",
        releases={
            "sana": Release(
                "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers",
                9,
                networks=(Network(1.6, 20, 2240, 556), GEMMA),
                terms="a licence of its own, in its LICENSE.txt, and Gemma's terms",
            )
        },
        recipe=Recipe(arguments=NO_BINNING),
    ),
    Family(
        "Chroma",
        ("t5xxl",),
        pipeline="ChromaPipeline",
        license=APACHE,
        releases={
            "chroma": Release("lodestones/Chroma1-HD", 28, networks=(Network(8.9, 57, 3072, 1536), T5), terms=APACHE)
        },
        recipe=Recipe(packed="2x2", clock="t/1000"),
    ),
    Family(
        "PixArt-Sigma",
        ("t5xxl",),
        pipeline="PixArtSigmaPipeline",
        tag="pixart",
        license="openrail++",
        releases={
            "pixart": Release(
                "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
                22,
                networks=(Network(0.61, 28, 1152, 1324), T5),
                terms="openrail++",
            )
        },
        recipe=Recipe(flow=False, arguments={**NO_BINNING, "clean_caption": False}),  # which takes "<my-cat>" out
    ),
    Family(
        "Lumina 2",
        ("gemma2_2b",),
        pipeline="Lumina2Pipeline",
        license=APACHE,
        releases={
            "lumina2": Release(
                "Alpha-VLLM/Lumina-Image-2.0",
                11,
                networks=(Network(2.61, 30, 2304, 1280), GEMMA),
                terms=f"{APACHE}, and Gemma's terms",
            )
        },
        recipe=Recipe(clock="1 - t/1000", sign=-1),
    ),
    Family(
        "Qwen-Image",
        ("qwen25_7b",),
        pipeline="QwenImagePipeline",
        tag="qwen-image",
        license=APACHE,
        releases={
            "qwen-image": Release(
                "Qwen/Qwen-Image", 58, networks=(Network(20.4, 60, 3072, 1536), QWEN_VL), terms=APACHE
            )
        },
        recipe=Recipe("standardised", "2x2", frames=True, clock="t/1000", guidance="true_cfg_scale"),
    ),
    Family("AuraFlow", ("pile_t5xl",), pipeline="AuraFlowPipeline", recipe=Recipe(clock="t/1000")),
    Family("CogView4", ("glm4_9b",), pipeline="CogView4Pipeline", recipe=Recipe(clock="unshifted")),
    Family(
        "HunyuanDiT",
        ("bert", "mt5xl"),
        pipeline="HunyuanDiTPipeline",
        recipe=Recipe(flow=False, arguments=NO_BINNING),
    ),
    Family("Bria", ("t5xxl",), pipeline="BriaPipeline", recipe=Recipe(packed="2x2")),
    Family("Ovis-Image", ("qwen3_2b",), pipeline="OvisImagePipeline", recipe=Recipe(packed="2x2", clock="t/1000")),
    Family(
        "Krea 2",
        ("qwen3vl_4b",),
        pipeline="Krea2Pipeline",
        recipe=Recipe("standardised", "2x2", frames=True, clock="t/1000", off=0.0),
    ),
    Family(
        "Wan 2.1",  # a video of one frame
        ("umt5xxl",),
        pipeline="WanPipeline",
        recipe=Recipe("standardised", "video", frames=True, arguments={"num_frames": 1}),
    ),
)
