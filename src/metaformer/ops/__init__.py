"""Maths on tensors, without parameters: each function is the definition that kernels are tested against."""
