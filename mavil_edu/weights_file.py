"""A file of somebody's weights as named tensors: nothing in it is ever run, and what cannot be weights is refused in a sentence."""

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

IN_A_BLOCK = re.compile(r"(blocks|blocks_v|blocks_av)\.\d+\.")


class ReleasedError(ValueError):
    """A file of published weights cannot be used, or not as asked; the message says why and what to do."""


class Report(NamedTuple):
    """What of a file went into a model, by the file's names."""

    path: str
    used: tuple[str, ...]  # keys that were loaded
    ignored: tuple[str, ...]  # keys that the file has and the model has no place for
    missing: tuple[str, ...]  # parts that a model may have and the file has not, by our names


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _unpickled(path: Path) -> Any:
    """What torch.save wrote, numbers alone: whatever would run code is refused. Tensors stay in the file until they are used."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # plain settings, which training scripts save beside the weights
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # what a damaged or crafted pickle raises has no limits
        found = re.search(r"GLOBAL (\S+)|class (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and found:
            raise ReleasedError(
                f"{path} holds more than numbers ({found[1] or found[2]}): reading that can run anyone's code, so it is refused, "
                "and nothing was run. Get a file that holds tensors alone."
            ) from error
        raise ReleasedError(
            f"{path} cannot be read as a torch file ({type(error).__name__}). Was it cut short, or is it another format?"
        ) from error


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a torch or safetensors file, of `{"model": …}` or of the dict itself, mapped into memory and not copied.

    Never runs code of the file. While the tensors live the file must stay as it is (writing a new one by rename does no harm).
    Raises ReleasedError where there is no such file, it is damaged, or holds anything that could run.
    """
    path = Path(path)
    if not path.is_file():
        raise ReleasedError(f"There is no file {path}. Name the file of weights that you have downloaded.")
    if _is_safetensors(path):
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ReleasedError(f"{path} is a damaged safetensors file ({error}). Was it cut short?") from error
    found = _unpickled(path)
    for name in ("model", "state_dict"):
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not any(isinstance(value, Tensor) for value in found.values()):
        raise ReleasedError(f'{path} holds no dict of named tensors, neither under "model" nor by itself: it is no file of weights.')
    state = {str(name): value.detach() for name, value in found.items() if isinstance(value, Tensor)}
    told, there = sum(value.numel() * value.element_size() for value in state.values()), path.stat().st_size
    if told > there:
        raise ReleasedError(f"{path} has {there} bytes, but its tensors claim {told}: it is damaged, or made to harm.")
    return state


def check_numbers(name: str, value: Tensor, path: str) -> None:
    """Refuses what cannot be a weight: other kinds of numbers, NaN, infinity."""
    if value.layout is not torch.strided or not value.is_floating_point():
        raise ReleasedError(f"{name} in {path} is {value.dtype}, {value.layout}; weights are plain floating-point numbers.")
    if not bool(value.isfinite().all()):
        raise ReleasedError(f"{name} in {path} holds NaN or infinity: the file is damaged, or its training failed.")


def check_shape(name: str, value: Tensor, wanted: tuple[int, ...], path: str) -> None:
    """Refuses a tensor whose shape is not what the sizes around it want."""
    if tuple(value.shape) != wanted:
        raise ReleasedError(f"{name} in {path} has shape {tuple(value.shape)}, but the sizes around it want {wanted}.")


def sizes(state: Mapping[str, Tensor], name: str, axes: int, path: str) -> tuple[int, ...]:
    """The shape of a tensor that has to be there, of so many axes."""
    if name not in state:
        ours = "audio_encoder.class_token" in state
        remedy = "It was saved by mavil_edu: MAViL.from_pretrained reads its folder." if ours else "Is it another model's?"
        raise ReleasedError(f"{path} has no {name}, so it is not in the layout that is wanted here. {remedy}")
    shape = tuple(state[name].shape)
    if len(shape) != axes or 0 in shape:
        raise ReleasedError(f"{name} in {path} has shape {shape}; {axes} axes are wanted, none of them empty.")
    return shape


def depth_of(state: Mapping[str, Tensor], prefix: str, path: str) -> int:
    """How many blocks there are of a name; each must be there."""
    numbers = {int(part[1]) for name in state if (part := re.match(rf"{prefix}\.(\d{{1,6}})\.", name))}
    if numbers != set(range(len(numbers))):
        absent = min(set(range(len(numbers))) - numbers)
        raise ReleasedError(f"{path} has {len(numbers)} {prefix}, but {prefix}.{absent} is missing: the file is incomplete.")
    return len(numbers)


def renamed(name: str, places: Mapping[str, str]) -> str | None:
    """A name in the other language, or None where it has none."""
    for here, there in places.items():
        if name == here or (here.endswith(".") and name.startswith(here)):
            return there + name[len(here) :]
    return None
