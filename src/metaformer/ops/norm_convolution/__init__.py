"""A dense convolution with what surrounds it: norm, activation, residual; a 1x1 kernel is a linear layer."""
