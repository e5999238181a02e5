"""Training that goes on from a trained model's weights, in place of fresh ones: on other clips, for another length."""

from dataclasses import replace
from pathlib import Path

from mavil_edu import files
from mavil_edu.checkpoint import CONFIG_FILE, find_model
from mavil_edu.config import Config, ModelConfig, from_dict, tiny
from mavil_edu.mavil import MAViL

DECODERS = ("audio_decoder.", "video_decoder.")


def run_of(place: str) -> Path:
    """The folder of a model's run; the model's own where it stands alone."""
    return Path(place).parent if Path(place).name == "model" else Path(place)


def read_json(path: Path) -> dict:
    """What a JSON file holds; nothing where there is none. Raises ValueError where it cannot be read."""
    return files.read_json(path) if path.is_file() else {}


def without_classes(model: ModelConfig) -> ModelConfig:
    """A model's sizes without a classifier: one that was fine-tuned and trains on without labels would keep a head that fits no more."""
    return replace(model, classes=None, classes_from="both", class_names=(), multi_label=False)


def trained_config(place: str) -> Config:
    """A trained model's sizes, with its run's objective and training; where there is no run beside it, those of `tiny`.

    place: a run's folder, a model's folder or a name on the Hub. Raises ValueError where there is no model.
    """
    model = from_dict(ModelConfig, read_json(find_model(place) / CONFIG_FILE))
    stored = read_json(run_of(place) / CONFIG_FILE)
    return replace(from_dict(Config, stored["config"]) if "config" in stored else tiny(), model=model)


def starting_config(place: str) -> Config:
    """The config of a run of stage 1 that starts from a model: its own, with `tiny`'s decoders where it was saved without.

    A fine-tuned model leaves its classifier behind.
    """
    config = trained_config(place)
    model = replace(without_classes(config.model), decoder=config.model.decoder or tiny().model.decoder)
    if model.target == "teacher":  # a student: from here on its targets are patches again
        model = replace(model, target="normalised", target_width=None)
    return replace(config, model=model)


def start_from(model: MAViL, place: str) -> list[str]:
    """Gives a model a trained one's weights; returns the names of those that stay fresh: of decoders alone, where they do not fit.

    Decoders may be missing (models can be saved without) or predict something else (a teacher's tokens). All else must fit: ValueError
    says what does not.
    """
    found = MAViL.from_pretrained(place).state_dict()
    own = model.state_dict()
    fits = {name: value for name, value in found.items() if name in own and value.shape == own[name].shape}
    fresh = [name for name in own if name not in fits]
    if wrong := [name for name in fresh if not name.startswith(DECODERS)]:
        theirs = f"is {tuple(found[wrong[0]].shape)} there" if wrong[0] in found else "is not there"
        raise ValueError(
            f"The model in {place} does not fit this run: {wrong[0]} is {tuple(own[wrong[0]].shape)} here and {theirs}. "
            "Leave --preset out; the run then has that model's sizes."
        )
    model.load_state_dict(fits, strict=False)
    return fresh
