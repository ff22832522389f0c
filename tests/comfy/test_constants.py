"""What Wan computes once a run: source pictures, and all it makes of the learned context."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from helpers import INSTRUCTION, SETTINGS, STEPS, close, counted, fusion_of, ksampler, source, tensor
from safetensors.torch import save_file


@pytest.fixture
def multiplied(loaded, monkeypatch) -> dict[str, int]:
    """How often layers of Wan and the last fusion layer multiplied by their weights."""
    wan = loaded[0].model.diffusion_model
    last = wan.blocks[-1]
    layers = {"embed": wan.text_embedding[0], "k": last.cross_attn.k, "v": last.cross_attn.v, "q": last.cross_attn.q}
    layers["fused"] = fusion_of(loaded[0])[-1].gen_out
    places = {layer.weight.data_ptr(): name for name, layer in layers.items()}
    calls = dict.fromkeys(layers, 0)
    linear = torch.nn.functional.linear

    def counting(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        if weight.data_ptr() in places:
            calls[places[weight.data_ptr()]] += 1
        return linear(x, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", counting)
    return calls


def test_the_learned_context_passes_through_wan_once_a_run(host, loaded, prompts, multiplied):
    ksampler(host, loaded[0], prompts)
    assert multiplied == {"embed": 1, "k": 1, "v": 1, "q": STEPS, "fused": STEPS}
    ksampler(host, loaded[0], prompts)
    assert multiplied == {"embed": 2, "k": 2, "v": 2, "q": 2 * STEPS, "fused": 2 * STEPS}


@pytest.mark.parametrize(("image_guidance", "sources"), [(1.0, 1), (1.5, 1), (1.5, 2)])
def test_a_source_passes_through_wan_once_for_all_branches(
    host, loaded, monkeypatch, multiplied, image_guidance, sources
):
    """And not through the last block and what the last fusion layer would tell it: nobody hears it any more."""
    calls: dict[str, int] = {}
    counted(monkeypatch, calls, type(loaded[0].model.diffusion_model), "forward_orig", "wan")
    images = {f"image{i}": tensor(source(colour)) for i, colour in enumerate(("red", "green")[:sources])}
    host("LightBagelEdit", *loaded, **SETTINGS, images=images, instruction=INSTRUCTION, image_guidance=image_guidance)
    assert calls == {"wan": sources + STEPS}
    assert multiplied == {"embed": 1, "k": 1, "v": 1, "q": STEPS, "fused": STEPS}


def test_wans_own_rotary_tables_are_made_once_a_run_and_size(host, loaded, prompts):
    """But for other nodes, which may move or stretch them differently at each step."""
    made, tables = [], []
    wan = loaded[0].model.diffusion_model

    def block(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        options = {"rope_options": {"scale_x": 1.0 + len(tables)}}
        tables.append(wan.rope_encode(1, 8, 8, dtype=torch.float32, transformer_options=options))
        return extra["original_block"](args)

    hook = wan.rope_embedder.register_forward_hook(lambda *_: made.append(1))
    try:
        ksampler(host, loaded[0], prompts)
        assert len(made) == 1
        stretched = loaded[0].clone()
        stretched.set_model_patch_replace(block, "dit", "double_block", 2)
        ksampler(host, stretched, prompts)
    finally:
        hook.remove()
    assert len(tables) == STEPS
    assert not any(torch.equal(a, b) for a, b in pairwise(tables))


def test_what_is_kept_is_what_would_be_computed(host, loaded, prompts, monkeypatch):
    fused = loaded[0].get_wrappers("diffusion_model", "lightbagel")[0].__self__
    kept = ksampler(host, loaded[0], prompts)
    monkeypatch.setattr(fused, "learned", lambda context, like: context.to(like).expand(len(like), -1, -1))
    assert close(ksampler(host, loaded[0], prompts), kept)


def test_another_wan_under_the_same_patches_is_heard(host, loaded, prompts):
    """ComfyUI clones a MODEL onto a Wan it loads anew, for other GPUs, compiling, hooks; its weights count then."""
    model, plain = loaded[0], ksampler(host, loaded[0], prompts)
    other = model.clone()
    other.model = host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype="float32")[0].model
    assert close(ksampler(host, other, prompts), plain)
    with torch.inference_mode():
        other.model.diffusion_model.blocks[2].cross_attn.v.weight.mul_(-3)
    assert not close(ksampler(host, other, prompts), plain)
    assert close(ksampler(host, model, prompts), plain)
    assert not any("forward" in vars(module) for module in model.model.diffusion_model.modules())


def test_other_things_sent_through_the_same_layers_are_computed(host, loaded, prompts):
    """As by nodes that let Wan attend to a second context; also where that is a part of the learned one."""
    model, checked = loaded[0].clone(), []
    wan = model.model.diffusion_model

    def block(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        v = wan.blocks[2].cross_attn.v
        for x in (torch.randn(2, 5, 256), args["txt"][:, :3], args["txt"] * 2):
            expected = x @ v.weight.T + v.bias
            torch.testing.assert_close(v(x), expected, rtol=1e-4, atol=1e-4)
            checked.append(x)
        return extra["original_block"](args)

    model.set_model_patch_replace(block, "dit", "double_block", 2)
    ksampler(host, model, prompts)
    assert len(checked) == 3 * STEPS


def test_a_lora_that_a_hook_switches_on_within_a_run_acts_on_the_context(host, loaded, tmp_path):
    """Its strength is 0 at the start of the run, so what was computed there must not be kept."""
    from folder_paths import add_model_folder_path

    model, clip, _ = loaded
    generator = torch.Generator().manual_seed(0)
    down, up = (torch.randn(shape, generator=generator) * 0.4 for shape in ((4, 256), (256, 4)))
    name = "diffusion_model.blocks.2.cross_attn.v"
    save_file({f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}, tmp_path / "context.safetensors")
    add_model_folder_path("loras", str(tmp_path))
    prompts = [host("CLIPTextEncode", clip, words) for words in ("a red circle on the left", "")]
    plain = ksampler(host, model, prompts)
    hook = host("CreateHookLoraModelOnly", lora_name="context.safetensors", strength_model=1.0)

    def drawn(first: float, later: float) -> torch.Tensor:
        frames = host("CreateHookKeyframe", strength_mult=first, start_percent=0.0)
        frames = host("CreateHookKeyframe", strength_mult=later, start_percent=0.5, prev_hook_kf=frames)
        scheduled = host("SetHookKeyframes", hooks=hook, hook_kf=frames)
        hooked = [host("ConditioningSetProperties", p, 1.0, "default", hooks=scheduled) for p in prompts]
        return ksampler(host, model, hooked)

    assert close(drawn(0.0, 0.0), plain)
    late, always = drawn(0.0, 1.0), drawn(1.0, 1.0)
    assert not close(late, plain)
    assert not close(late, always)
