"""The MetaFormer block: norm, token mixer, residual, norm, channel MLP, residual. One file per part."""
