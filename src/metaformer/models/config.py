"""What a MetaFormer is made of, as one frozen config."""

from dataclasses import dataclass, field, replace
from math import prod

from metaformer.block.activation import ACTIVATIONS
from metaformer.block.channel_mlp import ChannelMLPConfig
from metaformer.block.metaformer_block import BlockConfig
from metaformer.block.norm import ModifiedLayerNormConfig, NormConfig
from metaformer.block.residual import ResidualConfig
from metaformer.block.site import Grid, format_grid
from metaformer.block.token_mixers import TokenMixerConfig
from metaformer.core.checked import check_number, check_share
from metaformer.core.errors import ConfigError
from metaformer.core.preprocessing import ModelInput, Preprocessing


@dataclass(frozen=True, kw_only=True)
class PatchEmbeddingConfig:
    """The convolution that opens a stage: cuts its input into overlapping patches, one token each.

    The papers' models need no more than the convolution and a norm. A maximum and an activation behind it make it the
    stem of a residual network (arXiv:1512.03385, Sec. 3.4), which learns small images faster. Joining the tokens of a
    window before all, with a convolution of one token behind, is the patch merging of arXiv:2103.14030, Sec. 3.1.
    """

    kernel_size: int | tuple[int, ...] = 3  # along every axis, or one number an axis; so are the next two
    stride: int | tuple[int, ...] = 2
    padding: int | tuple[int, ...] = 1
    bias: bool = True  # of the convolution
    merge: int = 1  # side of windows whose tokens become one with all their channels
    pre_norm: NormConfig | None = None  # before the convolution
    max_pool: int = 1  # side of windows that become their maximum; 1: none
    post_norm: NormConfig | None = None  # after both
    activation: str | None = None  # after all, a name in ACTIVATIONS; None: none

    def __post_init__(self) -> None:
        # Looked up here, so that a misspelt name fails where it is written.
        if self.activation is not None:
            ACTIVATIONS[self.activation]
        for name, least in (("kernel_size", 1), ("stride", 1), ("padding", 0)):
            many = isinstance(getattr(self, name), list | tuple)
            check_number(self, name, whole=True, many=many, least=least, most=10_000)
        for name in ("merge", "max_pool"):
            check_number(self, name, whole=True, least=1, most=10_000)

    def reduction(self, num_axes: int) -> Grid:
        """How many tokens of its input, along each axis, become one."""
        return tuple(stride * self.max_pool * self.merge for stride in along_axes(self.stride, num_axes))

    def grid(self, size: Grid) -> Grid:
        """The token grid that comes out for an input of this size."""
        settings = (along_axes(given, len(size)) for given in (self.kernel_size, self.stride, self.padding))
        return tuple(
            ((-(-side // self.merge) + 2 * padding - kernel) // stride + 1) // self.max_pool
            for side, kernel, stride, padding in zip(size, *settings, strict=True)
        )


def along_axes(given: int | tuple[int, ...], num_axes: int) -> tuple[int, ...]:
    """One number for each axis, from one for all or one for each."""
    return given if isinstance(given, tuple) else (given,) * num_axes


LARGEST_SIDE = 16_384  # pixels; the features of a larger image fit into no memory
MOST_BLOCKS = 1000  # in a stage
STEM = PatchEmbeddingConfig(kernel_size=7, stride=4, padding=2)
DOWNSAMPLING = PatchEmbeddingConfig(kernel_size=3, stride=2, padding=1)


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """How features become class scores: norm and mean over the grid, in either order, then a classifier."""

    norm: NormConfig | None = None  # None: as in the blocks
    norm_after_pooling: bool = False
    hidden_ratio: float | None = None  # an MLP with so many hidden channels per channel; None: one linear layer
    hidden_norm_eps: float = 1e-5  # of the layer norm inside the MLP
    dropout: float = 0.0  # before the last linear layer

    def __post_init__(self) -> None:
        check_share(self, "dropout")
        check_number(
            self, "hidden_ratio", optional=True, above=0, most=10_000, hint="None leaves the hidden layer out."
        )
        check_number(self, "hidden_norm_eps", least=0)


@dataclass(frozen=True, kw_only=True)
class MetaFormerConfig:
    """A MetaFormer: stages of blocks, each stage opened by a patch embedding."""

    dims: tuple[int, ...]  # channels, one value a stage
    depths: tuple[int, ...]  # blocks, one value a stage
    token_mixers: tuple[TokenMixerConfig, ...]  # one a stage
    patch_embeddings: tuple[PatchEmbeddingConfig, ...] = (STEM, DOWNSAMPLING, DOWNSAMPLING, DOWNSAMPLING)
    norm: NormConfig = field(default_factory=ModifiedLayerNormConfig)
    channel_mlp: ChannelMLPConfig | None = field(default_factory=ChannelMLPConfig)  # None: left out
    residuals: tuple[ResidualConfig, ...] = (ResidualConfig(layer_scale_init=1e-5),)  # one a stage, or one for all
    drop_path: float = 0.0  # rate of the last block; the first has 0, linear between
    position_embedding_stages: tuple[int, ...] = ()  # stages, from 0, whose tokens get a learned position embedding
    # The last stage gets one learned token more, which the head reads; its tokens are a grid of one axis then.
    class_token: bool = False
    head: HeadConfig = HeadConfig()
    init_std: float | None = 0.02  # of the first weights; None: 1/sqrt(fan-in), which suits narrow models
    init_convolutions: bool = False  # convolutions over several tokens start so too; else as PyTorch has them
    num_classes: int = 1000  # 0: no classifier
    in_chans: int = 3
    image_size: Grid = (224, 224)  # length; height and width; or depth, height and width: in samples, pixels or voxels
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    def __post_init__(self) -> None:
        check_number(self, "image_size", whole=True, many=True, most=LARGEST_SIDE)
        self._check_stages()
        check_share(self, "drop_path")
        check_number(self, "init_std", optional=True, above=0)
        check_number(self, "num_classes", whole=True, least=0, most=10**8, hint="0 leaves the classifier out.")
        check_number(self, "in_chans", whole=True, least=1, most=10**6, hint="RGB has 3.")
        self._check_size()

    def _check_size(self) -> None:
        if self.num_axes not in range(1, 4):
            raise ConfigError(
                f"MetaFormerConfig.image_size must have one, two or three axes; got {self.num_axes}: "
                f"({', '.join(map(str, self.image_size))})."
            )
        for stage, embedding in enumerate(self.patch_embeddings):
            for name in ("kernel_size", "stride", "padding"):
                given = getattr(embedding, name)
                if isinstance(given, tuple) and len(given) != self.num_axes:
                    raise ConfigError(
                        f"MetaFormerConfig.patch_embeddings[{stage}].{name} must be one number, or one for each of the "
                        f"{self.num_axes} axes of image_size; got {given}."
                    )
        if any(side < stride for side, stride in zip(self.image_size, self.total_stride, strict=True)):
            raise ConfigError(
                f"MetaFormerConfig.image_size must be at least {format_grid(self.total_stride)} pixels, "
                f"the total stride; got {format_grid(self.image_size)}."
            )

    def _check_stages(self) -> None:
        check_number(self, "dims", whole=True, many=True, least=1, most=10**6)
        check_number(self, "depths", whole=True, many=True, least=1, most=MOST_BLOCKS)
        check_number(self, "position_embedding_stages", whole=True, many=True, least=0)
        if not self.dims:
            raise ConfigError("MetaFormerConfig.dims must name at least one stage; got ().")
        for name in ("depths", "token_mixers", "patch_embeddings"):
            if len(getattr(self, name)) != len(self.dims):
                raise ConfigError(
                    f"MetaFormerConfig.{name} must have one entry a stage: {len(self.dims)}, as dims has; "
                    f"got {len(getattr(self, name))}."
                )
        if len(self.residuals) not in (1, len(self.dims)):
            raise ConfigError(
                f"MetaFormerConfig.residuals must have one entry for all stages or one a stage: {len(self.dims)}; "
                f"got {len(self.residuals)}."
            )
        if any(stage not in range(len(self.dims)) for stage in self.position_embedding_stages):
            raise ConfigError(
                f"MetaFormerConfig.position_embedding_stages must be in 0..{len(self.dims) - 1}; "
                f"got {self.position_embedding_stages}."
            )

    @property
    def num_stages(self) -> int:
        return len(self.dims)

    @property
    def num_axes(self) -> int:
        """Of an image: 1, 2 or 3."""
        return len(self.image_size)

    @property
    def reductions(self) -> tuple[Grid, ...]:
        """Pixels per token of each stage, along each axis."""
        steps = [embedding.reduction(self.num_axes) for embedding in self.patch_embeddings]
        return tuple(tuple(map(prod, zip(*steps[: stage + 1], strict=True))) for stage in range(len(steps)))

    @property
    def total_stride(self) -> Grid:
        """Pixels per token of the last stage, along each axis."""
        return self.reductions[-1]

    @property
    def patch_grids(self) -> tuple[Grid, ...]:
        """What the patch embedding of each stage gives, in tokens along each axis, at `image_size`."""
        grids, size = [], self.image_size
        for embedding in self.patch_embeddings:
            size = embedding.grid(size)
            grids.append(size)
        return tuple(grids)

    @property
    def grids(self) -> tuple[Grid, ...]:
        """What the blocks of each stage see, in tokens along each axis, at `image_size`."""
        *first, last = self.patch_grids
        return (*first, (1 + prod(last),) if self.class_token else last)

    def block(self, stage: int) -> BlockConfig:
        """The config of the blocks of a stage."""
        return BlockConfig(
            token_mixer=self.token_mixers[stage],
            norm=self.norm,
            channel_mlp=self.channel_mlp,
            residual=self.residuals[stage if len(self.residuals) > 1 else 0],
        )

    @property
    def model_input(self) -> ModelInput:
        """What the model takes."""
        return ModelInput(image_size=self.image_size, in_chans=self.in_chans, preprocessing=self.preprocessing)

    def with_input(self, given: ModelInput) -> "MetaFormerConfig":
        """The same architecture for other images."""
        return replace(self, image_size=given.image_size, in_chans=given.in_chans, preprocessing=given.preprocessing)
