"""mavil_edu: learn, teach and reproduce self-supervised audio-visual learning with MAViL. Names load when first used."""

from importlib import import_module

__version__ = "0.1.0"
_HOMES = {
    "MAViL": "mavil_edu.mavil",
    "Masks": "mavil_edu.mavil",
    "draw_masks": "mavil_edu.mavil",
    "Config": "mavil_edu.config",
    "ModelConfig": "mavil_edu.config",
    "tiny": "mavil_edu.config",
    "small": "mavil_edu.config",
    "paper": "mavil_edu.config",
    "large": "mavil_edu.config",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'mavil_edu' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__():
    return sorted(__all__)
