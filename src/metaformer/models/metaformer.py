"""The model: stages of MetaFormer blocks, then a head."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.fx
import torch.utils.checkpoint
from jaxtyping import Float
from torch import Tensor, nn

from metaformer.block.site import Grid, Site, format_grid
from metaformer.core.errors import ConfigError, ShapeError
from metaformer.models.config import HeadConfig, MetaFormerConfig
from metaformer.models.head import Head
from metaformer.models.initialization import draw_base, initialize
from metaformer.models.patch_embedding import ClassToken, PatchEmbedding, PositionEmbedding

AXES = {1: "L", 2: "H, W", 3: "D, H, W"}


# A leaf for torch.fx: tracing records the call, and the branch on the shape runs with real tensors.
@torch.fx.wrap
def require_image(x: Float[Tensor, "..."], in_chans: int, total_stride: Grid) -> Float[Tensor, "..."]:
    """Returns `x` if it is a batch of images that the model can take.

    Raises:
        ShapeError: It is not.
    """
    if x.ndim != 2 + len(total_stride) or x.shape[1] != in_chans:
        raise ShapeError(f"the model takes images as (B, {in_chans}, {AXES[len(total_stride)]}); got {tuple(x.shape)}.")
    if any(side < stride for side, stride in zip(x.shape[2:], total_stride, strict=True)):
        raise ShapeError(
            f"images must be at least {format_grid(total_stride)} pixels, the model's total stride; "
            f"got {format_grid(x.shape[2:])}."
        )
    return x


def describe_for_timm(config: MetaFormerConfig, *, fixed_input_size: bool) -> dict[str, Any]:
    """A model in the words of timm's `pretrained_cfg`."""
    preprocessing = config.preprocessing
    return {
        "num_classes": config.num_classes,
        "input_size": (config.in_chans, *config.image_size),
        "pool_size": config.patch_grids[-1],
        "fixed_input_size": fixed_input_size,
        "crop_pct": preprocessing.crop_fraction,
        "interpolation": preprocessing.interpolation,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "first_conv": "stages.0.patch_embed.conv",
        "classifier": "head.fc",
    }


