"""MetaFormer models: config, patch embedding, head, the model, the zoo, weights."""
