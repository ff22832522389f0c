"""Every format of a component, in every dtype, opens to the same model; at real size every name and shape is right."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

import pytest
import torch
from format_files import (
    author_fusion,
    authors,
    float8_scaled,
    in_blocks,
    qwen_release,
    save,
    save_hollow,
    save_sharded,
    saved_by_comfyui,
    wan_original,
)
from oracle import relative
from tiny import make_tiny, tiny_config

from lightbagel_core.config import PUBLISHED
from lightbagel_core.files.components import COMPONENTS, build_components
from lightbagel_core.files.formats import open_model, read_config
from lightbagel_core.files.key_maps import original_vae_name
from lightbagel_core.files.tokenizer import open_tokenizer
from lightbagel_core.pipeline import LightBagel

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32


@pytest.fixture(scope="module")
def model() -> LightBagel:
    return make_tiny()


@pytest.fixture(scope="module")
def states(model):
    modules = {"understanding": model.und.vlm, "generation": model.gen.dit, "fusion": model.fusion, "vae": model.vae}
    return {part: {n: t.detach().clone() for n, t in m.state_dict().items()} for part, m in modules.items()}


@pytest.fixture(scope="module")
def base(model, tmp_path_factory) -> dict[str, Path]:
    """The model in the formats that the libraries' own writers make, its config, and its fusion stack."""
    folder = tmp_path_factory.mktemp("base")
    model.und.vlm.save_pretrained(folder / "qwen", max_shard_size="200KB")
    model.und.tokenizer.save_pretrained(folder / "qwen")
    model.gen.dit.save_pretrained(folder / "wan" / "transformer", max_shard_size="200KB")
    model.vae.save_pretrained(folder / "wan" / "vae")
    save(model.fusion.state_dict(), folder / "fusion.safetensors")
    (folder / "tiny.json").write_text(json.dumps(tiny_config().to_dict()), "utf-8")
    return {
        "understanding": folder / "qwen",
        "generation": folder / "wan",
        "vae": folder / "wan",
        "fusion": folder / "fusion.safetensors",
        "config": folder / "tiny.json",
    }


def opened(base, checkpoint=None, dtype=F32, **parts) -> LightBagel:
    given = {part: base[part] for part in COMPONENTS if part != "fusion"} | parts
    given = {part: path for part, path in given.items() if path is not None}
    made = LightBagel.from_pretrained(
        base["fusion"] if checkpoint is None else checkpoint,
        "cpu",
        dtype,
        components=given,
        tokenizer=base["understanding"],
        config=base["config"],
    )
    made.need(*COMPONENTS)
    return made


def weights(model: LightBagel, part: str) -> dict[str, torch.Tensor]:
    module = {"understanding": model.und.vlm, "generation": model.gen.dit, "fusion": model.fusion, "vae": model.vae}
    return module[part].state_dict()


def assert_same(model: LightBagel, states, part: str, stored: torch.dtype) -> None:
    """The part holds the very weights, as far as their stored dtype can say."""
    found = weights(model, part)
    assert found.keys() == states[part].keys()
    for name, tensor in states[part].items():
        assert torch.equal(found[name].float(), tensor.to(stored).float()), name


@pytest.mark.parametrize("stored", [F32, BF16, F16])
def test_the_libraries_own_folders(base, states, tmp_path, stored):
    """Hugging Face's folder, diffusers' folders, as their own writers make them: whole and in shards."""
    made = make_tiny()
    for size in ("200KB", "1GB"):
        folder = tmp_path / size
        made.und.vlm.to(stored).save_pretrained(folder / "qwen", max_shard_size=size)
        made.gen.dit.to(stored).save_pretrained(folder / "wan" / "transformer", max_shard_size=size)
        made.vae.to(stored).save_pretrained(folder / "wan" / "vae")
        assert (len(list(folder.glob("*/*.index.json")) + list(folder.glob("*/*/*.index.json"))) == 2) == (
            size == "200KB"
        )
        model = opened(base, understanding=folder / "qwen", generation=folder / "wan", vae=folder / "wan")
        for part in ("understanding", "generation", "vae"):
            assert_same(model, states, part, stored)


