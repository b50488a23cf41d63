"""The pooling sub-block in one pass: norm, pooling mixer, LayerScale, residual, and the moments of the result."""
