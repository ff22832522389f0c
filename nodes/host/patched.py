"""What other nodes have set on a MODEL, and what becomes of it in a run of ours."""

from __future__ import annotations

from typing import Any

import torch

from ...lightbagel_core.config import Defaults
from .say import once

MODEL_SAMPLING = "model_sampling"  # ComfyUI's name for what shift is a part of
GUIDING = {  # model options that act on guidance, beside those that see its result
    "sampler_cfg_function": "another CFG",
    "sampler_pre_cfg_function": "a change before CFG",
    "sampler_calc_cond_batch_function": "predictions of its own",
}


def check_flow(model: Any) -> None:
    """Raises ValueError when a MODEL's sampling is not the flow matching that the model was trained with."""
    found = model.get_model_object(MODEL_SAMPLING)
    one = torch.ones(1, 1, 1, 1)
    half = one.reshape(1) / 2
    seen = (
        torch.as_tensor(found.timestep(half)).reshape(1),
        found.calculate_input(half, one).reshape(1),
        found.calculate_denoised(half, one, one).reshape(1),
    )
    if not torch.allclose(torch.cat(seen).float(), torch.tensor([500.0, 1.0, 0.5]), rtol=1e-3):
        kinds = ", ".join(kind.__name__ for kind in type(found).__bases__)
        raise ValueError(
            f"the MODEL's sampling ({kinds}) is not the flow matching that LightBagel was trained with, and would draw "
            "noise: leave out the ModelSampling node before it. ModelSamplingSD3 is the one that may stand there: it "
            "sets the shift."
        )


def shift_of(model: Any, asked: float) -> float:
    """The shift of a one-box run: the node's own where it is not the trained one, else the MODEL's."""
    own = float(getattr(model.get_model_object(MODEL_SAMPLING), "shift", asked))
    if asked == Defaults().shift or own == asked:
        return own
    if MODEL_SAMPLING in model.object_patches and own != Defaults().shift:
        once(f"the node's shift of {asked:g} is used, not the {own:g} that is set on its MODEL")
    return asked


def tell_of_guiding(options: dict[str, Any]) -> None:
    """Says once, by name, which patches of a MODEL do not act where guidance is not plain CFG."""
    for option, what in GUIDING.items():
        given = options.get(option) or []
        for function in given if isinstance(given, list) else [given]:
            name = getattr(function, "__qualname__", type(function).__qualname__).split(".")[0]
            once(
                f"{name} on the MODEL ({what}) does not act in the one-box nodes together with image_guidance or renorm"
            )
