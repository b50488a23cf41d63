"""Freeze digests of timm's logits for models of other families: `python freeze_digests.py`, about five minutes."""

import json
from importlib.metadata import version
from pathlib import Path

import digest
import formula
import timm
import torch
from timm.models.vision_transformer import checkpoint_filter_fn

SQUARE = (224, 224)
# Model -> sizes. Models with a position embedding have it interpolated by timm; windows divide every grid here.
CASES = {
    **{f"deit_{size}_patch16_224": (SQUARE, (160, 256)) for size in ("tiny", "small", "base")},
    **{f"vit_{size}_patch16_224": (SQUARE, (160, 256)) for size in ("small", "base")},
    **{f"resmlp_{size}_224": (SQUARE,) for size in ("12", "24", "big_24")},
    **{f"mixer_{size}_224": (SQUARE,) for size in ("s16", "b16")},
    **{f"swin_{size}_patch4_window7_224": (SQUARE, (224, 448)) for size in ("tiny", "small", "base")},
}


def main() -> None:
    """Freeze all cases."""
    torch.set_num_threads(1)
    digests = {}
    for name, sizes in CASES.items():
        model = timm.create_model(name).eval()
        shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
        state = formula.state_dict(digest.entries(shapes), 1.0)
        runs = {}
        for size in sizes:
            sized = model if size == SQUARE else timm.create_model(name, img_size=size).eval()
            sized.load_state_dict(state if size == SQUARE else checkpoint_filter_fn(dict(state), sized))
            with torch.inference_mode():
                logits = sized(formula.image(*size))
            runs["x".join(map(str, size))] = {"std": float(logits.std()), "logits": logits[:, :: digest.STEP].tolist()}
        digests[name] = {
            "source": f"timm=={version('timm')}",
            "keys_sha256": digest.keys_hash(shapes),
            "runs": runs,
        }
        print(name, {run: round(one["std"], 3) for run, one in runs.items()}, flush=True)
    file = Path(__file__).parent / "timm_digests.json"
    file.write_text(json.dumps(digests, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
