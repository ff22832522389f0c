"""What a run computes once, keeps no longer than itself, frees and gives up when it is cancelled."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from helpers import INSTRUCTION, PROMPT, SETTINGS, STEPS, counted, fusion_of, ksampler, source, tensor


def test_previews_and_cancelling(host, loaded, prompts, monkeypatch):
    """Every step reports itself, and a cancelled run ends at once; the next one works."""
    import comfy.model_management as management
    import latent_preview

    seen: list[int] = []
    monkeypatch.setattr(latent_preview, "prepare_callback", lambda model, steps, *rest: lambda i, *_: seen.append(i))
    before = ksampler(host, loaded[0], prompts)
    assert seen == list(range(STEPS))

    def stop(i: int, *rest: Any) -> None:
        management.interrupt_current_processing()
        management.throw_exception_if_processing_interrupted()

    monkeypatch.setattr(latent_preview, "prepare_callback", lambda model, steps, *rest: stop)
    with pytest.raises(management.InterruptProcessingException):
        ksampler(host, loaded[0], prompts)
    monkeypatch.undo()
    assert torch.equal(ksampler(host, loaded[0], prompts), before)


def test_cancelling_ends_within_a_step(host, loaded, prompts):
    """The rest of a step's blocks and fusion layers is not computed."""
    import comfy.model_management as management

    wan, fusion = loaded[0].model.diffusion_model, fusion_of(loaded[0])
    done: list[Any] = []
    hooks = [wan.blocks[1].register_forward_hook(lambda *_: management.interrupt_current_processing())]
    for module in (fusion[1].gen_out, wan.blocks[2]):
        hooks.append(module.register_forward_hook(lambda module, *_: done.append(module)))
    try:
        with pytest.raises(management.InterruptProcessingException):
            ksampler(host, loaded[0], prompts)
    finally:
        for hook in hooks:
            hook.remove()
    assert done == []


def test_a_run_computes_constant_things_once(host, loaded, prompts, monkeypatch):
    """Prompts of two lengths share one forward a step; the und side's keys are made once a run, the VLM not at all."""
    model, clip, _ = loaded
    wan = type(model.model.diffusion_model)
    fusion = fusion_of(model)
    calls: dict[str, int] = {}
    counted(monkeypatch, calls, wan, "forward_orig", "wan")
    counted(monkeypatch, calls, type(fusion[0]), "und_key_value", "und")
    counted(monkeypatch, calls, type(fusion[0]), "gen_query_key_value", "gen")
    counted(monkeypatch, calls, type(clip.cond_stage_model), "encode_token_weights", "vlm")
    ksampler(host, model, prompts)
    layers = fusion.config.layers
    assert calls == {"wan": STEPS, "und": layers, "gen": STEPS * layers, "vlm": 0}


@pytest.mark.parametrize("image_guidance", [1.0, 1.5])
def test_comfyui_leaves_room_for_what_a_run_keeps(host, loaded, monkeypatch, image_guidance):
    """It is told the very bytes of the keys and values; they are held once, though rows and batches have them."""
    import comfy.sampler_helpers
    import latent_preview

    model = loaded[0]
    estimate, rooms, kept = comfy.sampler_helpers.estimate_memory, [], []

    def watched(patcher: Any, noise_shape: Any, conds: Any) -> Any:
        total, least = estimate(patcher, noise_shape, conds)
        rooms.append(least - type(patcher.model).memory_required(patcher.model, list(noise_shape)))
        return total, least

    def weigh(*_: Any) -> None:
        held = model.get_wrappers("diffusion_model", "lightbagel")[0].__self__.cache.kept
        contexts = [c for at, made in held.items() if at[0] == "contexts" for c in made.values()]
        prefixes = [t for c in contexts for t in (*c.keys, *c.values)]
        learned = (t for at, t in held.items() if at[0] != "latents")  # and what it became
        context = [t for t in learned if isinstance(t, torch.Tensor) and t.ndim == 3]
        storages = [t.untyped_storage() for t in (*prefixes, *context)]
        kept.append(sum({s.data_ptr(): s.nbytes() for s in storages}.values()))

    monkeypatch.setattr(comfy.sampler_helpers, "estimate_memory", watched)
    monkeypatch.setattr(latent_preview, "prepare_callback", lambda *_: weigh)
    images = {"images": {"image0": tensor(source())}, "instruction": INSTRUCTION, "image_guidance": image_guidance}
    host("LightBagelEdit", *loaded, **SETTINGS, **images)
    assert kept[-1] > 5e5
    assert rooms == pytest.approx([kept[-1]])
    assert "memory_required" not in vars(model.model)
    model.model.memory_required = others = lambda *_, **__: 7  # another pack's
    try:
        host("LightBagelEdit", *loaded, **SETTINGS, **images)
        assert model.model.memory_required is others
    finally:
        del model.model.memory_required


def test_nothing_of_a_run_is_kept(host, loaded, prompts):
    model = loaded[0]
    ksampler(host, model, prompts)
    hooks = [w for per_key in model.wrappers.values() for w in per_key.get("lightbagel", [])]
    assert len(hooks) == 4
    assert all(not hook.__self__.cache.kept and not hook.__self__.cache.unchanging for hook in hooks)


def test_all_parts_are_loaded_by_comfyui_and_freed(host, prompts):
    """The fusion stack is managed with Wan; when nobody holds the outputs of the loader any more, nothing stays."""
    import comfy.model_management as management

    model, clip, vae = host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype="float32")
    own = host("CLIPTextEncode", clip, PROMPT), host("CLIPTextEncode", clip, "")
    samples = ksampler(host, model, own)
    host("VAEDecode", vae, {"samples": samples})
    image = {"image0": tensor(source())}
    draw = {**SETTINGS, "steps": 1, "images": image, "instruction": INSTRUCTION, "image_guidance": 1.0}
    host("LightBagelEdit", model, clip, vae, **draw)
    parts = [model.model, clip.cond_stage_model, vae.first_stage_model]
    managed = [entry.model.model for entry in management.current_loaded_models]
    assert all(any(part is one for one in managed) for part in parts)
    refs = [weakref.ref(part) for part in (*parts, fusion_of(model))]
    management.unload_all_models()
    assert not management.current_loaded_models
    del model, clip, vae, own, parts, managed, draw, image
    gc.collect()
    assert [ref() for ref in refs] == [None] * 4
