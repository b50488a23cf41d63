"""The channel MLP sub-block in one pass: norm, two linear layers, activation, LayerScale, residual."""
