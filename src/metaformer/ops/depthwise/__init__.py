"""Depthwise convolution of features whose channels lie together."""
