"""The ComfyUI side: thin nodes over `lightbagel_core`; the only place that imports comfy."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .draw import LightBagelEdit, LightBagelGenerate
from .encode import LightBagelDescribe, LightBagelTextEncode
from .loader import LightBagelApplyFusion, LightBagelLoader, register_folders
from .rewrite import LightBagelRewritePrompt

NODES = [
    LightBagelLoader,
    LightBagelApplyFusion,
    LightBagelTextEncode,
    LightBagelGenerate,
    LightBagelEdit,
    LightBagelDescribe,
    LightBagelRewritePrompt,
]


class LightBagel(ComfyExtension):
    async def on_load(self) -> None:
        register_folders()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> LightBagel:
    return LightBagel()
