"""A training step of poolformer_s12 beside timm's, time and peak memory: python benchmarks/training_step.py [FOLDER].

Alone on the machine, about 15 minutes on 2 cores.
"""

import sys
from pathlib import Path

from metaformer.cli.bench import bench

if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/bench")
    bench(batch_sizes=(1,), peers=(), dtypes=("fp32", "bf16"), training_batch_size=16, out=folder / "training")
