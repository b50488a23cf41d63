"""What a model does and costs: probes for any nn.Module. Knows no MetaFormer."""
