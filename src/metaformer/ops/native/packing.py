"""Weights in the order in which the C++ operators read them.

Letters: P panels, K depth (the summed axis), T columns of a panel, S blocks of the depth, D the depth of a block. Every
layout says all that is needed to read it back, so that the plain operators can use the same tensors.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# Hidden channels of an MLP that are held at a time: a tile of tokens by so many floats stays in a core's cache.
HIDDEN_BLOCK = 256


def round_up(number: int, multiple: int) -> int:
    """The smallest multiple that is not below the number."""
    return -(-number // multiple) * multiple


def pack_panels(weight: Float[Tensor, "n k"], tile_columns: int) -> Float[Tensor, "p k t"]:
    """A matrix (outputs, inputs) as panels of `tile_columns` outputs; the last one is filled up with zeros."""
    padded = F.pad(weight, (0, 0, 0, -weight.shape[0] % tile_columns))
    return padded.unflatten(0, (-1, tile_columns)).transpose(1, 2).contiguous()


def unpack_panels(panels_PKT: Float[Tensor, "p k t"], outputs: int) -> Float[Tensor, "n k"]:
    """The matrix that `pack_panels` was given."""
    return panels_PKT.transpose(1, 2).flatten(0, 1)[:outputs]


def pack_blocks(weight: Float[Tensor, "n k"], tile_columns: int) -> Float[Tensor, "s p d t"]:
    """A matrix as blocks of inputs, each in panels; the last block is filled up with zeros."""
    block = HIDDEN_BLOCK // tile_columns * tile_columns
    padded = F.pad(weight, (0, -weight.shape[1] % block))
    return torch.stack([pack_panels(part, tile_columns) for part in padded.split(block, dim=1)])


def unpack_blocks(blocks_SPDT: Float[Tensor, "s p d t"], outputs: int, inputs: int) -> Float[Tensor, "n k"]:
    """The matrix that `pack_blocks` was given."""
    return torch.cat([unpack_panels(panels, outputs) for panels in blocks_SPDT], dim=1)[:, :inputs]


def fill_up(vector: Float[Tensor, " n"], multiple: int) -> Float[Tensor, " m"]:
    """The vector with zeros at the end, up to a multiple."""
    return F.pad(vector, (0, -vector.numel() % multiple)).contiguous()


def pack_depthwise(weight: Float[Tensor, "c 1 k k"], lanes: int) -> Float[Tensor, "v k k l"]:
    """A depthwise kernel as blocks of `lanes` channels; the last one is filled up with zeros."""
    padded = F.pad(weight[:, 0], (0, 0, 0, 0, 0, -weight.shape[0] % lanes))
    return padded.unflatten(0, (-1, lanes)).permute(0, 2, 3, 1).contiguous()


def unpack_depthwise(blocks: Float[Tensor, "v k k l"], channels: int) -> Float[Tensor, "c 1 k k"]:
    """The kernel that `pack_depthwise` was given."""
    return blocks.permute(0, 3, 1, 2).flatten(0, 1)[:channels, None]
