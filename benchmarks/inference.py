"""Inference of the four models of the target table beside their peers: python benchmarks/inference.py [FOLDER].

Each model leaves a run.json in its folder. Alone on the machine, about 20 minutes on 2 cores; peers that are not
installed are skipped (pip install onnxruntime onnxscript openvino).
"""

import sys
from pathlib import Path

from metaformer.cli.bench import bench

MODELS = ("poolformer_s12", "poolformerv2_s12", "convformer_s18", "caformer_s18")

if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/bench")
    for name in MODELS:
        bench(name, batch_sizes=(1, 8), dtypes=("fp32", "bf16"), out=folder / name)