@pytest.mark.parametrize("stored", [F32, BF16, F16])
@pytest.mark.parametrize("kind", ["new names", "old names", "sharded"])
def test_the_authors_checkpoint(base, states, tmp_path, kind, stored):
    named = {n: t.to(stored) for n, t in authors(states, old=kind == "old names").items()}
    if kind == "sharded":
        save_sharded(named, tmp_path / "it", "model")
    else:
        save(named, tmp_path / "it" / "ema.safetensors")
    model = opened(base, tmp_path / "it", understanding=None, generation=None)
    for part in ("understanding", "generation", "fusion"):
        assert_same(model, states, part, stored)


def test_the_authors_ema_is_preferred_and_a_base_model_wins(base, states, tmp_path):
    better = authors(states)
    worse = {n: torch.zeros_like(t) for n, t in better.items()}
    save(worse, tmp_path / "model.safetensors")
    save(better, tmp_path / "ema.safetensors")
    assert_same(opened(base, tmp_path, understanding=None, generation=None), states, "generation", F32)
    model = opened(base, tmp_path / "model.safetensors", generation=None)
    assert_same(model, states, "understanding", F32)  # from the base model
    assert not any(t.any() for t in weights(model, "fusion").values())  # from the file that was named


def small_files(base) -> dict[str, bytes]:
    """The config and the tokenizer's files, by their names."""
    names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    return {"config.json": base["config"].read_bytes()} | {n: (base["understanding"] / n).read_bytes() for n in names}


def vae_original(name: str) -> str:
    return original_vae_name(name, tiny_config().vae["num_res_blocks"])


def alone(path: Path | None = None, **components: Path) -> LightBagel:
    """A model opened with neither config nor tokenizer given."""
    made = LightBagel.from_pretrained(path, "cpu", F32, components=components)
    made.need(*COMPONENTS)
    return made


@pytest.mark.parametrize("stored", [F32, BF16, F16])
@pytest.mark.parametrize("place", ["it.safetensors", "folder/model.safetensors"])
def test_what_comfyui_saves(states, base, model, tmp_path, stored, place):
    """A checkpoint of ComfyUI's: one file, in which config and tokenizer are too."""
    named = saved_by_comfyui(states, vae_original, {})
    named = {n: t.to(stored) for n, t in named.items()} | saved_by_comfyui({}, vae_original, small_files(base))
    file = save(named, tmp_path / place)
    found = alone(file.parent if file.name == "model.safetensors" else file)
    for part in COMPONENTS:
        assert_same(found, states, part, stored)
    assert found.config == model.config
    assert found.und.text_ids("a red circle") == model.und.text_ids("a red circle")


def test_what_comfyui_saves_in_three_files(states, base, tmp_path):
    """ModelSave's file brings config and fusion stack, CLIPSave's the tokenizer; a stack that is named wins."""
    files = small_files(base)
    config = {"config.json": files.pop("config.json")}
    two = {part: states[part] for part in ("generation", "fusion")}
    gen = save(saved_by_comfyui(two, vae_original, config), tmp_path / "gen.safetensors")
    qwen = dict(states["understanding"]) | {n: torch.tensor(list(text), dtype=torch.uint8) for n, text in files.items()}
    und = save(qwen, tmp_path / "und.safetensors")
    vae = save({vae_original(n): t for n, t in states["vae"].items()}, tmp_path / "vae.safetensors")
    found = alone(understanding=und, generation=gen, vae=vae)
    assert not found.unfused
    for part in COMPONENTS:
        assert_same(found, states, part, F32)
    zeros = save({n: torch.zeros_like(t) for n, t in states["fusion"].items()}, tmp_path / "zeros.safetensors")
    for given in ({"path": zeros, "generation": gen}, {"fusion": zeros, "generation": gen}):
        found = alone(**given, understanding=und, vae=vae)
        assert bool(weights(found, "fusion")["context"].any()) == ("path" in given)


