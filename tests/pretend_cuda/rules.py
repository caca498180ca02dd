"""Which operations take tensors of two devices: the rules of ATen on CUDA

Every operation asks all its tensors to be on one device, with these exceptions:

1. Copies (`copy_`, `.to`) go anywhere.
2. Elementwise operations, `where` and `lerp` among them, take tensors of the processor that have no dimension, as
   numbers; only as inputs, never as what is written. `fill_` takes its number from anywhere.
3. `masked_fill` takes a number of the processor as its value; its mask must be on the device, whatever its shape.
4. Indexing a tensor of the device takes indices of the processor, which are copied; a value that is put there may be a
   number of the processor. A tensor of the processor cannot be indexed with indices of the device.

So a number of the processor in `stack` or `cat` is refused: they make a dimension of it first.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

COPIES = {"_to_copy", "copy_", "copy", "_foreach_copy_", "_pin_memory"}
UNTAGGED = {"rsub", "floor_divide", "__iand__", "__ior__", "__ixor__"}  # elementwise, without torch's tag
INDEXING = {"index", "index_put", "index_put_", "_unsafe_index", "_unsafe_index_put", "_index_put_impl_"}


class MixedDevices(RuntimeError):
    """What CUDA says when tensors of two devices meet."""


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in nested arguments: what ATen takes is flat or lists, where torch's pytree would cost more."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (tuple, list)):
        return []
    return [tensor for part in value for tensor in tensors_in(part)]


def each_tensor(change: Callable[[Tensor], Any], value: Any) -> Any:
    """Nested arguments, or results, with something else in the place of each tensor."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: each_tensor(change, part) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)([each_tensor(change, part) for part in value])
    return value


@cache
def may_alias(operation: Any) -> bool:
    """Whether a result may share memory with an argument, by the operation's signature."""
    schema = operation._schema
    return any(part.alias_info is not None for part in (*schema.arguments, *schema.returns))


@cache
def is_elementwise(operation: Any) -> bool:
    """Whether an operation goes element by element, as torch tags it or its form that writes into nothing."""
    name = operation.overloadpacket.__name__
    plain = getattr(torch.ops.aten, name.rstrip("_"), operation.overloadpacket)
    tagged = any(torch.Tag.pointwise in getattr(plain, overload).tags for overload in plain.overloads())
    return tagged or name in UNTAGGED or name.startswith("_foreach_")


def written(operation: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that an operation writes into."""
    found = []
    for place, argument in enumerate(operation._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[place] if place < len(args) else kwargs.get(argument.name)
            found += tensors_in(given)
    return found


def may_meet(operation: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether an operation takes its arguments, which are on both devices."""
    def on_device(value: Any) -> bool:
        return all(tensor.device.type == "cuda" for tensor in tensors_in(value))

    def are_numbers(value: Any) -> bool:
        return all(tensor.device.type == "cuda" or tensor.dim() == 0 for tensor in tensors_in(value))

    if name in COPIES:
        return True
    if name in ("fill", "fill_"):
        return are_numbers(args[1])
    if name in ("masked_fill", "masked_fill_"):
        return on_device(args[:2]) and are_numbers(args[2])
    if name in INDEXING:
        return on_device(args[0]) and are_numbers(args[2:])
    if is_elementwise(operation):
        return are_numbers((args, kwargs)) and on_device(written(operation, args, kwargs))
    return False


def check(operation: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any], line: Callable[[], str]) -> None:
    """Raise `MixedDevices` where ATen on CUDA would, naming the line of the project."""
    tensors = tensors_in((args, kwargs))
    if len({tensor.device for tensor in tensors}) > 1 and not may_meet(operation, name, args, kwargs):
        shown = ", ".join(f"{tensor.device.type}{tuple(tensor.shape)}" for tensor in tensors)
        raise MixedDevices("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and "
                           f"cpu! ({name}({shown}) at {line()})")


def check_generator(kwargs: dict[str, Any], device: str) -> None:
    """Raise as torch does where a generator is of another kind of device than what is drawn."""
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type != device:
        raise RuntimeError(f"Expected a '{device}' device type for generator but found '{generator.device.type}'")
