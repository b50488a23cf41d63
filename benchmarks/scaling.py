"""How the time of the pooling model grows with the tokens, 128 to 1024 pixels: python benchmarks/scaling.py [FOLDER].

Alone on the machine, about 3 minutes on 2 cores.
"""

import sys
from pathlib import Path

from metaformer.cli.bench import bench

if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/bench")
    bench(batch_sizes=(1,), peers=("ours, eager",), scaling=(128, 256, 512, 1024), out=folder / "scaling")
