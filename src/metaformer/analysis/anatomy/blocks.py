"""The residual blocks of any model, and which of their parts mixes tokens and which channels.

A block is recognised by the names of its children. Models with other names get a row:
`BLOCK_FORMS.add("mine", BlockForm(entry="ln1", mixer="mix", mlp_entry="ln2", mlp="ffn"))`.
"""

from dataclasses import dataclass

from torch import nn

from metaformer.core.errors import ConfigError
from metaformer.core.registry import Registry


@dataclass(frozen=True, kw_only=True)
class BlockForm:
    """The children of a block x + mixer(entry(x)), then x + mlp(mlp_entry(x))."""

    entry: str  # first module of the branch that mixes tokens: what sees the block's input besides the residual
    mixer: str  # what mixes tokens
    mlp_entry: str = ""  # first module of the branch that mixes channels; empty: the block has one branch
    mlp: str = ""
    branch: str = ""  # whose output joins the residual where an activation follows the sum; empty: nothing follows

    @property
    def children(self) -> set[str]:
        return {name for name in (self.entry, self.mixer, self.mlp_entry, self.mlp, self.branch) if name}


@dataclass(frozen=True, kw_only=True)
class Block:
    """A residual block of a model."""

    path: str
    form: BlockForm

    def part(self, name: str) -> str:
        """The path of one of its children, given as the form names it."""
        return f"{self.path}.{name}"

    @property
    def mixer(self) -> str:
        return self.part(self.form.mixer)


# The first form whose children a module has is the module's: those with more children come first.
BLOCK_FORMS: Registry[BlockForm] = Registry(
    "form of block",
    {
        "metaformer": BlockForm(entry="norm1", mixer="token_mixer", mlp_entry="norm2", mlp="channel_mlp"),
        "timm_metaformer": BlockForm(entry="norm1", mixer="token_mixer", mlp_entry="norm2", mlp="mlp"),
        "transformer": BlockForm(entry="norm1", mixer="attn", mlp_entry="norm2", mlp="mlp"),
        "torchvision_vit": BlockForm(entry="ln_1", mixer="self_attention", mlp_entry="ln_2", mlp="mlp"),
        "resmlp": BlockForm(entry="norm1", mixer="linear_tokens", mlp_entry="norm2", mlp="mlp_channels"),
        "mlp_mixer": BlockForm(entry="norm1", mixer="mlp_tokens", mlp_entry="norm2", mlp="mlp_channels"),
        "bottleneck": BlockForm(entry="conv1", mixer="conv2", branch="bn3"),
        "basic": BlockForm(entry="conv1", mixer="conv1", branch="bn2"),
    },
)


def find_blocks(model: nn.Module) -> tuple[Block, ...]:
    """The residual blocks, in the model's order; none lies inside another.

    Raises:
        ConfigError: No module looks like one.
    """
    found: list[Block] = []
    for path, module in model.named_modules():
        if found and path.startswith(f"{found[-1].path}."):
            continue
        names = {name for name, _ in module.named_children()}
        form = next((form for _, form in BLOCK_FORMS.items() if form.children <= names), None)
        if form is not None and path:
            found.append(Block(path=path, form=form))
    if not found:
        forms = "; ".join(f"{name} ({', '.join(sorted(form.children))})" for name, form in BLOCK_FORMS.items())
        raise ConfigError(
            f"no residual blocks found in {type(model).__name__}. Known by their parts: {forms}. "
            "Add yours to metaformer.analysis.BLOCK_FORMS."
        )
    return tuple(found)