class Stage(nn.Module):
    """Patch embedding, position embedding and class token where there are such, blocks."""

    def __init__(self, config: MetaFormerConfig, stage: int, drop_path_rates: Sequence[float]) -> None:
        super().__init__()
        dim, grid, patch_grid = config.dims[stage], config.grids[stage], config.patch_grids[stage]
        in_chans = config.dims[stage - 1] if stage else config.in_chans
        self.patch_embed = PatchEmbedding(in_chans, dim, config.patch_embeddings[stage], config.num_axes)
        self.position_embed = (
            PositionEmbedding(dim, patch_grid, f"stages.{stage}")
            if stage in config.position_embedding_stages
            else nn.Identity()
        )
        is_last = stage == config.num_stages - 1
        self.class_token = ClassToken(dim) if config.class_token and is_last else nn.Identity()
        self.blocks = nn.ModuleList(
            config.block(stage).build(Site(dim, grid, stage, index), rate) for index, rate in enumerate(drop_path_rates)
        )
        self.grad_checkpointing = False

    def forward(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b d *grid"]:
        x = self.class_token(self.position_embed(self.patch_embed(x)))
        for block in self.blocks:
            if self.grad_checkpointing and self.training:
                x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x


class MetaFormer(nn.Module):
    """Norm, token mixer, residual, norm, channel MLP, residual; four stages in the paper, any number here.

    Offers what timm's users expect of a model. Images are (B, C, L), (B, C, H, W) or (B, C, D, H, W), and features have
    as many axes; behind a class token they are (B, C, 1 + N).

    Source: arXiv:2111.11418, Figures 1-2 and Table 1.
    """

    def __init__(self, config: MetaFormerConfig) -> None:
        super().__init__()
        self.config = config
        self._pretrained_cfg: dict[str, Any] | None = None
        base = draw_base()
        # On the CPU whatever the default device is: these numbers are read here.
        rates = torch.linspace(0, config.drop_path, sum(config.depths), device="cpu").split(list(config.depths))
        self.stages = nn.Sequential(*(Stage(config, i, rates[i].tolist()) for i in range(config.num_stages)))
        self.norm = (config.head.norm or config.norm).build(config.dims[-1])
        self.head = Head(config.dims[-1], config.num_classes, config.head, class_token=config.class_token)
        # One number a stage, as timm wants it: of the axis that shrinks most.
        self.feature_info = [
            {"num_chs": dim, "reduction": max(reduction), "module": f"stages.{i}"}
            for i, (dim, reduction) in enumerate(zip(config.dims, config.reductions, strict=True))
        ]
        initialize(self, base, config.init_std, all_convolutions=config.init_convolutions)

    def forward(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b ..."]:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b d *grid"]:
        """The features of the last stage, normalised."""
        x = require_image(x, self.config.in_chans, self.config.total_stride)
        for stage in self.stages:
            x = stage(x)
        return self._norm_features(x)

    def _norm_features(self, x: Float[Tensor, "b d *grid"]) -> Float[Tensor, "b d *grid"]:
        """The norm of the last features, unless it comes after the mean over them."""
        return x if self.config.head.norm_after_pooling else self.norm(x)

    def forward_head(self, x: Float[Tensor, "b d *grid"], pre_logits: bool = False) -> Float[Tensor, "b ..."]:
        """Class scores, or with `pre_logits` what the classifier would have got."""
        return self.head(x, pre_logits=pre_logits, norm=self.norm if self.config.head.norm_after_pooling else None)

    def forward_intermediates(
        self,
        x: Float[Tensor, "b c *size"],
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """The features after chosen stages.

        Args:
            x: Images.
            indices: Stages, negative from the end; a number n means the last n; None means all.
            norm: Apply the final norm to the last stage's features.
            stop_early: Leave out the stages after the last chosen one.
            output_fmt: "NCHW" or "NHWC".
            intermediates_only: Return the list alone.

        Returns:
            The list of features, or (final features, list). The list leaves out a class token and has the grid of the
            patches.

        Raises:
            ConfigError: A stage does not exist, or the format is unknown.
        """
        if output_fmt not in ("NCHW", "NHWC"):
            raise ConfigError(f"output_fmt must be 'NCHW' or 'NHWC'; got {output_fmt!r}.")
        chosen = self._stage_indices(indices)
        last = len(self.stages) - 1
        x = require_image(x, self.config.in_chans, self.config.total_stride)
        features, grid = [], tuple(x.shape[2:])
        for i, stage in enumerate(self.stages):
            if stop_early and i > max(chosen):
                break
            x, grid = stage(x), self.config.patch_embeddings[i].grid(grid)
            if i in chosen:
                feature = self._norm_features(x) if norm and i == last else x
                if self.config.class_token and i == self.config.num_stages - 1:
                    feature = feature[:, :, 1:].unflatten(2, grid)
                features.append(feature if output_fmt == "NCHW" else feature.movedim(1, -1))
        if intermediates_only:
            return features
        return (self._norm_features(x) if not stop_early or max(chosen) == last else x), features

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Removes the stages after the last chosen one, for use as a feature extractor.

        Returns:
            The chosen stages.
        """
        chosen = self._stage_indices(indices)
        is_cut = max(chosen) + 1 < len(self.stages)
        self.stages = self.stages[: max(chosen) + 1]
        # The norm and the head have the channels of the last stage, so they go with it.
        if prune_norm or is_cut or (prune_head and self.config.head.norm_after_pooling):
            self.norm = nn.Identity()
        if prune_head or is_cut:
            # Without hidden layer: a parameter that no feature needs would get no gradient.
            self.head = Head(self.num_features, 0, HeadConfig()).train(self.training)
            self.reset_classifier(0, "")
        return chosen

    def _stage_indices(self, indices: int | Sequence[int] | None) -> list[int]:
        num = len(self.stages)
        if indices is None:
            indices = range(num)
        elif isinstance(indices, int):
            if not 1 <= indices <= num:
                raise ConfigError(f"indices must be 1..{num} of the last stages; got {indices}.")
            indices = range(num - indices, num)
        if not len(indices) or any(not -num <= i < num for i in indices):
            raise ConfigError(f"indices must be stages from 0 to {num - 1} (negative from the end); got {indices}.")
        return [i % num for i in indices]

    def get_classifier(self) -> nn.Module:
        """The linear layer that makes class scores (Identity if there is none)."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new classifier for another number of classes; 0 leaves it out."""
        # The head itself may have none, and an optimized copy has none in its stages.
        parts = (self.head.parameters(), self.norm.parameters(), self.stages.parameters(), self.stages.buffers())
        like = next(itertools.chain(*parts))
        self.head.reset(num_classes, global_pool)
        self.head.to(device=like.device, dtype=like.dtype)
        self.config = replace(self.config, num_classes=num_classes)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """In training, keep only the input of each block and compute the rest again on the way back."""
        for stage in self.stages:
            # The stages of an optimized copy are for evaluation, where there is nothing to keep.
            if isinstance(stage, Stage):
                stage.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns that put parameters into layers, from the stem up, as timm's layer-wise decay wants them."""
        if coarse:
            return {"stem": r"^stages\.0\.patch_embed", "blocks": [(r"^stages\.(\d+)", None), (r"^norm", (99999,))]}
        blocks = [
            (r"^stages\.(\d+)\.(?:patch_embed|position_embed|class_token)", (-1,)),
            (r"^stages\.(\d+)\.blocks\.(\d+)", None),
            (r"^norm", (99999,)),
        ]
        return {"stem": r"^stages\.0\.patch_embed", "blocks": blocks}

    @property
    def num_classes(self) -> int:
        return self.config.num_classes

    @property
    def in_chans(self) -> int:
        return self.config.in_chans

    @property
    def num_features(self) -> int:
        """Channels of the last stage."""
        return self.config.dims[len(self.stages) - 1]

    @property
    def head_hidden_size(self) -> int:
        """Channels that the classifier gets."""
        return self.head.hidden_dim

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """What timm's tools want to know: what timm itself noted if it built the model, else the model as it is."""
        if self._pretrained_cfg is not None:
            return self._pretrained_cfg
        return describe_for_timm(self.config, fixed_input_size=self.is_tied_to_grid)

    @pretrained_cfg.setter
    def pretrained_cfg(self, value: dict[str, Any]) -> None:
        self._pretrained_cfg = value

    default_cfg = pretrained_cfg

    @property
    def is_tied_to_grid(self) -> bool:
        """Whether the model takes images of its `image_size` only."""
        return any(callable(getattr(module, "resize", None)) for module in self.modules())
