"""Going on with a run: what stands of it in its folder, and which options a command that goes on with it may give."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mavil_edu.config import PRESETS, Config, from_dict, to_dict
from mavil_edu.files import read_json

ASKED = ("preset", "start", "teacher", "fast", "minutes", "steps", "seed")  # options that make a run, beside its config's


class RunError(ValueError):
    """A run cannot start as asked; the message says why and what to do."""


def stored_run(run: Path) -> dict:
    """What a run's `config.json` says: the config, the seed, the data, and the command that began it."""
    try:
        stored = read_json(run / "config.json")
        return stored | {"config": from_dict(Config, stored["config"])}
    except (ValueError, KeyError) as error:
        raise RunError(f"{run / 'config.json'} cannot be read ({error}); it is not the folder of a run that can be resumed.") from error


def begun(out: Path) -> dict | None:
    """What is stored of the run in a folder, or of the first of its iterations in OUT/1; None where none has begun."""
    place = next((place for place in (out, out / "1") if (place / "config.json").exists()), None)
    return stored_run(place) if place else None


def _flat(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Nested values by their options' names: {"train": {"base_lr": 1}} -> {"config.train.base-lr": 1}."""
    found = {}
    for key, value in values.items():
        option = f"{name}.{key}".replace("_", "-")
        found |= _flat(value, option) if isinstance(value, dict) else {option: value}
    return found


def _options(command: Mapping[str, Any]) -> dict[str, Any]:
    """By name, the options of a `pretrain` command that decide what the run is."""
    return {name: command.get(name) for name in ASKED} | _flat(to_dict(command["config"]), "config")


def _agrees(name: str, value: Any, stored: Mapping[str, Any]) -> bool:
    """Whether an option is left out, or as in the stored run; weights may be sharded from now on, for a run that turned out too large."""
    if (value is None and name in ASKED) or (name == "fast" and not value):
        return True
    if name == "preset":
        return PRESETS[value]().model == stored["config"].model
    return value == _kept(name, stored) or (name == "config.train.shard-weights" and value)


def _kept(name: str, stored: Mapping[str, Any]) -> Any:
    """The value that an option would have had to have for the stored run; None where it was left out, or that is not told."""
    if name == "steps":
        return stored["config"].train.steps
    if name == "teacher":
        return stored["lineage"][-1]["path"] if stored.get("lineage") else None
    return stored.get(name) if name in ASKED else _flat(to_dict(stored["config"]), "config").get(name)


def _in_words(name: str, value: Any) -> str:
    """An option as it is given."""
    if value is None or value is False:
        return f"without --{name}"
    said = "" if value is True else " " + " ".join(map(str, value if isinstance(value, list) else [value]))
    return f"with --{name}{said}"


def check_options(run: Path, stored: Mapping[str, Any], given: Mapping[str, Any], first: Callable[[], Mapping[str, Any] | None]) -> None:
    """Raises RunError where a command that goes on with a run asks for another: with the first such option, and what to do.

    given: the command's options; those of the config and the seed stand at the stored run's values where they were left out. first: the
    options of the command that began the run, read likewise; None where that is not known. What it said may be said again, though the
    run then took another number: of steps that fitted into its minutes, of clips in a batch.
    """
    options = _options(given)
    other = [name for name, value in options.items() if not _agrees(name, value, stored)]
    said = _options(began) if other and (began := first()) else {}
    for name in other:
        if name not in said or options[name] != said[name]:
            began = _in_words(name, said.get(name) if _kept(name, stored) is None else _kept(name, stored))
            raise RunError(
                f"The run in {run} began {began}, and cannot go on {_in_words(name, options[name])}: leave that out, or begin another run, "
                f"from its weights if you like: --start {run}."
            )