def test_what_comfyui_saves_float8(states, base, tmp_path):
    """With ComfyUI's marks and scales."""
    named = float8_scaled(saved_by_comfyui(states, vae_original, {}), in_blocks, new=True)
    file = save(named | saved_by_comfyui({}, vae_original, small_files(base)), tmp_path / "it.safetensors")
    wide = alone(file)
    for part in ("generation", "fusion"):
        for name, tensor in states[part].items():
            exact = tensor
            if in_blocks(name, tensor):
                scale = tensor.abs().amax() / 448 if tensor.any() else torch.ones(())
                exact = (tensor / scale).to(torch.float8_e4m3fn).float() * scale
            assert torch.allclose(weights(wide, part)[name], exact, rtol=1e-6, atol=0), name


def test_what_comfyui_saves_and_what_is_wrong_with_it(states, base, tmp_path):
    named = saved_by_comfyui(states, vae_original, small_files(base))
    config = "model.diffusion_model.lightbagel.config.json"
    wrong = {
        "that belong to no component: surprise": named | {"surprise": torch.zeros(1)},
        "is damaged: ": named | {config: torch.zeros(4, dtype=torch.uint8)},
        "does not fit the config": {n: t for n, t in named.items() if n != config},
        r"holds config\.json twice": named | {"config.json": named[config]},
    }
    for message, tensors in wrong.items():
        with pytest.raises(ValueError, match=message):
            alone(save(tensors, tmp_path / "it.safetensors"))
    model = save({n: t for n, t in named.items() if n.startswith("model.")}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="which ComfyUI saved, holds no vae component"):
        opened(base, vae=model)
    with pytest.raises(ValueError, match="lacks the understanding component"):
        alone(model)


@pytest.mark.parametrize("stored", [F32, BF16, F16])
@pytest.mark.parametrize("part", ["understanding", "generation", "vae"])
def test_single_files_with_original_names(base, states, tmp_path, part, stored):
    rename = {
        "understanding": qwen_release,
        "generation": wan_original,
        "vae": lambda n: original_vae_name(
            n, tiny_config().vae["num_res_blocks"]
        ),  # held against ComfyUI's own in tests/comfy
    }[part]
    named = {rename(n): t.to(stored) for n, t in states[part].items()}
    assert named.keys() != states[part].keys()
    file = save(named, tmp_path / "one.safetensors")
    assert_same(opened(base, **{part: file}), states, part, stored)


def test_a_prefix_as_in_whole_checkpoints(base, states, tmp_path):
    named = {f"model.diffusion_model.{wan_original(n)}": t for n, t in states["generation"].items()}
    assert_same(opened(base, generation=save(named, tmp_path / "one.safetensors")), states, "generation", F32)


@pytest.mark.parametrize("kind", ["older", "newer", "unscaled"])
@pytest.mark.parametrize("part", ["understanding", "generation"])
def test_float8_files(base, states, tmp_path, part, kind):
    """Float8 stays float8 unless another dtype is asked for, and means weight times scale either way."""
    rename = {"understanding": qwen_release, "generation": wan_original}[part]
    named = {rename(n): t for n, t in states[part].items()}
    if kind == "unscaled":
        named = {n: t.to(torch.float8_e4m3fn) if in_blocks(n, t) else t for n, t in named.items()}
    else:
        named = float8_scaled(named, in_blocks, new=kind == "newer")
    file = save(named, tmp_path / "fp8.safetensors")
    wide, narrow = (weights(opened(base, dtype=dtype, **{part: file}), part) for dtype in (F32, None))
    held = {n for n, t in narrow.items() if t.dtype == torch.float8_e4m3fn}
    assert held == {n for n, t in states[part].items() if in_blocks(n, t)}
    for name, tensor in states[part].items():
        if name not in held:
            assert torch.equal(wide[name], tensor)
            continue
        scale = 1 if kind == "unscaled" else tensor.abs().amax() / 448
        expected = (tensor / scale).to(torch.float8_e4m3fn).float() * scale
        assert torch.allclose(wide[name], expected, rtol=1e-6, atol=0), name
        assert torch.equal(narrow[name].float() * narrow[f"{name}_scale"], wide[name])
    x = torch.randn(1, 48, 4, 6, generator=torch.Generator().manual_seed(0))
    a, b = (opened(base, dtype=dtype, **{part: file}) for dtype in (F32, None))
    a, b = (m.velocity(x, 0.7, m.encode([[m.text("a red circle")]], 96, 64)) for m in (a, b))
    assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [BF16, F16, torch.float64])
