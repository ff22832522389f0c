"""LightBagel: a frozen Qwen2.5-VL and a Wan2.2 DiT joined by a thin fusion stack (arXiv 2510.22946). Host-free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pipeline import LightBagel
    from .sampling.denoise import Stopped
    from .sampling.guidance import Guidance

__version__ = "0.1.0"
__all__ = ["Guidance", "LightBagel", "Stopped", "__version__"]

_HOMES = {"LightBagel": "pipeline", "Guidance": "sampling.guidance", "Stopped": "sampling.denoise"}


def __getattr__(name: str) -> Any:
    """Imports torch and the libraries only when something that needs them is asked for."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
