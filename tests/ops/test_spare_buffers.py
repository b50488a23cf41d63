"""Tensors that are handed out again."""

import copy

import torch

from metaformer.ops.spare_buffers import SpareBuffers, clear_spare_buffers


def test_what_was_given_back_is_handed_out_again_to_the_same_shape_and_dtype():
    spare = SpareBuffers()
    one = spare.take((3, 4), torch.float32)
    assert (one.shape, one.dtype) == ((3, 4), torch.float32)
    spare.give_back(one)
    assert spare.take((4, 3), torch.float32) is not one
    assert spare.take((3, 4), torch.float64) is not one
    assert spare.take((3, 4), torch.float32) is one
    assert spare.take((3, 4), torch.float32) is not one


def test_copies_begin_empty_and_share_what_their_originals_share():
    spare = SpareBuffers()
    spare.give_back(torch.empty(2))
    one, two = copy.deepcopy([spare, spare])
    assert one is two
    assert one is not spare
    assert not one._spare


def test_all_can_be_let_go():
    spare = SpareBuffers()
    spare.give_back(torch.empty(2))
    clear_spare_buffers()
    assert not spare._spare
