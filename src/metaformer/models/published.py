"""Where the published weights are, and what they reach: data, one row a model.

Sources: the READMEs of sail-sg/poolformer and sail-sg/metaformer (top-1 on ImageNet-1K, licence Apache-2.0); for the
ablation models Table 5 of arXiv:2111.11418. Of other families, their papers and the files of timm.
"""

from dataclasses import dataclass

POOLFORMER_URL = "https://github.com/sail-sg/poolformer/releases/download/v1.0/{name}.pth.tar"
METAFORMER_URL = "https://huggingface.co/sail/dl/resolve/main/{family}/{name}.pth"


@dataclass(frozen=True, kw_only=True)
class Published:
    """Weights that their authors published."""

    top1: float  # percent, ImageNet-1K validation, as the authors state it
    url: str
    trained_on: str = "ImageNet-1K"
    licence: str = "Apache-2.0"


# Zoo name -> top-1.
P1_TOP1 = {
    "poolformer_s12": 77.2,
    "poolformer_s24": 80.3,
    "poolformer_s36": 81.4,
    "poolformer_m36": 82.1,
    "poolformer_m48": 82.5,
    "metaformer_id_s12": 74.3,
    "metaformer_pppa_s12_224": 78.3,
    "metaformer_ppaa_s12_224": 81.0,
    "metaformer_pppf_s12_224": 77.5,
    "metaformer_ppff_s12_224": 77.9,
}
P2_TOP1 = {
    "identityformer_s12": 74.6,
    "identityformer_s24": 78.2,
    "identityformer_s36": 79.3,
    "identityformer_m36": 80.0,
    "identityformer_m48": 80.4,
    "randformer_s12": 76.6,
    "randformer_s24": 78.2,
    "randformer_s36": 79.5,
    "randformer_m36": 81.2,
    "randformer_m48": 81.4,
    "poolformerv2_s12": 78.0,
    "poolformerv2_s24": 80.7,
    "poolformerv2_s36": 81.6,
    "poolformerv2_m36": 82.2,
    "poolformerv2_m48": 82.6,
    "convformer_s18": 83.0,
    "convformer_s18_384": 84.4,
    "convformer_s36": 84.1,
    "convformer_s36_384": 85.4,
    "convformer_m36": 84.5,
    "convformer_m36_384": 85.6,
    "convformer_b36": 84.8,
    "convformer_b36_384": 85.7,
    "caformer_s18": 83.6,
    "caformer_s18_384": 85.0,
    "caformer_s36": 84.5,
    "caformer_s36_384": 85.7,
    "caformer_m36": 85.2,
    "caformer_m36_384": 86.2,
    "caformer_b36": 85.5,
    "caformer_b36_384": 86.4,
}
# The same architectures, trained on ImageNet-21K and then on 1K.
P2_TOP1_FROM_21K = {
    "convformer_s18": 83.7,
    "convformer_s18_384": 85.0,
    "convformer_s36": 85.4,
    "convformer_s36_384": 86.4,
    "convformer_m36": 86.1,
    "convformer_m36_384": 86.9,
    "convformer_b36": 87.0,
    "convformer_b36_384": 87.6,
    "caformer_s18": 84.1,
    "caformer_s18_384": 85.4,
    "caformer_s36": 85.8,
    "caformer_s36_384": 86.9,
    "caformer_m36": 86.6,
    "caformer_m36_384": 87.5,
    "caformer_b36": 87.4,
    "caformer_b36_384": 88.1,
}


TIMM_URL = "https://huggingface.co/timm/{name}.{tag}/resolve/main/model.safetensors"
SWIN_URL = "https://github.com/SwinTransformer/storage/releases/download/v1.0.0/{name}.pth"
FROM_21K = "ImageNet-21K, then 1K"
# Zoo name -> (top-1, timm's tag, what it was trained on).
TIMM_FILES = {
    "deit_tiny_patch16_224": (72.2, "fb_in1k", "ImageNet-1K"),
    "deit_small_patch16_224": (79.8, "fb_in1k", "ImageNet-1K"),
    "deit_base_patch16_224": (81.8, "fb_in1k", "ImageNet-1K"),
    "vit_small_patch16_224": (81.4, "augreg_in21k_ft_in1k", FROM_21K),
    "vit_base_patch16_224": (84.5, "augreg_in21k_ft_in1k", FROM_21K),
    "resmlp_12_224": (76.6, "fb_in1k", "ImageNet-1K"),
    "resmlp_24_224": (79.4, "fb_in1k", "ImageNet-1K"),
    "resmlp_big_24_224": (81.0, "fb_in1k", "ImageNet-1K"),
    "mixer_b16_224": (76.6, "goog_in21k_ft_in1k", FROM_21K),
}
SWIN_TOP1 = {
    "swin_tiny_patch4_window7_224": 81.3,
    "swin_small_patch4_window7_224": 83.0,
    "swin_base_patch4_window7_224": 83.5,
}


def _p2_url(name: str, suffix: str = "") -> str:
    return METAFORMER_URL.format(family=name.split("_")[0], name=name + suffix)


# Zoo name -> its published weights, trained on ImageNet-1K alone first.
PUBLISHED: dict[str, tuple[Published, ...]] = {
    **{name: (Published(top1=top1, url=POOLFORMER_URL.format(name=name)),) for name, top1 in P1_TOP1.items()},
    **{
        name: (
            Published(top1=top1, url=_p2_url(name)),
            *(
                Published(top1=better, url=_p2_url(name, "_in21ft1k"), trained_on="ImageNet-21K, then 1K")
                for better in [P2_TOP1_FROM_21K.get(name)]
                if better
            ),
        )
        for name, top1 in P2_TOP1.items()
    },
    **{
        name: (Published(top1=top1, url=TIMM_URL.format(name=name, tag=tag), trained_on=trained_on),)
        for name, (top1, tag, trained_on) in TIMM_FILES.items()
    },
    **{
        name: (Published(top1=top1, url=SWIN_URL.format(name=name), licence="MIT"),) for name, top1 in SWIN_TOP1.items()
    },
}
