"""Tensors that say they are on cuda:0 and keep their data on the processor, and what runs when they are used"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

from . import rules
from .counts import Counts, project_line

CUDA = torch.device("cuda:0")
VIEWS = {  # no kernel is launched for them
    "view", "_unsafe_view", "_reshape_alias", "t", "transpose", "permute", "slice", "select", "narrow", "expand",
    "unsqueeze", "squeeze", "split", "split_with_sizes", "chunk", "unbind", "diagonal", "unfold", "as_strided", "alias",
    "detach", "lift_fresh", "is_pinned", "record_stream", "empty", "empty_like", "empty_strided", "new_empty",
    "new_empty_strided",
}
WAITING = {  # the number of their results, or their result itself, is read by the processor
    "_local_scalar_dense", "equal", "nonzero", "masked_select", "bincount", "_unique2", "unique_dim",
    "unique_consecutive",
}
PLAIN = {"_local_scalar_dense", "equal", "is_pinned"}  # what they give is no tensor


class PretendTensor(Tensor):
    """A tensor that is on cuda:0 for all who ask; `held` is its data, on the processor."""

    held: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor, requires_grad: bool = False) -> "PretendTensor":
        assert not isinstance(inner, PretendTensor) and inner.device.type == "cpu"
        wrapper = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=CUDA, requires_grad=requires_grad)
        wrapper.held = inner
        return wrapper

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return DEVICE.run(operation, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"PretendTensor({self.held!r}, device='cuda:0')"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = PretendTensor(self.held.detach().clone(), self.requires_grad)
        return torch.nn.Parameter(copied, self.requires_grad) if isinstance(self, torch.nn.Parameter) else copied

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
                        "memory first.")

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def new_tensor(  # type: ignore[override]
        self, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
    ) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=device or CUDA, requires_grad=requires_grad)

    def pin_memory(self, *_: Any) -> Tensor:
        raise RuntimeError("cannot pin a tensor of cuda:0: only dense CPU tensors can be pinned")

    def __getitem__(self, place: Any) -> Any:
        return super().__getitem__(_on_device(place))

    def __setitem__(self, place: Any, value: Any) -> None:
        super().__setitem__(_on_device(place), value)


def _on_device(place: Any) -> Any:
    """An index in which lists and arrays are tensors of the device: torch copies them there without asking anyone."""
    def moved(part: Any) -> Any:
        if not isinstance(part, list) and not getattr(part, "shape", None):
            return part
        if isinstance(part, Tensor):
            return part
        found = torch.as_tensor(part)
        return (found if found.numel() else found.long()).to(CUDA)

    return tuple(moved(part) for part in place) if isinstance(place, tuple) else moved(place)


class PretendDevice(TorchDispatchMode):
    """Runs every operation of pretend tensors on what they hold, after asking the rules; counts what a GPU would do.

    As a mode it also sees the operations that make the first tensor on the device. It holds for one thread, and for
    what autograd runs on its behalf.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()
        self.counting = True

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing inside."""
        self.counting, before = False, self.counting
        try:
            yield
        finally:
            self.counting = before

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if PretendTensor not in types and not _is_cuda(kwargs.get("device")):  # the processor's own affair
            rules.check_generator(kwargs, "cpu")
            return operation(*args, **kwargs)
        return self.run(operation, args, kwargs)

    def run(self, operation: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """One operation that a pretend tensor takes part in, or that makes one."""
        name = operation.overloadpacket.__name__
        rules.check(operation, name, args, kwargs, project_line)
        inner_args, inner_kwargs = rules.each_tensor(_inner, args), rules.each_tensor(_inner, kwargs)
        device = kwargs.get("device")
        if device is not None:
            _must_exist(torch.device(device))
            inner_kwargs["device"] = torch.device("cpu") if _is_cuda(device) else device
        inner_kwargs.pop("pin_memory", None)
        rules.check_generator(kwargs, "cuda" if device is None else torch.device(device).type)
        if name in ("is_pinned", "record_stream"):
            return False if name == "is_pinned" else None
        if name == "_to_copy":  # pinned memory is the processor's own
            inner_kwargs.pop("non_blocking", None)
        with _borrowed(inner_kwargs):
            found = _computed(operation, name, inner_args, inner_kwargs)
        to_processor = device is not None and not _is_cuda(device)
        if self.counting:
            self._count(name, args, kwargs, inner_args, found, to_processor)
        if name in PLAIN or to_processor:
            return found
        whole = rules.each_tensor(PretendTensor, found)
        if not rules.may_alias(operation):
            return whole
        return return_and_correct_aliasing(operation, tuple(args), kwargs, whole)

    def _count(
        self, name: str, args: Sequence[Any], kwargs: dict[str, Any], inner_args: Sequence[Any], found: Any,
        to_processor: bool,
    ) -> None:
        if name in VIEWS or name.startswith("sym_"):
            return
        line, counts = project_line(), self.counts
        target, source = _ends_of_copy(name, args, to_processor)
        if target != source:
            if target == "cpu":
                if not (kwargs.get("non_blocking") or name == "copy_" and args[2:] and args[2]):
                    counts.syncs["copy to host", line] += 1
            else:
                counts.copies["copy to device", line] += 1
                counts.copied_bytes += sum(tensor.nbytes for tensor in rules.tensors_in(found))
            return
        counts.kernels[name, line] += 1
        if name in WAITING or _waits_for_indices(name, inner_args) or (
            name == "repeat_interleave" and kwargs.get("output_size") is None
        ):
            counts.syncs[name, line] += 1
        if name in rules.INDEXING:
            for index in rules.tensors_in(args[1]):
                if not isinstance(index, PretendTensor):
                    counts.copies["index", line] += 1
                    counts.copied_bytes += index.nbytes


PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}
FEWEST_ROWS = 16  # of a product from which on the weights' copy in float32 costs less than it spares


def _computed(operation: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What the processor makes of it; products of bfloat16 in float32, as on a GPU, where the processor has none.

    Without AVX-512 torch multiplies bfloat16 a fifth as fast as float32.
    """
    if name not in PRODUCTS or torch.ops.mkldnn._is_mkldnn_bf16_supported() or "out" in kwargs:
        return operation(*args, **kwargs)
    tensors = rules.tensors_in(args)
    if any(tensor.dtype != torch.bfloat16 for tensor in tensors) or tensors[-2].shape[-2] < FEWEST_ROWS:
        return operation(*args, **kwargs)
    return operation(*rules.each_tensor(Tensor.float, args), **kwargs).bfloat16()


