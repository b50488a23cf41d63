"""Each token mixer learns: eight random images by heart, within seconds."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from metaformer.models.metaformer import MetaFormer


def test_eight_images_are_learnt_by_heart(any_config):
    torch.manual_seed(0)
    model = MetaFormer(replace(any_config, image_size=(32, 32), num_classes=8))
    images, labels = torch.randn(8, 3, 32, 32), torch.randperm(8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(100):
        scores = model(images)
        if (scores.argmax(dim=1) == labels).all():
            break
        optimizer.zero_grad()
        F.cross_entropy(scores, labels).backward()
        optimizer.step()
    assert (model.eval()(images).argmax(dim=1) == labels).all()
