"""timm's layouts of models with one stage: Transformers, and MLP-like models.

DeiT's authors use timm's classes, so theirs are the same keys.
"""

import torch
from torch import Tensor

from metaformer.block.norm import AffineConfig
from metaformer.models.config import MetaFormerConfig
from metaformer.models.layouts.layout import Layout, Rules

BLOCK = r"stages\.0\.blocks\.(\d+)\."
CLASS_PLACE, PATCH_PLACES = "pos_embed[0]", "pos_embed[1:]"


def _vit_rules(_config: MetaFormerConfig) -> Rules:
    return (
        (r"stages\.0\.patch_embed\.conv\.(\w+)", r"patch_embed.proj.\1"),
        (r"stages\.0\.class_token\.weight", "cls_token"),
        (r"stages\.0\.class_token\.position", CLASS_PLACE),
        (r"stages\.0\.position_embed\.weight", PATCH_PLACES),
        (BLOCK + r"token_mixer\.((?:qkv|proj)\.\w+)", r"blocks.\1.attn.\2"),
        (BLOCK + r"channel_mlp\.(fc\d\.\w+)", r"blocks.\1.mlp.\2"),
        (BLOCK + r"(norm\d\.\w+)", r"blocks.\1.\2"),
        (r"norm\.(\w+)", r"norm.\1"),
        (r"head\.fc\.(\w+)", r"head.\1"),
    )


def _unpack_vit(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """One table of places for all tokens, (1, 1 + N, C), becomes that of the class token and that of the patches."""
    unpacked = {key: tensor for key, tensor in theirs.items() if key != "pos_embed"}
    for key in ("cls_token", "pos_embed"):
        if key in theirs and theirs[key].ndim != 3:
            return theirs
    if "cls_token" in theirs:
        unpacked["cls_token"] = theirs["cls_token"].transpose(1, 2)
    if "pos_embed" in theirs:
        places = theirs["pos_embed"].transpose(1, 2)
        unpacked |= {CLASS_PLACE: places[:, :, :1], PATCH_PLACES: places[:, :, 1:]}
    return unpacked


def _pack_vit(unpacked: dict[str, Tensor]) -> dict[str, Tensor]:
    packed = dict(unpacked)
    packed["cls_token"] = packed["cls_token"].transpose(1, 2)
    places = torch.cat([packed.pop(CLASS_PLACE), packed.pop(PATCH_PLACES).flatten(2)], dim=2)
    return packed | {"pos_embed": places.transpose(1, 2)}


def _mlp_rules(config: MetaFormerConfig) -> Rules:
    affine = isinstance(config.norm, AffineConfig)
    norm_rules = (
        (BLOCK + r"(norm\d)\.weight", r"blocks.\1.\2.alpha"),
        (BLOCK + r"(norm\d)\.bias", r"blocks.\1.\2.beta"),
        (r"norm\.weight", "norm.alpha"),
        (r"norm\.bias", "norm.beta"),
    )
    return (
        (r"stages\.0\.patch_embed\.conv\.(\w+)", r"stem.proj.\1"),
        *(norm_rules if affine else ()),
        (BLOCK + r"(norm\d\.\w+)", r"blocks.\1.\2"),
        (BLOCK + r"token_mixer\.fc\.(\w+)", r"blocks.\1.linear_tokens.\2"),
        (BLOCK + r"token_mixer\.(fc\d\.\w+)", r"blocks.\1.mlp_tokens.\2"),
        (BLOCK + r"channel_mlp\.(fc\d\.\w+)", r"blocks.\1.mlp_channels.\2"),
        (BLOCK + r"residual(\d)\.layer_scale", r"blocks.\1.ls\2"),
        (r"norm\.(\w+)", r"norm.\1"),
        (r"head\.fc\.(\w+)", r"head.\1"),
    )


def _is_affine(key: str) -> bool:
    return key.endswith((".alpha", ".beta"))


def _unpack_mlp(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.flatten() if _is_affine(key) else tensor for key, tensor in theirs.items()}


def _pack_mlp(unpacked: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor[None, None] if _is_affine(key) else tensor for key, tensor in unpacked.items()}


def _is_matrix(key: str, _config: MetaFormerConfig) -> bool:
    return ".channel_mlp.fc" in key and key.endswith(".weight")


TIMM_VIT = Layout(
    name="timm-vit",
    marker="patch_embed.proj.weight",
    beside="cls_token",
    rules=_vit_rules,
    is_matrix=_is_matrix,
    unpack=_unpack_vit,
    pack=_pack_vit,
)
TIMM_MLP = Layout(
    name="timm-mlp",
    marker="stem.proj.weight",
    rules=_mlp_rules,
    is_matrix=_is_matrix,
    unpack=_unpack_mlp,
    pack=_pack_mlp,
)