@contextmanager
def _borrowed(kwargs: dict[str, Any]) -> Iterator[None]:
    """A generator of the processor in the place of the device's, with its state, which is given back."""
    generator = kwargs.get("generator")
    if generator is None:
        yield
        return
    kwargs["generator"] = torch.Generator()
    kwargs["generator"].set_state(generator.get_state())
    yield
    generator.set_state(kwargs["generator"].get_state())


def _is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _must_exist(device: torch.device) -> None:
    if device.type == "cuda" and device.index:
        raise RuntimeError(f"CUDA error: invalid device ordinal ({device}: there is one pretend device, cuda:0)")


def _inner(value: Any) -> Any:
    return value.held if isinstance(value, PretendTensor) else value


def _ends_of_copy(name: str, args: Sequence[Any], to_processor: bool) -> tuple[str, str]:
    """Where an operation copies to and from; the same place twice where it is no copy between devices."""
    if name == "copy_":
        return args[0].device.type, args[1].device.type
    if name == "fill_" and isinstance(args[1], Tensor):  # a number that is read first
        return ("cpu", "cuda") if args[0].device.type == "cpu" else ("cuda", "cuda")
    if name == "_to_copy":
        return "cpu" if to_processor else "cuda", args[0].device.type
    return "cuda", "cuda"


def _waits_for_indices(name: str, inner_args: Sequence[Any]) -> bool:
    """Whether a mask must be turned into indices first; putting one number at a mask is a `masked_fill`."""
    if name not in rules.INDEXING:
        return False
    masks = [index for index in rules.tensors_in(inner_args[1]) if index.dtype in (torch.bool, torch.uint8)]
    return bool(masks) and not (len(inner_args) > 2 and inner_args[2].numel() == 1)


DEVICE = PretendDevice()
