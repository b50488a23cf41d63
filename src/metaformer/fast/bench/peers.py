"""Who is measured: our model in two forms, and its opponents. One function each, and one table."""

import contextlib
import copy
import importlib.util
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from metaformer.core.compiling import compile_alone
from metaformer.fast.candidates import COMPILE_OPTIONS
from metaformer.fast.contest import Applied, NotHereError
from metaformer.fast.optimize import optimize
from metaformer.models.config import MetaFormerConfig
from metaformer.models.layouts import LAYOUTS
from metaformer.models.metaformer import MetaFormer
from metaformer.models.zoo import ZOO

YARDSTICK = "resnet18, compiled"

Call = Callable[[], Tensor]


@dataclass(frozen=True, kw_only=True)
class BenchCase:
    """One model with its weights, one batch, one dtype."""

    name: str  # in the zoo
    model: MetaFormer  # with the head that timm computes, so that all of them are one function
    example: Tensor  # float32
    dtype: torch.dtype  # what they compute in


def bench_case(name: str, *, batch_size: int, image_size: int | None, dtype: torch.dtype) -> BenchCase:
    """The model with random weights whose class scores depend on every block."""
    config = _with_timms_head(ZOO[name])
    if image_size is not None:
        config = replace(config, image_size=(image_size, image_size))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MetaFormer(config).eval().requires_grad_(False)
        for parameter_name, parameter in model.named_parameters():
            if "layer_scale" in parameter_name:
                # From their first value of 1e-5 a wrong block could not be seen in the scores.
                parameter.fill_(0.3)
        example = torch.randn(batch_size, config.in_chans, *config.image_size)
    return BenchCase(name=name, model=model, example=example, dtype=dtype)


def ours_eager(one: BenchCase) -> Call:
    """Our model as it is created."""
    return _call(copy.deepcopy(one.model), one)


def ours_optimized(one: BenchCase) -> Call:
    """What `metaformer.optimize` returns."""
    with warnings.catch_warnings():
        # That the model itself is returned is seen in the numbers.
        warnings.simplefilter("ignore", UserWarning)
        model = optimize(one.model, one.example, dtype=one.dtype)
    return Applied(model, one.example)


def timm_eager(one: BenchCase) -> Call:
    """The model of timm as its users run it."""
    return _call(_timm_model(one), one)


def timm_channels_last(one: BenchCase) -> Call:
    """The model of timm with the channels together in memory."""
    model = _timm_model(one).to(one.dtype).to(memory_format=torch.channels_last)
    x = one.example.to(dtype=one.dtype, memory_format=torch.channels_last)
    return lambda: model(x).float()


def timm_compiled(one: BenchCase) -> Call:
    """The model of timm, compiled with frozen weights."""
    return _call(_timm_model(one), one, compiled=True)


def onnx_runtime(one: BenchCase) -> Call:
    """The model of timm in ONNX Runtime."""
    if one.dtype != torch.float32:
        raise NotHereError("its CPU kernels compute in float32")
    _require("onnxruntime", "onnxscript")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with _onnx_file(one) as path:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name, x = session.get_inputs()[0].name, one.example.numpy()
    return lambda: torch.from_numpy(session.run(None, {name: x})[0])


def openvino(one: BenchCase) -> Call:
    """The model of timm in OpenVINO."""
    _require("openvino", "onnxscript")
    import openvino as runtime

    core = runtime.Core()
    precision = "bf16" if one.dtype == torch.bfloat16 else "f32"
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise NotHereError("OpenVINO says that this processor has no bf16")
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": precision,
    }
    with _onnx_file(one) as path:
        request = core.compile_model(core.read_model(path), "CPU", options).create_infer_request()
    x = one.example.numpy()
    return lambda: torch.from_numpy(next(iter(request.infer({0: x}).values())))


def yardstick(one: BenchCase) -> Call:
    """ResNet-18, which has the multiply-adds of poolformer_s12; another function."""
    model = timm.create_model("resnet18").eval().requires_grad_(False)
    return _call(model, one, compiled=True)


# The first is what ratios refer to, the second what outputs are compared with.
PEERS: dict[str, Callable[[BenchCase], Call]] = {
    "ours, optimized": ours_optimized,
    "ours, eager": ours_eager,
    "timm, eager": timm_eager,
    "timm, channels last": timm_channels_last,
    "timm, compiled + freezing": timm_compiled,
    "ONNX Runtime": onnx_runtime,
    "OpenVINO": openvino,
    YARDSTICK: yardstick,
}


def timm_state(name: str, model: MetaFormer) -> dict[str, Tensor]:
    """The model's weights under timm's names.

    Raises:
        NotHereError: timm has no such model.
    """
    if not timm.is_model(name):
        raise NotHereError(f"timm has no {name}")
    state, left_out = LAYOUTS["timm"].export(model.state_dict(), model.config)
    if left_out:
        raise NotHereError(f"timm has no place for {left_out[0]}")
    return state


def _timm_model(one: BenchCase) -> nn.Module:
    state = timm_state(one.name, one.model)
    model = timm.create_model(one.name).eval().requires_grad_(False)
    model.load_state_dict(state)
    return model


def _with_timms_head(config: MetaFormerConfig) -> MetaFormerConfig:
    return replace(config, head=LAYOUTS["timm"].head(config.head))


def _call(model: nn.Module, one: BenchCase, *, compiled: bool = False) -> Call:
    """The model in the contest's dtype, on images that are in it already."""
    model, x = model.to(one.dtype), one.example.to(one.dtype)
    run = compile_alone(model, COMPILE_OPTIONS) if compiled else model
    return lambda: run(x).float()


def _require(*modules: str) -> None:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise NotHereError(f"not installed: pip install {' '.join(missing)}")


@contextlib.contextmanager
def _onnx_file(one: BenchCase) -> Iterator[str]:
    """The model of timm as an ONNX file, for as long as it is read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        # The exporter tells its steps, and what it would rather have installed.
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(_timm_model(one), (one.example,), dynamo=True, verbose=False)
            assert program is not None
            program.save(str(path), external_data=False)
        yield str(path)
