"""State is saved and loaded here: a model's folder and a run's checkpoints, each written whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mavil_edu.config import ModelConfig, from_dict, to_dict

MODEL_FILE, CONFIG_FILE, STATE_FILE = "model.safetensors", "config.json", "state.json"
KEEP = 2  # newest checkpoints that a run keeps
SHIPPED = Path(__file__).parent / "weights"  # models that come with the package, by name

CARD = """---
library_name: mavil_edu
license: mit
tags: [masked-autoencoder, audio-visual, self-supervised]
---
# A MAViL model

Pre-trained with [mavil_edu] on unlabelled clips: masked reconstruction of sound and pictures, and contrast between and within them.

```python
from mavil_edu import MAViL

model = MAViL.from_pretrained("{name}")
encoded = model.eval().encode(audio=spectrogram, video=clip)  # audio (b, 1, {audio}), video (b, 3, {video})
encoded.audio_embedding, encoded.video_embedding
```

{tokens}. Method: MAViL, arXiv 2212.08071; this is an independent implementation, and not the authors' weights.
"""


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when all went well, so that no half-written file is ever seen."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_folder(folder: Path, fill) -> None:
    """Calls `fill(temporary folder)`, then moves that folder into place by one rename; an old folder there is replaced."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        fill(temporary)
        for path in temporary.iterdir():  # safetensors and tempfile make them for their owner alone
            path.chmod(0o644)
        temporary.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
            os.replace(folder, old)
            os.replace(temporary, folder)
            shutil.rmtree(old)
        else:
            os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _tensors(module: nn.Module, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    return {
        name: (value.to(dtype) if dtype and value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in module.state_dict().items()
    }


def save_model(model: nn.Module, folder: str | Path, dtype: torch.dtype | None = None) -> Path:
    """Writes a model's folder: `model.safetensors`, `config.json` (the model's sizes only) and a model card.

    dtype: torch.float16 halves the file; the model itself is left as it is.
    """
    folder, config = Path(folder), model.config

    def fill(place: Path) -> None:
        save_file(_tensors(model, dtype), place / MODEL_FILE)
        write_json(place / CONFIG_FILE, to_dict(config))
        audio = f"{config.audio.frames}, {config.audio.mel_bins}"
        video = f"{config.video.frames}, {config.video.height}, {config.video.width}"
        tokens = (
            f"{config.audio.tokens} audio tokens of {config.audio.seconds:g} s, "
            f"{config.video.tokens} video tokens of {config.video.seconds:g} s"
        )
        write_text(place / "README.md", CARD.format(name=folder.name, audio=audio, video=video, tokens=tokens))

    write_folder(folder, fill)
    return folder


def find_model(folder_or_name: str | Path, revision: str | None = None) -> Path:
    """The folder that holds a model: the one given, its `model/` (a run's folder), one that comes with the package ("tiny"), or a
    download from the Hugging Face Hub.

    Raises ValueError where a local folder holds no model, or nothing of that name can be had.
    """
    folder = Path(folder_or_name)
    for place in (folder, folder / "model", SHIPPED / folder):
        if (place / MODEL_FILE).is_file() and (place / CONFIG_FILE).is_file():
            return place
    if folder.exists():
        raise ValueError(
            f"{folder} holds no model: there is no {MODEL_FILE} with a {CONFIG_FILE} beside it, nor a model/ folder with them."
        )
    if len(folder.parts) != 2:
        raise ValueError(f"There is no folder {folder}. Give a run's folder, its model/ folder, or a Hub name such as owner/model.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(str(folder_or_name), revision=revision, allow_patterns=[MODEL_FILE, CONFIG_FILE, "README.md"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, OSError) as error:
        raise ValueError(
            f"There is no folder {folder}, and the Hub gave no model of that name ({type(error).__name__}). Check the name and the network."
        ) from error


def load_model(build: Callable[[ModelConfig], nn.Module], folder_or_name: str | Path, revision: str | None = None) -> nn.Module:
    """Builds a model by its saved config and gives it its saved weights, in float32 and evaluation mode.

    build: makes the model of a ModelConfig, such as the class itself. Raises ValueError where the folder holds no model, or a
    config or weights that do not fit.
    """
    folder = find_model(folder_or_name, revision)
    try:
        model = build(from_dict(ModelConfig, json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))))
        model.load_state_dict(load_file(folder / MODEL_FILE))
    except (json.JSONDecodeError, SafetensorError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"The model in {folder} cannot be read ({first}). Was the file cut short, or its config changed?") from error
    return model.eval()


def save_checkpoint(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Writes all that a run needs to go on, as one folder moved into place by one rename, and removes the oldest.

    folder: the run's `checkpoints/`; the new one is `step-0001234` in it, by `state["step"]`. state: what JSON can hold.
    """
    packed = optimiser.state_dict()
    moments = {f"{index}.{name}": value for index, values in packed["state"].items() for name, value in values.items()}

    def fill(place: Path) -> None:
        save_file(_tensors(model), place / MODEL_FILE)
        save_file(
            {name: torch.as_tensor(value).detach().cpu().contiguous() for name, value in moments.items()}, place / "optimiser.safetensors"
        )
        write_json(place / STATE_FILE, state | {"param_groups": packed["param_groups"]})

    write_folder(folder / f"step-{state['step']:07d}", fill)
    for old in list_checkpoints(folder)[:-KEEP]:
        shutil.rmtree(old)


def list_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / STATE_FILE).is_file())


def load_checkpoint(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Puts the newest checkpoint's weights and moments into `model` and `optimiser`, and returns its state.

    Raises ValueError where there is none.
    """
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        raise ValueError(f"{folder} holds no checkpoint to resume from. Start without --resume, or name the run's own folder.")
    newest = checkpoints[-1]
    state = json.loads((newest / STATE_FILE).read_text(encoding="utf-8"))
    model.load_state_dict(load_file(newest / MODEL_FILE))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in load_file(newest / "optimiser.safetensors").items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": moments, "param_groups": state.pop("param_groups")})
    return state
