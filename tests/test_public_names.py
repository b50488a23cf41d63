import re

import metaformer

NAMES = [
    "TOKEN_MIXERS",
    "BlockConfig",
    "ConfigError",
    "Cost",
    "MetaFormer",
    "MetaFormerBlock",
    "MetaFormerConfig",
    "ShapeError",
    "Site",
    "__version__",
    "analyze",
    "bench",
    "create_model",
    "list_models",
    "load_weights",
    "optimize",
    "profile",
    "train",
]


def test_the_public_names():
    assert sorted(metaformer.__all__) == sorted(NAMES)


def test_every_public_name_exists():
    assert [name for name in NAMES if not hasattr(metaformer, name)] == []


def test_train_is_a_function_before_and_after_its_subpackage_is_imported(run_python):
    code = (
        "import inspect, metaformer as mf\n"
        "from metaformer.train.config import TrainConfig\n"
        "try: mf.train(None, ot='x')\n"
        "except TypeError as error: print(error)"
    )
    assert "unexpected keyword argument 'ot'" in run_python(code)


def test_the_version_is_one():
    assert re.fullmatch(r"\d+\.\d+\.\d+", metaformer.__version__)


FLAGS = """
import torch
def flags():
    return [
        torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads(), torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision(), torch.initial_seed(),
        torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic,
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.backends.mkldnn.enabled,
        torch.backends.cuda.flash_sdp_enabled(), torch.backends.mha.get_fastpath_enabled(),
        torch.get_rng_state().tolist(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled(),
    ]
torch.manual_seed(0)
before = flags()
import metaformer
assert flags() == before
"""


def test_importing_prints_nothing_sets_no_flag_of_torch_and_writes_no_file(run_python, tmp_path):
    assert run_python(FLAGS, HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path)) == ""
    assert list(tmp_path.iterdir()) == []


def test_importing_needs_no_extra(run_python):
    code = """
import sys
import metaformer
extras = ["sklearn", "lightning_fabric", "torchmetrics", "jinja2", "plotly", "scipy", "beartype", "pytest"]
print([name for name in extras if name in sys.modules])
"""
    assert run_python(code).strip() == "[]"