def test_scales_in_other_dtypes(base, states, tmp_path, kind):
    named = float8_scaled(states["generation"], in_blocks, new=True)
    named = {n: t.to(kind) if n.endswith("weight_scale") else t for n, t in named.items()}
    found = weights(opened(base, generation=save(named, tmp_path / "a.safetensors")), "generation")
    for name in (n for n, t in states["generation"].items() if in_blocks(n, t)):
        assert torch.equal(found[name], named[name].float() * named[f"{name}_scale"].float())


@pytest.mark.parametrize(
    ("name", "like", "message"),
    [
        ("scale_shift_table_scale", torch.ones(7), "unexpected: scale_shift_table_scale"),
        ("blocks.0.attn1.to_q.bias_scale", torch.ones(()), "unexpected: blocks.0.attn1.to_q.bias_scale"),
        ("blocks.0.attn1.to_q.weight_scale", torch.ones(()), "which is no scale of a float8 weight"),
        ("blocks.0.gone.weight_scale", torch.ones(()), "which is no scale of a float8 weight"),
    ],
)
def test_scales_of_nothing(base, states, tmp_path, name, like, message):
    file = save({**states["generation"], name: like}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=message):
        opened(base, generation=file)


def test_whole_number_scales_are_refused(base, states, tmp_path):
    named = float8_scaled(states["generation"], in_blocks, new=True)
    named["blocks.0.ffn.net.2.weight_scale"] = torch.ones((), dtype=torch.int32)
    with pytest.raises(ValueError, match=r"torch\.int32, which is no scale"):
        opened(base, generation=save(named, tmp_path / "a.safetensors"))


def test_a_tensor_that_stands_there_twice_under_two_names_is_refused(base, states, tmp_path):
    def given(part: str, named: dict[str, torch.Tensor]) -> None:
        with pytest.raises(ValueError, match=r"twice|that belong to no component"):
            opened(base, **{part: save(named, tmp_path / "a.safetensors")})

    gen, und = states["generation"], states["understanding"]
    original = {wan_original(n): t for n, t in gen.items()}
    given("generation", {**gen, "model.diffusion_model.proj_out.bias": gen["proj_out.bias"]})
    given("generation", {**original, "blocks.0.attn1.to_q.bias": gen["blocks.0.attn1.to_q.bias"]})
    given("understanding", {**und, "visual.merger.ln_q.weight": und["model.visual.merger.ln_q.weight"]})
    whole = authors(states)
    for layer in (0, 999):
        strange = f"vision_language_model.model.language_model.cross_attn_layers.{layer}.cross_attn."
        for name in ("k_und_proj.bias", "q_und_proj.bias") if layer else ("k_und_proj.bias",):
            file = save({**whole, strange + name: torch.zeros(64)}, tmp_path / "b.safetensors")
            with pytest.raises(ValueError, match=r"that belong to no component|unexpected"):
                opened(base, file, understanding=None, generation=None)


