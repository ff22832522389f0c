"""LightBagel's model behind ComfyUI's sockets. Imported when a node first runs, with transformers and diffusers."""

from importlib.metadata import version

found = version("transformers")
if tuple(int(part) for part in found.split(".")[:2]) < (4, 57):
    raise ImportError(
        f"LightBagel needs transformers 4.57 or newer, this ComfyUI has {found}. "
        "Upgrade it with: pip install -U transformers"
    )
