"""The source images of nodes that can do without."""

from __future__ import annotations

from comfy_api.latest import io


def images_input(tooltip: str) -> io.Autogrow.Input:
    """A socket for an image, and another one each time the last is taken."""
    image = io.Image.Input("image", tooltip="A source image; a batch counts as several.")
    return io.Autogrow.Input(
        "images", template=io.Autogrow.TemplatePrefix(image, "image", 0, 16), optional=True, tooltip=tooltip
    )
