"""State is saved and loaded here: a model's folder and a run's checkpoints, each written whole or not at all."""

import json
import math
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mavil_edu.card import model_card, run_of
from mavil_edu.config import ModelConfig, from_dict, to_dict
from mavil_edu.files import brief, read_json, write_folder, write_into, write_json, write_text
from mavil_edu.sharding import part_of, whole_moments

MODEL_FILE, CONFIG_FILE, CARD_FILE, STATE_FILE = "model.safetensors", "config.json", "README.md", "state.json"
CARD_MARK = "library_name: mavil_edu"  # in each model card
OPTIMISER_FILE, RANDOM_FILE = "optimiser.safetensors", "random.safetensors"
KEEP = 2  # newest checkpoints that a run keeps, and beside them the best
SHIPPED = Path(__file__).parent / "weights"  # models that come with the package, by name


def versions() -> dict[str, str]:
    """The versions that a run's numbers depend on."""
    found = {"python": platform.python_version()}
    for name in ("mavil-edu", "torch", "torchaudio", "torchvision", "lightning-fabric", "av", "einops", "scikit-learn"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def _save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """safetensors' save_file, whose errors of the disk are OSErrors."""
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        raise OSError(f"{path.name} cannot be written: {error}") from error


def tensors_of(module: nn.Module, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """A module's tensors by name, on the CPU; those of floating point in `dtype`, where one is given."""
    return {
        name: (value.to(dtype) if dtype and value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in module.state_dict().items()
    }


def _known_run(model: nn.Module) -> Path | None:
    """The run's folder that a model was loaded from, as long as its weights are still those of the file."""
    folder = getattr(model, "loaded_from", None)
    run = folder and run_of(folder)
    if not run or not (folder / MODEL_FILE).is_file():
        return None
    ours, stored = tensors_of(model, torch.float32), load_file(folder / MODEL_FILE)
    same = ours.keys() == stored.keys() and all(torch.equal(ours[name], stored[name].to(ours[name].dtype)) for name in ours)
    return run if same else None


def _check_finite(tensors: dict[str, Tensor], path: Path) -> None:
    """Raises ValueError where a tensor holds NaN or infinity, which every loss and every answer would inherit."""
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ValueError(f"{name} in {path} holds NaN or infinity: the file is damaged, or its training failed.")


def _check_shapes(build: Callable[[ModelConfig], nn.Module], config: ModelConfig, path: Path) -> None:
    """Raises ValueError where a file's tensors are not those of a config's model; compared without making either."""
    with torch.device("meta"), Undrawn():
        wanted = {name: list(value.shape) for name, value in build(config).state_dict().items()}
    with safe_open(path, "pt") as file:
        stored = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118, it is no dict
    if wrong := sorted(name for name in wanted.keys() | stored.keys() if wanted.get(name) != stored.get(name)):
        name = wrong[0]
        raise ValueError(
            f"The model in {path.parent} cannot be read: {name} has shape {stored.get(name)} in {path.name} and {wanted.get(name)} by "
            f"{CONFIG_FILE}, the first of {len(wrong)} such tensors. Was its config changed?"
        )


class Undrawn(TorchFunctionMode):
    """Nothing is drawn while this is on: torch imports 150 MB of code, for seconds, to draw normal numbers for a tensor without memory."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return args[0] if func is Tensor.normal_ else func(*args, **(kwargs or {}))


def without_decoders(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A model's tensors by name, less those of its decoders: what encoding, retrieval and fine-tuning need."""
    return {name: value for name, value in tensors.items() if not name.startswith(("audio_decoder.", "video_decoder."))}


def _own_names(folder: Path) -> list[str]:
    """The files of a model, in the order in which they are replaced in a folder; a README.md that is no model card is not among them."""
    card = folder / CARD_FILE
    foreign = card.is_file() and CARD_MARK.encode() not in card.read_bytes()
    return [MODEL_FILE, CONFIG_FILE] + ([] if foreign else [CARD_FILE])


def save_model(
    model: nn.Module,
    folder: str | Path,
    dtype: torch.dtype | None = None,
    run: str | Path | None = None,
    name: str | None = None,
    decoders: bool = True,
) -> Path:
    """Writes a model's folder: `model.safetensors`, `config.json` (the model's sizes only) and a model card.

    dtype: torch.float16 halves the file; the model itself is left as it is. run: a run's folder whose numbers the card tells; by default
    the one around `folder`, or the one that the model was loaded from and not trained since. name: by which the card says to load it.
    decoders: False leaves them out; such a model encodes, and cannot reconstruct.
    A new folder appears whole, and one that holds a model alone is replaced whole. Whatever else a folder holds stays, a README.md of its
    own too; there the weights are replaced first, then the config that tells their shapes, at once. Raises ValueError where a config.json
    stands without weights, as in a run's own folder: it belongs to something else.
    """
    folder, config = Path(folder), model.config if decoders else replace(model.config, decoder=None)
    keep = (lambda tensors: tensors) if decoders else without_decoders
    run = Path(run) if run is not None else run_of(folder) or _known_run(model)
    place = Path(os.path.realpath(folder))  # a link to a folder stays one
    name = name or (folder.parent.name if folder.name == "model" else folder.name) or place.name

    def fill(into: Path) -> None:
        _save_tensors(keep(tensors_of(model, dtype)), into / MODEL_FILE)
        write_json(into / CONFIG_FILE, to_dict(config))
        write_text(into / CARD_FILE, model_card(config, name, run))

    names, held = _own_names(place), {path.name for path in place.iterdir()} if place.exists() else set()
    if CONFIG_FILE in held and MODEL_FILE not in held:
        raise ValueError(f"{folder / CONFIG_FILE} is no model's, and would be lost. Save into another folder, such as {folder / 'model'}.")
    if not place.exists() or (held and held <= {*names} and place != Path.cwd()):
        write_folder(place, fill)
    else:
        write_into(place, fill, names)
    return folder


def push_model(model: nn.Module, name: str, run: str | Path | None = None, private: bool | None = None, token: str | None = None) -> str:
    """Uploads what `save_model` writes to the Hugging Face Hub, as a repository that is made where it is not there; returns its address.

    name: "owner/model". run: as `save_model` takes it. token: by default the one of `hf auth login` or $HF_TOKEN.
    Raises ValueError with a sentence where the Hub cannot be reached, refuses, or the name is none.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, LocalTokenNotFoundError

    with tempfile.TemporaryDirectory() as place:
        folder = save_model(model, Path(place) / "upload", run=run, name=name)
        api = huggingface_hub.HfApi(token=token)
        try:
            repository = api.create_repo(name, private=private, exist_ok=True)
            api.upload_folder(repo_id=repository.repo_id, folder_path=folder, commit_message="Upload a MAViL model")
        except HFValidationError as error:
            raise ValueError(f"{name!r} is no name on the Hub; give owner/model, of letters, digits, '-', '_' and '.'.") from error
        except LocalTokenNotFoundError as error:
            raise ValueError("The Hub wants a token: log in by `hf auth login`, set HF_TOKEN, or give token=…") from error
        except HfHubHTTPError as error:
            status = getattr(error.response, "status_code", None)
            if status == 401:
                raise ValueError("The Hub wants a valid token: log in by `hf auth login`, set HF_TOKEN, or give token=…") from error
            if status in (403, 404):
                raise ValueError(f"The Hub refused {name} ({status}): the token may not write there. Is the owner right?") from error
            raise ValueError(f"The Hub did not take {name} ({status or type(error).__name__}). Try again later.") from error
        except (HTTPError, OSError) as error:
            raise ValueError(f"The Hub cannot be reached ({error}). Check the network; nothing was shared.") from error
    return str(repository)


def find_model(folder_or_name: str | Path, revision: str | None = None) -> Path:
    """The folder that holds a model: the one given, its `model/` (a run's folder), one that comes with the package ("tiny"), or a
    download from the Hugging Face Hub.

    Raises ValueError where a local folder holds no model, or nothing of that name can be had.
    """
    folder = Path(folder_or_name)
    try:
        for place in (folder, folder / "model", SHIPPED / folder):
            if (place / MODEL_FILE).is_file() and (place / CONFIG_FILE).is_file():
                return place
    except OSError as error:  # a name too long, or a folder that may not be looked into
        raise ValueError(
            f"{str(folder):.80} cannot be a model's folder ({error.strerror}); check the name and your rights to it."
        ) from error
    if folder.exists():
        raise ValueError(
            f"{folder} holds no model: there is no {MODEL_FILE} with a {CONFIG_FILE} beside it, nor a model/ folder with them."
        )
    if len(folder.parts) != 2:
        raise ValueError(f"There is no folder {folder}. Give a run's folder, its model/ folder, or a Hub name such as owner/model.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(str(folder_or_name), revision=revision, allow_patterns=[MODEL_FILE, CONFIG_FILE, CARD_FILE]))
    except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, OSError) as error:
        raise ValueError(
            f"There is no folder {folder}, and the Hub gave no model of that name ({type(error).__name__}). Check the name and the network."
        ) from error


def load_model(build: Callable[[ModelConfig], nn.Module], folder_or_name: str | Path, revision: str | None = None) -> nn.Module:
    """Builds a model by its saved config and gives it its saved weights, in float32 and evaluation mode.

    build: makes the model of a ModelConfig, such as the class itself. Raises ValueError where the folder holds no model, or a
    config or weights that do not fit or are no numbers.
    """
    folder = find_model(folder_or_name, revision)
    config, path = from_dict(ModelConfig, read_json(folder / CONFIG_FILE)), folder / MODEL_FILE
    try:
        _check_shapes(build, config, path)
        weights = load_file(path)
        _check_finite(weights, path)
        model = build(config)
        model.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"The model in {folder} cannot be read ({brief(error)}). Was the file cut short, or its config changed?"
        ) from error
    model.loaded_from = folder  # for its card
    return model.eval()


def save_checkpoint(
    folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, state: dict[str, Any], random: dict[str, Tensor] | None = None
) -> None:
    """Writes all that a run needs to go on, as one folder moved into place by one rename, and removes others.

    Kept are the two newest, and of all the one whose `state["held_out"]`, the total loss on held-out clips, is lowest, where it is known.
    folder: the run's `checkpoints/`; the new one is `step-0001234` in it, by `state["step"]`. optimiser: where its moments are sharded,
    all other processes meanwhile go through `whole_moments`. state: what JSON can hold. random: the states of random generators, by name.
    """

    def fill(place: Path) -> None:
        _save_tensors(tensors_of(model), place / MODEL_FILE)
        files = 0  # `enumerate` would hold a part until it has the next
        for part in whole_moments(optimiser):
            _save_tensors(part, place / (f"{files}-{OPTIMISER_FILE}" if files else OPTIMISER_FILE))
            files += 1
            del part  # before the next one is gathered
        if random:
            _save_tensors({name: value.cpu().contiguous() for name, value in random.items()}, place / RANDOM_FILE)
        more = {"optimiser_files": files, "param_groups": optimiser.state_dict()["param_groups"]}
        write_json(place / STATE_FILE, state | more)

    write_folder(folder / f"step-{state['step']:07d}", fill)
    found = list_checkpoints(folder)
    scores = {path: read_json(path / STATE_FILE).get("held_out") for path in found}
    best = min((path for path in found if scores[path] is not None), key=scores.get, default=None)
    for old in found[:-KEEP]:
        if old != best:
            hidden = old.with_name(f".{old.name}.old")  # first out of the list, whole: a kill leaves no half of a checkpoint there
            os.replace(old, hidden)
            shutil.rmtree(hidden)


def remove_leftovers(run: Path) -> None:
    """Removes what a killed process left half written in a run's folder; only one process may write there."""
    for path in (*(run / "checkpoints").glob(".step-*"), *run.glob(".model.*"), *run.glob("model/.new.*"), *run.glob(".metrics.jsonl.*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def list_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / STATE_FILE).is_file())


def load_checkpoint(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Puts the newest checkpoint's weights and moments into `model` and `optimiser`, and returns its state.

    The states of random generators, where some were saved, stand in it as `random`. Raises ValueError where there is no checkpoint, or
    the newest cannot be read.
    """
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        raise ValueError(f"{folder} holds no checkpoint to resume from. Start without --resume, or name the run's own folder.")
    newest = checkpoints[-1]
    try:
        state = read_json(newest / STATE_FILE)
        weights, packed = load_file(newest / MODEL_FILE), load_file(newest / OPTIMISER_FILE)
        if type(files := state.pop("optimiser_files", 1)) is not int or files < 1:
            raise ValueError(f"{STATE_FILE} counts {files!r:.40} files of the optimiser")
        for number in range(1, files):
            packed |= load_file(newest / f"{number}-{OPTIMISER_FILE}")
        random = load_file(newest / RANDOM_FILE) if (newest / RANDOM_FILE).exists() else {}
        for name, tensors in ((MODEL_FILE, weights), (OPTIMISER_FILE, packed)):
            _check_finite(tensors, newest / name)
        groups = _groups(state.pop("param_groups"), optimiser)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in packed.items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = value
        _check_moments(moments, optimiser)
        own = model.state_dict()
        model.load_state_dict({name: part_of(value, own[name]) if name in own else value for name, value in weights.items()})
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"The checkpoint {newest} cannot be read ({brief(error)}). Remove that folder to go on from the one before."
        ) from error
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for index, values in moments.items():
        moments[index] = {key: part_of(value, parameters[index]) for key, value in values.items()}
    optimiser.load_state_dict({"state": moments, "param_groups": groups})
    return state | ({"random": random} if random else {})


def _groups(stored: Any, optimiser: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """An optimiser's stored groups of parameters, as its own are but for the learning rate. Raises ValueError where they are not."""
    own = optimiser.state_dict()["param_groups"]
    plain = json.loads(json.dumps(own))  # as they are stored: tuples are lists
    if not isinstance(stored, list) or len(stored) != len(own) or not all(isinstance(group, dict) for group in stored):
        raise ValueError(f"{STATE_FILE} has other groups of parameters than this optimiser")
    groups = []
    for group, ours, kept in zip(stored, plain, own, strict=True):
        other = [name for name in group.keys() & ours.keys() - {"lr", "initial_lr"} if group[name] != ours[name]]
        rate = group.get("lr")
        if other or group.get("params") != ours["params"] or type(rate) not in (int, float) or not 0 <= rate < math.inf:
            raise ValueError(f"{STATE_FILE} has another {other[0] if other else 'learning rate'} than this optimiser")
        groups.append(kept | {"lr": rate})
    return groups


def _check_moments(moments: dict[int, dict[str, Tensor]], optimiser: torch.optim.Optimizer) -> None:
    """Raises ValueError where stored moments are not those of an optimiser's parameters: of each its shape, or a count."""
    sizes = [parameter.shape for group in optimiser.param_groups for parameter in group["params"]]
    for index, values in moments.items():
        fits = 0 <= index < len(sizes) and values.keys() >= {"step", "exp_avg", "exp_avg_sq"}
        if not fits or any(value.shape not in (sizes[index], ()) or not value.is_floating_point() for value in values.values()):
            raise ValueError(f"{OPTIMISER_FILE} has moments of parameter {index} that are not this optimiser's")
