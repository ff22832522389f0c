"""Which components of a model lie on the device: each is read from its file when first needed, and can be given up.

Offloading is of two kinds. "parts" keeps on the device only what the present step of a run needs: the und branch while
a prompt is read, the DiT and the fusion stack while denoising, the VAE while encoding and decoding. "layers" keeps all
weights in memory and streams them through the device, layer by layer, by Accelerate's hooks.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from ..files.checkpoint import fill
from ..files.formats import Opened
from ..files.precision import Precision

Offload = Literal["parts", "layers"]


class Residency:
    """The components of an opened model, filled with weights when needed.

    Args:
        modules: the model's modules by component, without weights.
        device: where they compute.

    Raises:
        ValueError: layers are to be streamed and Accelerate is not installed.
    """

    def __init__(
        self,
        opened: Opened,
        modules: Mapping[str, Any],
        precision: Precision,
        device: torch.device,
        offload: Offload | None = None,
    ) -> None:
        self.opened, self.modules, self.precision, self.device = opened, dict(modules), precision, device
        self.offload = offload
        self.loaded: set[str] = set()
        if offload == "layers":
            _accelerate()

    def need(self, *components: str) -> None:
        """Has these components ready to compute; in "parts" mode gives up all others.

        Raises:
            ValueError: a file is damaged, or is gone.
        """
        if self.offload == "parts":
            self.release(*(self.loaded - set(components)))
        for component in components:
            if component not in self.loaded and component in self.opened.components:
                self._load(component)
                self.loaded.add(component)

    def release(self, *components: str) -> None:
        """Gives up the weights of some components; they are read again when needed."""
        held = self.loaded.intersection(components)
        for component in held:
            module = self.modules[component]
            self.loaded.discard(component)  # first: what is interrupted here is read again
            if self.offload == "layers":
                _accelerate().hooks.remove_hook_from_module(module, recurse=True)
            for inner in module.modules():
                for name, weight in inner.named_parameters(recurse=False):
                    inner._parameters[name] = nn.Parameter(weight.to("meta"), requires_grad=False)
        if held:
            gc.collect()
        if held and self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _load(self, component: str) -> None:
        module, streamed = self.modules[component], self.offload == "layers"
        device = torch.device("cpu") if streamed else self.device
        fill(component, module, self.opened.components[component], self.precision, device)
        if streamed:
            for child in module.children():
                _accelerate().cpu_offload(child, self.device)
            for name, weight in module.named_parameters(recurse=False):
                module._parameters[name] = nn.Parameter(weight.to(self.device), requires_grad=False)


def _accelerate() -> Any:
    try:
        import accelerate
    except ImportError:
        raise ValueError("streaming layers needs Accelerate: pip install accelerate") from None
    return accelerate
