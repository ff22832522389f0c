"""ComfyUI loads the node pack here. Outside ComfyUI (a test run that finds this file) there is nothing to load."""

from importlib.util import find_spec

if find_spec("comfy_api"):
    from .nodes import comfy_entrypoint

    WEB_DIRECTORY = "./web"

    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
