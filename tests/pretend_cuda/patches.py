"""What torch decides in Python, or below the dispatcher, and must decide otherwise where there is a pretend device"""

import os
from contextlib import nullcontext
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._device import _device_constructors

from .tensor import DEVICE, PretendTensor

NAME = "pretend CUDA device"
BYTES = 80 * 2**30
VISIBLE = (os.environ.get("CUDA_VISIBLE_DEVICES") or "").split(",")  # one without a number where none are named


class _CudnnGRU(torch.autograd.Function):
    """The processor's GRU on what pretend tensors hold, in their dtype; cuDNN has a kernel or so for each layer."""

    @staticmethod
    def forward(ctx: Any, options: tuple[Any, ...], rows: Tensor, start: Tensor, *weights: Tensor) -> Any:  # type: ignore[override]
        leaves = [tensor.held.detach().requires_grad_() for tensor in (rows, start, *weights)]  # type: ignore[attr-defined]
        with torch.enable_grad():
            states, last = torch._C._VariableFunctions.gru(leaves[0], leaves[1], leaves[2:], *options)
        ctx.states, ctx.leaves = (states, last), leaves
        _count_layers(options)
        return PretendTensor(states.detach()), PretendTensor(last.detach())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        given = [gradient.held for gradient in gradients]  # type: ignore[attr-defined]
        with torch.enable_grad():
            found = torch.autograd.grad(ctx.states, ctx.leaves, given, retain_graph=True)
        return None, *(PretendTensor(gradient) for gradient in found)


def _count_layers(options: tuple[Any, ...]) -> None:
    from .counts import project_line

    if DEVICE.counting:
        DEVICE.counts.kernels["_cudnn_rnn", project_line()] += options[1]  # has biases, layers, …


def gru(rows: Tensor, start: Tensor, weights: Any, *options: Any) -> Any:
    """`nn.GRU`'s call. Under autocast cuDNN's GRU runs in float16, whatever dtype autocast was asked for."""
    if not isinstance(rows, PretendTensor):
        return torch._C._VariableFunctions.gru(rows, start, weights, *options)
    tensors = [rows, start, *weights]
    if torch.is_autocast_enabled("cuda"):
        tensors = [tensor.half() for tensor in tensors]
    return _CudnnGRU.apply(options, *tensors)


def _of_data(make: Any) -> Any:
    """`torch.tensor` or `torch.as_tensor`, which copy data to a device where no dispatch mode sees it."""
    @wraps(make)
    def made(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if device is None or torch.device(device).type != "cuda":
            return make(data, *args, **kwargs) if device is None else make(data, *args, device=device, **kwargs)
        if isinstance(data, PretendTensor):
            return data.detach().clone() if make.__name__ == "tensor" else data
        return make(data, *args, device="cpu", **kwargs).to(device)

    return made


class _Stream:
    """Everything runs in one stream, at once."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


CUDA_FUNCTIONS: dict[str, Any] = {
    "_lazy_init": lambda: None,
    "is_available": lambda: True,
    "is_initialized": lambda: True,
    "device_count": lambda: len(VISIBLE),  # only the first has tensors
    "get_device_name": lambda device=None: f"{NAME} {VISIBLE[0]}".strip(),
    "get_device_capability": lambda device=None: (9, 0),
    "is_bf16_supported": lambda including_emulation=True: True,
    "is_current_stream_capturing": lambda: False,
    "mem_get_info": lambda device=None: (BYTES, BYTES),
    "empty_cache": lambda: None,
    "memory_allocated": lambda device=None: 0,
    "max_memory_allocated": lambda device=None: 0,
    "memory_reserved": lambda device=None: 0,
    "max_memory_reserved": lambda device=None: 0,
    "reset_peak_memory_stats": lambda device=None: None,
    "current_stream": lambda device=None: _Stream(),
    "default_stream": lambda device=None: _Stream(),
    "Stream": _Stream,
    "Event": _Stream,
    "stream": lambda stream: nullcontext(),
}


BINDINGS = {"_cuda_getDevice": 0, "_cuda_exchangeDevice": 0, "_cuda_maybeExchangeDevice": 0, "_cuda_setDevice": None}


def _synchronize(device: Any = None) -> None:
    from .counts import project_line

    if DEVICE.counting:
        DEVICE.counts.syncs["synchronize", project_line()] += 1


def _swapping(convert: Any) -> Any:
    """`Module.to` that swaps what parameters hold, since they become another kind of tensor; tied ones stay tied."""
    @wraps(convert)
    def converted(*args: Any, **kwargs: Any) -> Any:
        before = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            return convert(*args, **kwargs)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(before)

    return converted


def apply() -> None:
    """Replace them, for this process."""
    for name, function in CUDA_FUNCTIONS.items():
        setattr(torch.cuda, name, function)
    for name, answer in BINDINGS.items():
        setattr(torch._C, name, lambda *_, answer=answer: answer)
    torch.cuda.synchronize = _synchronize
    torch.cuda.default_generators = (torch.Generator("cuda"),)
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    _device_constructors()  # remembers the originals, which `with torch.device(...)` looks for
    torch.tensor, torch.as_tensor = _of_data(torch.tensor), _of_data(torch.as_tensor)
    torch.Tensor.pin_memory = lambda self, *_: self  # type: ignore[method-assign, assignment]
    torch._VF.gru = gru  # type: ignore[assignment]
    torch.backends.cudnn.is_acceptable = lambda tensor: False  # a GRU asks before it lays out its weights for cuDNN
    torch.nn.Module._apply = _swapping(torch.nn.Module._apply)  # type: ignore[method-assign]
