"""benchmarks/gpu.py without a GPU: all of its steps under Triton's interpreter."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "gpu.py"
LARGEST = {"torch.float32": 2e-5, "torch.float16": 4e-3, "torch.bfloat16": 3e-2}


@pytest.mark.slow
def test_every_step_leaves_its_record_and_the_kernels_are_right(tmp_path):
    pytest.importorskip("triton", reason="Triton is not installed")
    command = [sys.executable, str(SCRIPT), "--dry-run", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    records = {path.stem.partition("_")[2]: json.loads(path.read_text()) for path in sorted(tmp_path.iterdir())}
    assert list(records)[:2] == ["kernels", "beyond_32_bits"]
    assert list(records)[-1] == "training"
    assert [record["error"] for record in records.values()] == [None] * len(records)
    for row in records["kernels"]["result"]:
        allowed = 2 * LARGEST[row["dtype"]]
        assert max(row["forward"], row["grad_x"], row["grad_weight"]) < allowed, row
    for name, record in records.items():
        if name.startswith("inference"):
            assert record["result"]["ours, Triton"]["difference"] < 1e-4
    assert records["training"]["result"]["cells"]["ours, for_training"]["skipped"] is None