def test_no_file_of_a_model_can_bring_in_code(base, tmp_path, monkeypatch):
    """Neither a config that names an attention from a hub nor a tokenizer with a class of its own."""
    data = json.loads(base["config"].read_text("utf-8"))
    for where in (data["understanding"], data["understanding"]["text_config"]):
        for key in ("attn_implementation", "_attn_implementation", "auto_map", "quantization_config"):
            where[key] = "kernels-community/flash-attn"
            (tmp_path / "config.json").write_text(json.dumps(data), "utf-8")
            with pytest.raises(ValueError, match=f"must not say {key}"):
                read_config(tmp_path / "config.json")
            del where[key]
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({"a": 0, "<|im_start|>": 1}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')\nclass Evil: pass\n", "utf-8")
    settings = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # what transformers asks when it may run such code
    with contextlib.suppress(ValueError):
        open_tokenizer(folder)
    assert not (tmp_path / "owned").exists()


def test_without_a_fusion_file_it_is_the_plain_wan(base, model, states, tmp_path, threads):
    """To rounding, whatever the prompt; and the VLM is the plain Qwen.

    One batch of the learned context's keys is expanded, the other contiguous, which may round otherwise: by 1e-6 or so.
    """
    plain = LightBagel.from_pretrained(
        None,
        "cpu",
        components={part: base[part] for part in ("understanding", "generation", "vae")},
        tokenizer=base["understanding"],
        config=base["config"],
    )
    assert plain.unfused
    assert not model.unfused
    plain.need(*COMPONENTS)
    x = torch.randn(2, 48, 4, 6, generator=torch.Generator().manual_seed(1))
    ours = plain.velocity(x, 0.4, plain.encode([[plain.text("a red circle")], [plain.text("a star")]], 96, 64))
    context = plain.fusion.context.expand(2, -1, -1)
    theirs = model.gen.dit(x[:, :, None], torch.full((2,), 400.0), context, return_dict=False)[0][:, :, 0]
    assert relative(ours, theirs) < 1e-5
    assert_same(plain, states, "understanding", F32)
    with pytest.raises(ValueError, match="there is no fusion stack to save"):
        plain.save_pretrained(tmp_path / "new")


# --- what does not fit ---------------------------------------------------------------------------------------------


def test_unknown_missing_and_misshapen_tensors_are_all_named(base, states, tmp_path):
    named = authors(states)
    gone = "vgen_model.blocks.1.ffn.2.bias"
    odd = "vision_language_model.model.language_model.layers.0.mlp.up_proj.weight"
    del named[gone]
    named[odd] = torch.zeros(3, 3)
    with pytest.raises(
        ValueError, match=r"understanding component.*wrong shape:.*up_proj.weight \[3, 3\] instead of \[96"
    ):
        opened(base, save(named, tmp_path / "a.safetensors"), understanding=None, generation=None)
    named[odd] = authors(states)[odd]
    with pytest.raises(ValueError, match=r"generation component.*missing: blocks\.1\.ffn\.net\.2\.bias"):
        opened(base, save(named, tmp_path / "b.safetensors"), understanding=None, generation=None)
    strange = f"{'vision_language_model.model.language_model.'}mm_attn_layers.0.mm_attn.gate.weight"
    named[strange] = torch.zeros(1)
    named["surprise"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"that belong to no component: surprise, .*mm_attn\.gate\.weight"):
        opened(base, save(named, tmp_path / "c.safetensors"), understanding=None, generation=None)


@pytest.mark.parametrize("part", ["understanding", "generation", "vae"])
def test_a_lacking_part_is_asked_for(base, part):
    with pytest.raises(ValueError, match=f"lacks the {part} component; name a file or folder of it with --{part}"):
        opened(base, **{part: None})


def test_a_file_of_another_kind_is_recognised(base, states, tmp_path):
    file = save({wan_original(n): t for n, t in states["generation"].items()}, tmp_path / "wan.safetensors")
    with pytest.raises(ValueError, match=r"neither the authors' checkpoint nor a LightBagel .*--generation"):
        opened(base, file)
    with pytest.raises(ValueError, match=r"understanding component.*unexpected: "):
        opened(base, understanding=file)
    with pytest.raises(ValueError, match=r"does not fit the config\. missing: "):  # the tiny model is not the real one
        LightBagel.from_pretrained(
            base["fusion"], components={p: base[p] for p in ("understanding", "generation", "vae")}
        )


@pytest.mark.parametrize("name", ["model.pt", "model.bin", "model.ckpt", "model.pth", "model.pkl"])
def test_pickles_are_refused_unopened(base, tmp_path, name):
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    for attempt in (
        lambda: opened(base, tmp_path / name),
        lambda: opened(base, tmp_path),
        lambda: opened(base, understanding=tmp_path / name),
        lambda: opened(base, generation=tmp_path),
    ):
        with pytest.raises(ValueError, match=r"pickle file, which can run any code.*safetensors"):
            attempt()


def test_other_quantisations_are_refused(base, states, tmp_path):
    named = dict(states["generation"])
    named["blocks.0.ffn.net.2.weight"] = torch.zeros(64, 48, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"stores blocks.0.ffn.net.2.weight as whole numbers: .* only float8"):
        opened(base, generation=save(named, tmp_path / "a.safetensors"))
    named = float8_scaled(states["generation"], in_blocks)
    named["blocks.0.ffn.net.2.scale_weight"] = torch.ones(64, 1)
    with pytest.raises(ValueError, match=r"scale_weight \[64, 1\] torch.float32, which is no scale"):
        opened(base, generation=save(named, tmp_path / "b.safetensors"))


# --- the real model ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    with torch.device("meta"):
        return {part: module.state_dict() for part, module in build_components(read_config(PUBLISHED)).items()}


def real_files(real, folder: Path, dtype: torch.dtype) -> dict[str, Path]:
    """All of the real model's files, as sparse files: the header is real, the gigabytes are not there."""
    und, gen = real["understanding"], real["generation"]
    return {
        "authors": save_hollow(authors(real).items(), folder / "a" / "ema.safetensors", dtype),
        "qwen": save_hollow(((qwen_release(n), t) for n, t in und.items()), folder / "qwen.safetensors", dtype),
        "wan": save_hollow(((wan_original(n), t) for n, t in gen.items()), folder / "wan.safetensors", dtype),
        "diffusers": save_hollow(gen.items(), folder / "wan" / "diffusion_pytorch_model.safetensors", dtype),
        "vae": save_hollow(
            ((original_vae_name(n, 2), t) for n, t in real["vae"].items()), folder / "vae.safetensors", F16
        ),
        "fusion": save_hollow(real["fusion"].items(), folder / "f" / "fusion.safetensors", dtype),
    }


@pytest.mark.parametrize("dtype", [BF16, F32, torch.float8_e4m3fn])
def test_the_real_model_in_every_layout(real, tmp_path, dtype):
    files = real_files(real, tmp_path, dtype)
    whole = open_model(files["authors"].parent, components={"vae": files["vae"]})
    put_together = [
        open_model(files["fusion"], components={"understanding": files["qwen"], "generation": g, "vae": files["vae"]})
        for g in (files["wan"], files["diffusers"].parent)
    ]
    for opened in (whole, *put_together):
        count = {
            part: sum(math.prod(s.shape) for n, s in tensors.items() if not n.endswith("_scale"))
            for part, tensors in opened.components.items()
        }
        assert count["understanding"] == 8_292_166_656
        assert count["generation"] == 4_999_787_712
        # docs/model.md, section 3: norms, und k and v, gen q, k, v and out; 29 layers, and the context
        und, gen = 3584, 3072
        layer = und + gen + 2 * 128 + 2 * (und + 1) * gen + 3 * (gen + 1) * gen + gen * gen
        assert count["fusion"] == 29 * layer + 512 * 4096
        assert count["vae"] == pytest.approx(0.7e9, rel=0.02)
    stored = sum(math.prod(t.shape) for n, t in authors(real).items() if "attn_layers" in n)
    assert stored == pytest.approx(2.37e9, rel=0.005)  # with the dead und queries and outputs
    names = set(authors(real, old=True))
    assert len(names) == len(authors(real)) == 729 + 825 + 436 + 3 * 29
    assert "vgen_model.blocks.29.cross_attn.o.weight" in names
    assert f"{'vision_language_model.model.language_model.'}cross_attn_layers.28.cross_attn.k_und_proj.bias" in names


def test_real_fusion_shapes_are_the_papers(real):
    named = author_fusion(real["fusion"], 3584, old=False)
    layer = "vision_language_model.model.language_model.mm_attn_layers.28."
    assert named[f"{layer}mm_attn.k_und_proj.weight"].shape == (3072, 3584)
    assert named[f"{layer}mm_attn.o_gen_proj.weight"].shape == (3072, 3072)
    assert named[f"{layer}llm_norm.weight"].shape == (3584,)
    assert named["vgen_model_cross_att_context"].shape == (512, 4096)
    assert authors(real)["vgen_model.patch_embedding.weight"].shape == (3072, 192)
