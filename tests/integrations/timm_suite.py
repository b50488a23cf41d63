"""Runs timm's own model tests, of the release that is installed, on our models: `make test-timm`.

The tests come from timm's source release, which pip fetches into build/; none of their code is part of this
repository. Arguments go on to pytest: `python tests/integrations/timm_suite.py -k 'mf_poolformer_s12 and fx'`.
"""

import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

BUILD = Path(__file__).parents[2] / "build"
NUM_WORKERS = 2
# Without TorchScript: it is on its way out of PyTorch, and it cannot read jaxtyping's signatures.
# -p imports our module before timm's tests ask for the list of models.
PLUGIN = ["-p", "metaformer.integrations.timm"]
CHOICE = ["-k", "mf_ and not torchscript", "-n", str(NUM_WORKERS), "-q", "-rs", "--disable-warnings"]


def fetch_suite(release: str) -> Path:
    """The folder of timm's source release, fetched once."""
    folder = BUILD / f"timm-{release}"
    if not (folder / "tests" / "test_models.py").is_file():
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--no-binary", "timm", "--dest", str(BUILD), f"timm=={release}"], check=True)
        with tarfile.open(BUILD / f"timm-{release}.tar.gz") as archive:
            wanted = [file for file in archive.getmembers() if "/tests/" in file.name or "pyproject" in file.name]
            archive.extractall(BUILD, wanted, filter="data")
    return folder


def main() -> int:
    release = version("timm")
    folder = fetch_suite(release)
    print(f"timm {release}: its tests on our models", flush=True)  # noqa: T201 (a script)
    command = [sys.executable, "-m", "pytest", "tests/test_models.py", *PLUGIN, *CHOICE, *sys.argv[1:]]
    num_threads = max(1, (os.cpu_count() or 1) // NUM_WORKERS)
    # In a folder of its own, so that neither our pytest settings nor the shape hook apply.
    done = subprocess.run(command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": str(num_threads)}, check=False)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
