"""What we need of torch, diffusers, transformers, huggingface_hub, accelerate, PEFT and safetensors beyond their
documented interfaces: a test for each row of docs/hosts.md. They run before all others (see conftest.py), without
weights.
"""

from __future__ import annotations

import inspect
import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contracts import ROOT, Broken, has, hold, module, order, row, rows, takes
from torch import Tensor, nn

CARRIED = [
    name
    for file in ("tests/test_contracts.py", "tests/comfy/test_comfyui_contracts.py")
    for name in re.findall(r'^@row\("(.+)"\)', (ROOT / file).read_text("utf-8"), re.MULTILINE)
]


def test_every_row_of_the_document_has_one_contract_and_every_contract_a_row():
    assert [name for name, count in Counter(CARRIED).items() if count > 1] == []
    assert sorted(CARRIED) == sorted(rows())


# --- torch -----------------------------------------------------------------------------------------------------------


@row("torch-01")
def test_register_parameter(monkeypatch):
    """Every parameter that a module is given passes through nn.Module.register_parameter."""
    seen, register = [], nn.Module.register_parameter

    def watched(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        seen.append(name)
        register(self, name, None if param is None else nn.Parameter(param.to("meta")))

    monkeypatch.setattr(nn.Module, "register_parameter", watched)
    made = nn.BatchNorm2d(2)
    made.extra = nn.Parameter(torch.zeros(1))
    hold({"weight", "bias", "extra"} <= set(seen), f"of weight, bias and extra only {seen} pass register_parameter")
    hold(all(p.is_meta for p in made.parameters()), "what register_parameter stores is no longer the parameter")
    hold(not any(b.is_meta for b in made.buffers()), "buffers pass register_parameter, too")


@row("torch-02")
def test_parameters_dictionary():
    """nn.Module keeps its parameters in the dictionary _parameters, which may be written."""
    layer = nn.Linear(2, 3)
    has(layer, "_parameters")
    layer._parameters["weight"] = nn.Parameter(torch.zeros(3, 2, device="meta"), requires_grad=False)
    hold(layer.weight.is_meta and dict(layer.named_parameters())["weight"] is layer.weight, "_parameters is a copy")


@row("torch-03")
def test_a_layer_may_be_replaced_by_name():
    """nn.Module.set_submodule puts another layer in the place of a nested one; torch has it from 2.5 on."""
    has(nn.Module, "set_submodule")
    outer = nn.Sequential(nn.Sequential(nn.Linear(2, 2)))
    other = nn.Identity()
    outer.set_submodule("0.0", other)
    hold(outer[0][0] is other, "set_submodule no longer replaces a nested layer")


@row("torch-04")
def test_version_of_a_tensor():
    """A tensor's _version counts changes in place, but not those through .data; inference tensors have none."""
    weight = nn.Parameter(torch.zeros(2))
    has(weight, "_version", "is_inference", name="Tensor")
    before = weight._version
    with torch.no_grad():
        weight.add_(1)
    hold(weight._version > before, "Tensor._version no longer counts a change in place")
    before = weight._version
    weight.data.add_(1)
    hold(weight._version == before, "Tensor._version now counts changes through .data: weights_changed may go")
    with torch.inference_mode():
        kept = torch.zeros(2)
    hold(kept.is_inference(), "a tensor made in inference mode no longer says so")


@row("torch-05")
def test_compiler_error():
    """What torch.compile raises without a compiler is torch._dynamo.exc.TorchDynamoException, a RuntimeError."""
    found = module("torch._dynamo.exc", "TorchDynamoException")
    hold(issubclass(found.TorchDynamoException, RuntimeError), "TorchDynamoException is no RuntimeError")


@row("torch-06")
def test_foreach_lerp():
    """torch._foreach_lerp_ moves a list of tensors towards another by a share."""
    has(torch, "_foreach_lerp_", name="torch")
    held = [torch.zeros(2), torch.zeros(3)]
    torch._foreach_lerp_(held, [torch.ones(2), torch.ones(3)], 0.25)
    hold(all(bool((x == 0.25).all()) for x in held), "_foreach_lerp_ computes something else")


@row("torch-07")
def test_names_of_adamws_state():
    """AdamW keeps exp_avg, exp_avg_sq and step for each parameter, and takes them back."""
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight], fused=True)
    weight.grad = torch.ones(2)
    optimizer.step()
    found = set(optimizer.state[weight])
    hold(found == {"exp_avg", "exp_avg_sq", "step"}, f"AdamW's state is {sorted(found)}, not exp_avg, exp_avg_sq, step")


@row("torch-08")
def test_counting_on_the_meta_device():
    """A TorchDispatchMode sees what runs on meta; a storage has _cdata; nonzero on meta may be assumed to be all."""
    mode = module("torch.utils._python_dispatch", "TorchDispatchMode").TorchDispatchMode
    flatten = module("torch.utils._pytree", "tree_flatten").tree_flatten
    module("torch.fx.experimental._config", "meta_nonzero_assume_all_nonzero")
    seen = []

    class Watch(mode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = function(*args, **(kwargs or {}))
            seen.extend(x for x in flatten(made)[0] if isinstance(x, Tensor))
            return made

    with Watch():
        torch.add(torch.empty(2, device="meta"), 1)
    hold(len(seen) >= 2, f"a TorchDispatchMode saw {len(seen)} of 2 operations on meta")
    has(seen[0].untyped_storage(), "_cdata", "nbytes")


@row("torch-09")
def test_what_the_meta_device_lacks():
    """The meta device has no autocast, and its attention is made of ordinary operations."""
    try:
        with torch.autocast("meta", enabled=False):
            pass
    except RuntimeError:
        return
    raise Broken("the meta device knows autocast now: replacing it may go")


@row("torch-10")
def test_counting_compilations():
    """torch._dynamo has reset, a CompileCounter with frame_count, and counters by subject."""
    has(module("torch._dynamo"), "reset", name="torch._dynamo")
    has(module("torch._dynamo.testing", "CompileCounter").CompileCounter(), "frame_count")
    hold(isinstance(module("torch._dynamo.utils", "counters").counters, dict), "torch._dynamo's counters are no dict")


@row("torch-21")
def test_the_root_of_sharded_modules_and_the_rows_of_a_rank():
    """A sharded module's state can be told that it is the root, and the rows of a sharded tensor's rank are found."""
    fsdp = module("torch.distributed.fsdp", "FSDPModule", "fully_shard")
    utils = module("torch.distributed.tensor._utils", "compute_local_shape_and_global_offset")
    distributed = module("torch.distributed", "init_process_group", "device_mesh")
    store = module("torch.testing._internal.distributed.fake_pg", "FakeStore").FakeStore()
    distributed.init_process_group("fake", rank=1, world_size=2, store=store)
    try:
        mesh = distributed.device_mesh.init_device_mesh("cpu", (2,))
        layer = nn.Sequential(nn.Linear(2, 5, device="meta"))
        for each in (layer[0], layer):
            fsdp.fully_shard(each, mesh=mesh)
        has(layer._get_fsdp_state(), "_lazy_init")
        weight = layer[0].weight
        found = utils.compute_local_shape_and_global_offset(weight.shape, weight.device_mesh, weight.placements)
        hold([*map(tuple, found)] == [(2, 2), (3, 0)], f"the second of two ranks has {found} of five rows")
    finally:
        distributed.destroy_process_group()


@row("torch-22")
def test_large_pages():
    """With THP_MEM_ALLOC_ENABLE in the environment, as a training sets it, a large tensor lies in large pages."""
    offered = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not offered.exists() or "[madvise]" not in offered.read_text("utf-8"):
        pytest.skip("this system has no large pages for those that ask")
    code = """
import sys
from lightbagel_core.training.command import large_pages
if sys.argv[1] == "large": large_pages()
import torch
held = torch.ones(2**26)
print(next(line.split()[1] for line in open("/proc/self/smaps_rollup") if line.startswith("AnonHugePages")))
"""
    env = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    run = partial(subprocess.run, capture_output=True, text=True, check=True, cwd=ROOT, env=env)
    large, small = (int(run([sys.executable, "-c", code, which]).stdout) for which in ("large", "small"))
    hold(large > 50_000 > small, f"of 268 MB {large} and {small} kB are in large pages, with and without the variable")


# --- diffusers -------------------------------------------------------------------------------------------------------

WAN = "diffusers.models.transformers.transformer_wan"
VAE = "diffusers.models.autoencoders.autoencoder_kl_wan"
DISPATCH = "diffusers.models.attention_dispatch"


@cache
def dit() -> Any:
    """A tiny Wan transformer."""
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 2, "attention_head_dim": 32, "in_channels": 8, "out_channels": 8, "num_layers": 2}
    more = {"text_dim": 24, "freq_dim": 32, "ffn_dim": 48, "cross_attn_norm": True, "rope_max_seq_len": 32}
    made = module(WAN, "WanTransformer3DModel").WanTransformer3DModel(patch_size=(1, 2, 2), **sizes, **more)
    return made.eval().requires_grad_(False)


@cache
def vae() -> Any:
    """A tiny Wan2.2 VAE."""
    torch.manual_seed(0)
    sizes = {"base_dim": 8, "decoder_base_dim": 8, "z_dim": 48, "num_res_blocks": 1, "is_residual": True}
    shape = {"in_channels": 12, "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16}
    statistics = {"latents_mean": [0.0] * 48, "latents_std": [1.0] * 48}
    made = module(VAE, "AutoencoderKLWan").AutoencoderKLWan(**sizes, **shape, **statistics)
    return made.eval().requires_grad_(False)


@row("diffusers-01")
def test_a_causal_convolution_of_one_frame():
    """WanCausalConv3d on one frame is a 2-D convolution with the last time slice, padded as its _padding says."""
    conv = module(VAE, "WanCausalConv3d").WanCausalConv3d(3, 4, 3, padding=1).requires_grad_(False)
    has(conv, "_padding", "weight", "bias", "stride")
    takes(type(conv).forward, "x", "cache_x")
    x = torch.randn(1, 3, 1, 6, 5)
    left, right, top, bottom, _, _ = conv._padding
    alone = F.conv2d(F.pad(x[:, :, 0], (left, right, top, bottom)), conv.weight[:, :, -1], conv.bias, conv.stride[1:])
    hold(torch.allclose(alone, conv(x)[:, :, 0], atol=1e-5), "one frame through WanCausalConv3d is no 2-D convolution")


@row("diffusers-02")
def test_the_cross_attention_processor():
    """WanAttention asks its processor with (attn, states, encoder states, mask, rotary); set_processor replaces it."""
    processor = module(WAN, "WanAttnProcessor").WanAttnProcessor
    order(processor.__call__, "attn", "hidden_states", "encoder_hidden_states")
    asked = []

    class Ours(processor):
        def __call__(self, attn: Any, states: Tensor, encoder_states: Any = None, *args: Any, **kwargs: Any) -> Tensor:
            asked.append(encoder_states)
            return states

    attn = dit().blocks[0].attn2
    has(attn, "set_processor", "processor")
    before, context = attn.processor, torch.zeros(2, 1, 5, 2, 32)
    attn.set_processor(Ours())
    try:
        block(dit(), 0, torch.zeros(1, 4, 64), context)
    finally:
        attn.set_processor(before)
    hold(len(asked) == 1 and asked[0] is context, "a block does not hand its context on to attn2's processor as it is")


@row("diffusers-03")
def test_a_processors_backend(monkeypatch):
    """WanAttnProcessor hands its own _attention_backend on to dispatch_attention_fn of its module."""
    wan = module(WAN, "dispatch_attention_fn", "WanAttnProcessor")
    has(wan.WanAttnProcessor, "_attention_backend")
    has(dit(), "attn_processors")
    hold(len(dit().attn_processors) == 4, "attn_processors of 2 blocks no longer has 4")
    given, dispatch = [], wan.dispatch_attention_fn

    def watched(*args: Any, backend: Any = None, **kwargs: Any) -> Any:
        given.append(backend)
        return dispatch(*args, backend=backend, **kwargs)

    monkeypatch.setattr(wan, "dispatch_attention_fn", watched)
    native = module(DISPATCH).AttentionBackendName.NATIVE
    for processor in dit().attn_processors.values():
        monkeypatch.setattr(processor, "_attention_backend", native)
    block(dit(), 0, torch.zeros(1, 4, 64), torch.zeros(1, 5, 64))
    hold(given == [native, native], f"a block's attentions asked for {given}, not for their _attention_backend")


@row("diffusers-04")
def test_places_of_classes():
    """Classes are imported from the module that holds them, since importing from diffusers itself takes seconds."""
    module(VAE, "AutoencoderKLWan", "WanCausalConv3d", "patchify", "unpatchify")
    module(WAN, "WanTransformer3DModel", "WanAttnProcessor")
    module("diffusers.schedulers.scheduling_unipc_multistep", "UniPCMultistepScheduler")
    module("diffusers.schedulers.scheduling_dpmsolver_multistep", "DPMSolverMultistepScheduler")
    module("diffusers.schedulers.scheduling_flow_match_euler_discrete", "FlowMatchEulerDiscreteScheduler")


@row("diffusers-05")
@torch.no_grad()
def test_the_vae_taken_apart():
    """On one frame encoder and decoder without their cache, between patchify and unpatchify, are the whole VAE."""
    parts, model, pixels = module(VAE, "patchify", "unpatchify"), vae(), torch.rand(1, 3, 1, 32, 32) * 2 - 1
    has(model, "encoder", "decoder", "quant_conv", "post_quant_conv", "config.patch_size")
    takes(type(model.decoder).forward, "first_chunk")
    moments = model.quant_conv(model.encoder(parts.patchify(pixels, 2)))
    mean = model.encode(pixels).latent_dist.mean
    hold(torch.allclose(moments.chunk(2, dim=1)[0], mean, atol=1e-5), "quant_conv(encoder(patches)) is not encode()")
    drawn = parts.unpatchify(model.decoder(model.post_quant_conv(mean), first_chunk=True), 2).clamp(-1, 1)
    hold(torch.allclose(drawn, model.decode(mean).sample, atol=1e-5), "decoder(post_quant_conv(z)) is not decode()")


@row("diffusers-06")
def test_keys_of_the_configs():
    """The configs of VAE and transformer name the sizes that ComfyUI's classes and the memory plan are given."""
    sizes = ("base_dim", "decoder_base_dim", "z_dim", "dim_mult", "num_res_blocks", "temperal_downsample")
    has(
        vae().config,
        *sizes,
        "patch_size",
        "latents_mean",
        "latents_std",
        "scale_factor_spatial",
        name="the VAE's config",
    )
    sizes = ("num_attention_heads", "attention_head_dim", "in_channels", "out_channels", "num_layers", "ffn_dim")
    more = ("patch_size", "text_dim", "freq_dim", "cross_attn_norm", "eps", "rope_max_seq_len")
    has(dit().config, *sizes, *more, name="WanTransformer3DModel's config")


@row("diffusers-07")
def test_parts_of_an_attention():
    """WanAttention has to_q, to_k, to_v, to_out (a layer, then dropout), norm_q, norm_k and heads."""
    attn = dit().blocks[0].attn2
    has(attn, "to_q", "to_k", "to_v", "to_out", "norm_q", "norm_k", "heads")
    hold([type(layer) for layer in attn.to_out] == [nn.Linear, nn.Dropout], "to_out is no layer and dropout any more")


@row("diffusers-08")
def test_tokens_and_their_rotary_tables():
    """patch_embedding makes tokens; rope asks its argument for nothing but its shape and device."""
    has(dit(), "blocks", "patch_embedding.weight", "rope")
    cos, sin = dit().rope(torch.empty(1, 1, 1, 4, 6))
    hold(cos.shape == sin.shape == (1, 6, 1, 32), f"rope gives tables {list(cos.shape)}, no longer [1, tokens, 1, dim]")


@row("diffusers-09")
def test_parts_of_the_condition_embedder():
    """The condition embedder makes time embedding and modulation from its parts, and embeds text with text_embedder."""
    names = ("timesteps_proj", "time_embedder", "act_fn", "time_proj.weight", "text_embedder")
    has(dit(), *(f"condition_embedder.{name}" for name in names))
    embedder, t, text = dit().condition_embedder, torch.tensor([300.0]), torch.randn(1, 5, 24)
    temb = embedder.time_embedder(embedder.timesteps_proj(t))
    ours = temb, embedder.time_proj(embedder.act_fn(temb)), embedder.text_embedder(text)
    same = all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, embedder(t, text), strict=False))
    hold(same, "condition_embedder no longer computes time, modulation and text with those parts alone")


@row("diffusers-10")
def test_parts_of_the_head():
    """The head is norm_out, scale_shift_table [1, 2, dim], then proj_out."""
    has(dit(), "norm_out", "proj_out.weight", "scale_shift_table")
    hold(dit().scale_shift_table.shape == (1, 2, 64), "scale_shift_table is no longer [1, 2, dim]")


@row("diffusers-11")
@torch.no_grad()
def test_the_whole_transformer_from_its_parts():
    """Tokens, blocks as block(tokens, context, modulation, rotary), head: that is all that its forward does."""
    model, latents, t, text = dit(), torch.randn(1, 8, 1, 4, 6), torch.tensor([300.0]), torch.randn(1, 5, 24)
    order(type(model.blocks[0]).forward, "hidden_states", "encoder_hidden_states", "temb", "rotary_emb")
    temb, modulation, context, _ = model.condition_embedder(t, text, None)
    tokens = model.patch_embedding(latents).flatten(2).transpose(1, 2)
    for one in model.blocks:
        tokens = one(tokens, context, modulation.unflatten(1, (6, -1)), model.rope(latents))
    shift, scale = (model.scale_shift_table + temb[:, None]).chunk(2, dim=1)
    patches = model.proj_out(model.norm_out(tokens) * (1 + scale) + shift)
    ours = patches.unflatten(1, (2, 3)).unflatten(-1, (2, 2, 8)).permute(0, 5, 1, 3, 2, 4).reshape(1, 8, 1, 4, 6)
    theirs = model(latents, t, text, return_dict=False)[0]
    hold(torch.allclose(ours, theirs, atol=1e-4), "WanTransformer3DModel's forward does something more than its parts")


def block(model: Any, index: int, tokens: Tensor, context: Tensor) -> Tensor:
    """Tokens [1, 4, dim] after one block."""
    return model.blocks[index](tokens, context, torch.zeros(1, 6, 64), model.rope(torch.empty(1, 1, 1, 4, 4)))


@row("diffusers-12")
def test_dispatch_attention():
    """dispatch_attention_fn takes q, k, v as [B, N, H, D] and gives the same; NATIVE is torch's own attention."""
    found = module(DISPATCH, "dispatch_attention_fn", "AttentionBackendName")
    q, k, v = (torch.randn(1, n, 2, 8) for n in (3, 5, 5))
    ours = found.dispatch_attention_fn(q, k, v, backend=found.AttentionBackendName.NATIVE)
    theirs = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)
    hold(ours.shape == q.shape and torch.allclose(ours, theirs, atol=1e-6), "dispatch_attention_fn computes otherwise")


@row("diffusers-13")
def test_names_of_the_backends():
    """AttentionBackendName has NATIVE, FLASH and _FLASH_3."""
    has(module(DISPATCH, "AttentionBackendName").AttentionBackendName, "NATIVE", "FLASH", "_FLASH_3")


@row("diffusers-14")
def test_what_diffusers_found():
    """attention_dispatch says in _CAN_USE_FLASH_ATTN and _CAN_USE_FLASH_ATTN_3 whether flash-attn can be used."""
    found = module(DISPATCH, "_CAN_USE_FLASH_ATTN", "_CAN_USE_FLASH_ATTN_3")
    kinds = {type(found._CAN_USE_FLASH_ATTN), type(found._CAN_USE_FLASH_ATTN_3)}
    hold(kinds == {bool}, f"_CAN_USE_FLASH_ATTN and _CAN_USE_FLASH_ATTN_3 are {kinds}, not True or False")


@row("diffusers-15")
def test_names_of_the_transformers_tensors():
    """A transformer's tensor names tell attention, feed-forward and embedders from time, modulation, norms and head."""
    narrow = (".attn1.", ".attn2.", ".ffn.", "patch_embedding.", "text_embedder.")
    outside = {re.sub(r"\.\d+\.", ".N.", name) for name in dit().state_dict() if not any(n in name for n in narrow)}
    time = {f"condition_embedder.{a}.{b}" for a in ("time_embedder.linear_1", "time_embedder.linear_2", "time_proj")
            for b in ("weight", "bias")}  # fmt: skip
    head = {"scale_shift_table", "proj_out.weight", "proj_out.bias"}
    block = {"blocks.N.norm2.weight", "blocks.N.norm2.bias", "blocks.N.scale_shift_table"}
    strange = sorted(outside ^ (time | head | block))
    hold(not strange, f"which tensors stay float32 is told by names, and these are new or gone: {', '.join(strange)}")


@row("diffusers-16")
def test_original_names_of_the_transformer():
    """convert_wan_transformer_to_diffusers renames a dictionary of any tensors, one by one, to all of its own names."""
    convert = module("diffusers.loaders.single_file_utils", "convert_wan_transformer_to_diffusers")
    both, layers = ("weight", "bias"), [f"{a}_attn.{b}" for a in ("self", "cross") for b in "qkvo"]
    layers += ["ffn.0", "ffn.2", "norm3"]
    outside = ["patch_embedding", "head.head", "time_projection.1"]
    outside += [f"{kind}_embedding.{i}" for kind in ("time", "text") for i in (0, 2)]
    blocks = [f"blocks.{i}.{layer}" for i in range(2) for layer in layers]
    originals = [f"{layer}.{kind}" for layer in outside + blocks for kind in both] + ["head.modulation"]
    norms = [f"{a}_attn.norm_{b}.weight" for a in ("self", "cross") for b in "qk"]
    originals += [f"blocks.{i}.{name}" for i in range(2) for name in [*norms, "modulation"]]
    numbered = {name: torch.tensor(i) for i, name in enumerate(originals)}
    made = convert.convert_wan_transformer_to_diffusers(numbered)
    strange = sorted(set(made) ^ set(dit().state_dict()))
    hold(not strange, f"convert_wan_transformer_to_diffusers and the model disagree on {', '.join(strange[:6])}")
    hold(sorted(map(int, made.values())) == list(range(len(originals))), "the converter changes the tensors themselves")


@row("diffusers-17")
def test_names_of_the_vaes_tensors():
    """The VAE's tensor names have the forms that are turned into Wan's original ones."""
    forms = (
        r"(en|de)coder\.(conv_in|conv_out|norm_out)\.",
        r"(en|de)coder\.mid_block\.(resnets\.[01]|attentions\.0)\.(norm1|conv1|norm2|conv2|norm|to_qkv|proj)\.",
        r"encoder\.down_blocks\.\d+\.(resnets\.\d+\.(norm1|conv1|norm2|conv2|conv_shortcut)|downsampler\.\w+)\.",
        r"decoder\.up_blocks\.\d+\.(resnets\.\d+\.(norm1|conv1|norm2|conv2|conv_shortcut)|upsampler\.\w+)\.",
        r"(post_)?quant_conv\.",
    )
    names = list(vae().state_dict())
    strange = [name for name in names if not any(re.match(form, name) for form in forms)]
    hold(not strange, f"AutoencoderKLWan has tensors of unknown names: {', '.join(strange[:6])}")
    idle = [form for form in forms if not any(re.match(form, name) for name in names)]
    hold(not idle, f"AutoencoderKLWan has no tensors named like {', '.join(idle)}")


@row("diffusers-18")
def test_the_mark_of_adapters():
    """A model with adapters has peft_config."""
    mixin = module("diffusers.loaders.peft", "PeftAdapterMixin").PeftAdapterMixin
    hold(isinstance(dit(), mixin), "WanTransformer3DModel takes no adapters through PeftAdapterMixin any more")
    hold("self.peft_config" in inspect.getsource(mixin), "PeftAdapterMixin no longer keeps adapters in peft_config")
    hold(not getattr(dit(), "peft_config", None), "a model without adapters has a peft_config")


@row("diffusers-19")
def test_a_schedulers_sigmas_may_be_set():
    """Each solver steps along the sigmas and timesteps set after set_timesteps, from set_begin_index on."""
    kinds = {
        "scheduling_unipc_multistep.UniPCMultistepScheduler": {"solver_order": 2},
        "scheduling_dpmsolver_multistep.DPMSolverMultistepScheduler": {"algorithm_type": "dpmsolver++"},
    }
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 4.0}
    made = {name: {**flow, **more} for name, more in kinds.items()}
    made["scheduling_flow_match_euler_discrete.FlowMatchEulerDiscreteScheduler"] = {"shift": 4.0}
    sigmas = torch.tensor([0.9, 0.5, 0.2, 0.0])
    for name, options in made.items():
        place, kind = name.split(".")
        scheduler = getattr(module(f"diffusers.schedulers.{place}", kind), kind)(**options)
        scheduler.set_timesteps(3)
        has(scheduler, "sigmas", "timesteps", "set_begin_index")
        scheduler.sigmas, scheduler.timesteps = sigmas, sigmas[:-1] * 1000
        scheduler.set_begin_index(0)
        x = torch.full((1, 1, 2, 2), 0.9)
        for t in scheduler.timesteps:  # the velocity of a straight way from noise 1 to a picture of zeros
            x = scheduler.step(torch.full_like(x, 1.0), t, x, return_dict=False)[0]
        hold(
            torch.allclose(x, torch.zeros_like(x), atol=1e-4),
            f"{kind} takes steps of its own",
        )


@row("diffusers-20")
def test_blocks_that_are_compiled():
    """compile_repeated_blocks compiles Wan's blocks, because _repeated_blocks names their class."""
    has(dit(), "compile_repeated_blocks", "_repeated_blocks")
    kind = type(dit().blocks[0]).__name__
    hold(kind in dit()._repeated_blocks, f"_repeated_blocks is {dit()._repeated_blocks}, without {kind}")


# --- transformers ----------------------------------------------------------------------------------------------------

THETA = 100.0


@cache
def vlm() -> Any:
    """A tiny Qwen2.5-VL."""
    torch.manual_seed(0)
    found = module("transformers", "Qwen2_5_VLConfig", "Qwen2_5_VLForConditionalGeneration")
    text = {"vocab_size": 32, "hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 2, "rms_norm_eps": 1e-6}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64, "rope_theta": THETA}
    text |= {"rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]}, "tie_word_embeddings": False}
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 14}
    vision |= {"spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112, "out_hidden_size": 64}
    ids = {"image_token_id": 5, "video_token_id": 6, "vision_start_token_id": 3, "vision_end_token_id": 4}
    config = found.Qwen2_5_VLConfig(
        text_config=text, vision_config={**vision, "fullatt_block_indexes": [1]}, **ids, tie_word_embeddings=False
    )
    return found.Qwen2_5_VLForConditionalGeneration(config).eval().requires_grad_(False)


def processor() -> Any:
    """The image processor that needs no torchvision."""
    found = module("transformers")
    kind = getattr(found, "Qwen2VLImageProcessorPil", None) or getattr(found, "Qwen2VLImageProcessor", None)
    if kind is None:
        raise Broken("there is neither Qwen2VLImageProcessorPil nor Qwen2VLImageProcessor")
    return kind(min_pixels=56 * 56, max_pixels=112 * 112)


def seen() -> tuple[Tensor, Tensor]:
    """Patches and grids of two pictures."""
    pictures = [np.full((56, side, 3), 99, np.uint8) for side in (56, 84)]
    batch = processor()(images=pictures, return_tensors="pt", do_resize=False)
    return batch["pixel_values"], batch["image_grid_thw"]


@row("transformers-01")
def test_layers_that_may_be_replaced():
    """Qwen2.5-VL is made of nn.Linear, nn.Embedding, nn.Conv3d, and ...RMSNorm with weight and variance_epsilon."""
    kinds = (nn.Linear, nn.Embedding, nn.Conv3d)
    for name, layer in vlm().named_modules():
        if type(layer).__name__.endswith("RMSNorm"):
            has(layer, "weight", "variance_epsilon")
        elif list(layer.named_parameters(recurse=False)):
            hold(type(layer) in kinds, f"{name} is a {type(layer).__name__}, a kind of layer that is not known here")


@row("transformers-02")
def test_matrices_of_numbered_layers():
    """Every matrix of a numbered layer of Qwen2.5-VL and of Wan is the weight of a plain nn.Linear."""
    for model in (vlm(), dit()):
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and re.search(r"(^|\.)(layers|blocks)\.\d+\.", name):
                hold(name.endswith(".weight"), f"{name} is a matrix, but no layer's weight")
                layer = model.get_submodule(name.removesuffix(".weight"))
                hold(type(layer) is nn.Linear, f"{name} belongs to a {type(layer).__name__}, not to an nn.Linear")


@row("transformers-03")
@torch.no_grad()
def test_the_language_model_layer_by_layer():
    """The decoder's layers, called one by one with mask and rotary tables, then its norm, are the language model."""
    has(vlm(), "model.language_model.layers", "model.language_model.rotary_emb", "get_input_embeddings")
    language, x = vlm().model.language_model, torch.randn(1, 4, 64)
    positions = torch.tensor([[[0, 1, 2, 3]], [[0, 1, 1, 2]], [[0, 1, 2, 2]]])
    takes(type(language.layers[0]).forward, "attention_mask", "position_embeddings")
    mask = torch.full((4, 4), torch.finfo(x.dtype).min).triu(1)[None, None]
    rotary, hidden = language.rotary_emb(x, positions), x
    for layer in language.layers:
        output = layer(hidden, attention_mask=mask, position_embeddings=rotary)
        hidden = output[0] if isinstance(output, tuple) else output
    theirs = language(inputs_embeds=x, position_ids=positions, use_cache=False).last_hidden_state
    hold(torch.allclose(language.norm(hidden), theirs, atol=1e-4), "the language model does more than its layers")


@row("transformers-04")
def test_image_features():
    """get_image_features gives a picture's merged tokens each, as a tuple (4.57) or in pooler_output (5)."""
    has(vlm(), "model.get_image_features")
    output = vlm().model.get_image_features(*seen())
    features = getattr(output, "pooler_output", output)
    kind = type(features).__name__
    hold(isinstance(features, tuple | list), f"get_image_features gives a {kind}, not one tensor for each picture")
    shapes = [tuple(each.shape) for each in features]
    hold(shapes == [(4, 64), (6, 64)], f"get_image_features gives {shapes} for pictures of 4 and 6 tokens")


@row("transformers-05")
@torch.no_grad()
def test_how_image_tokens_are_found():
    """A picture's tokens have places of their own in M-RoPE: by mm_token_type_ids (5), or by themselves (4.57)."""
    pixels, grid = seen()
    ids = torch.tensor([[2, 3, 5, 5, 5, 5, 4, 7]])
    named = "mm_token_type_ids" in inspect.signature(type(vlm()).forward).parameters
    types = {"mm_token_type_ids": (ids == 5).int()} if named else {}
    inputs = {"attention_mask": torch.ones_like(ids), "pixel_values": pixels[:16], "image_grid_thw": grid[:1]}
    logits = vlm()(input_ids=ids, **inputs, **types).logits
    places = torch.tensor([[0, 1, 2, 2, 2, 2, 4, 5], [0, 1, 2, 2, 3, 3, 4, 5], [0, 1, 2, 3, 2, 3, 4, 5]])[:, None]
    expected = vlm()(input_ids=ids, position_ids=places, **inputs, **types).logits
    hold(torch.allclose(logits, expected, atol=1e-4), "image tokens no longer get rows and columns as their places")


@row("transformers-06")
def test_the_image_processor():
    """The image processor leaves sizes alone when asked, tells each picture's grid, and needs no torchvision."""
    has(processor(), "merge_size")
    pixels, grid = seen()
    hold(grid.tolist() == [[1, 4, 4], [1, 4, 6]], f"the grids of pictures of 4x4 and 4x6 patches are {grid.tolist()}")
    hold(pixels.shape == (40, 3 * 2 * 14 * 14), f"patches are {list(pixels.shape)}, no longer [40, 1176]")


@row("transformers-07")
def test_the_config_takes_the_names_of_4_and_5():
    """Qwen2_5_VLConfig takes rope_theta and rope_scaling, as transformers 4 calls them, and the model heeds them."""
    positions = torch.tensor([0, 1])[None, None].expand(3, 1, -1)
    cos, _ = vlm().model.language_model.rotary_emb(torch.zeros(1, 2, 64), positions)
    angle = torch.tensor(THETA ** (-2 / 32)).cos()  # of the second frequency, at place 1; 5 has one table, 4 has three
    found = cos.reshape(-1, 2, 32)[0, 1, 1]
    hold(torch.allclose(found, angle, atol=1e-5), "rope_theta of a config has no effect any more")


@row("transformers-08")
def test_names_of_qwens_tensors():
    """In memory the names are model.visual..., model.language_model... and lm_head."""
    starts = ("model.visual.", "model.language_model.", "lm_head.")
    strange = [name for name in vlm().state_dict() if not name.startswith(starts)]
    hold(not strange, f"Qwen2.5-VL has tensors of unknown names: {', '.join(strange[:6])}")


@cache
def tokenizer() -> Any:
    """A tokenizer of a few words."""
    found = module("tokenizers", "Regex", "Tokenizer", "models", "normalizers", "pre_tokenizers")
    words = {word: i for i, word in enumerate(["<unk>", "<|im_end|>", "red", "circle"])}
    raw = found.Tokenizer(found.models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = found.pre_tokenizers.Whitespace()
    slip = found.normalizers.Replace(found.Regex(r"\bc[a-z]rcle\b"), "circle")
    raw.normalizer = found.normalizers.Sequence([found.normalizers.Lowercase(), slip])
    raw.add_special_tokens(["<|im_end|>"])
    return module("transformers", "PreTrainedTokenizerFast").PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", eos_token="<|im_end|>", chat_template="{{ messages }}"
    )


@row("transformers-09")
def test_the_tokenizers_inside():
    """A fast tokenizer shows its pieces and how it reads a text through backend_tokenizer, and its added markers."""
    has(tokenizer(), "backend_tokenizer.pre_tokenizer.pre_tokenize_str", "get_added_vocab", "unk_token_id")
    pieces = [piece for piece, _ in tokenizer().backend_tokenizer.pre_tokenizer.pre_tokenize_str("red cube")]
    hold(pieces == ["red", "cube"], f"pre_tokenize_str gives {pieces}, not the words")
    read_as = tokenizer().backend_tokenizer.normalizer.normalize_str("a CURCLE")
    hold(read_as == "a circle", f"normalize_str gives {read_as!r}, not what the normaliser's rules make of a text")
    hold("<|im_end|>" in tokenizer().get_added_vocab(), "get_added_vocab does not hold the special tokens")


@row("transformers-10")
def test_files_of_a_tokenizer(tmp_path):
    """save_pretrained writes tokenizer.json, chat_template.jinja and tokenizer_config.json with its tokenizer_class."""
    tokenizer().save_pretrained(tmp_path)
    for name in ("tokenizer.json", "chat_template.jinja", "tokenizer_config.json"):
        hold((tmp_path / name).is_file(), f"save_pretrained writes no {name}")
    file = tmp_path / "tokenizer_config.json"
    settings = json.loads(file.read_text("utf-8"))
    hold("tokenizer_class" in settings, "tokenizer_config.json no longer says tokenizer_class")
    file.write_text(json.dumps(settings | {"tokenizer_class": "PreTrainedTokenizerFast"}), "utf-8")
    again = type(tokenizer()).from_pretrained(tmp_path, local_files_only=True)
    hold(
        again.chat_template == "{{ messages }}" and again.eos_token == "<|im_end|>",
        "a saved tokenizer comes back another",
    )


@row("transformers-11")
def test_the_tokenizer_of_vocab_and_merges(tmp_path):
    """Qwen2TokenizerFast reads vocab.json and merges.txt."""
    kind = module("transformers", "Qwen2TokenizerFast").Qwen2TokenizerFast
    (tmp_path / "vocab.json").write_text('{"r": 0, "e": 1, "d": 2, "re": 3, "red": 4, "<|im_start|>": 5}', "utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\nr e\nre d\n", "utf-8")
    (tmp_path / "tokenizer_config.json").write_text("{}", "utf-8")
    ids = kind.from_pretrained(tmp_path, local_files_only=True)("red", add_special_tokens=False)["input_ids"]
    hold(ids == [4], f"Qwen2TokenizerFast reads [4] from vocab.json and merges.txt as {ids}")


@row("transformers-12")
@torch.no_grad()
def test_what_generate_gives():
    """generate gives prompt and answer together, and its ends are in generation_config.eos_token_id."""
    has(vlm(), "generation_config.eos_token_id")
    ids = torch.tensor([[2, 7, 8]])
    output = vlm().generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=2, do_sample=False)
    hold(output[:, :3].tolist() == ids.tolist(), "generate no longer begins with the prompt")
    hold(output.shape[1] in (4, 5), f"generate gives {output.shape[1] - 3} tokens where 2 were asked for")


@row("transformers-13")
def test_settings_that_bring_in_code():
    """A config's settings by which other code is loaded have one of the names that are refused."""
    from lightbagel_core.config import LOADS_CODE

    settings = module("transformers", "Qwen2_5_VLConfig").Qwen2_5_VLConfig()
    words = ("implementation", "auto_map", "quantization", "kernel", "trust", "remote", "hub")
    found = {key for each in (settings, settings.text_config, settings.vision_config) for key in dir(each)
             if any(word in key for word in words) and not callable(getattr(type(each), key, None))}  # fmt: skip
    found -= {"push_to_hub"}
    strange = sorted(key for key in found if not LOADS_CODE.search(key))
    hold(not strange, f"a config has settings that may load code and are not refused: {', '.join(strange)}")


@row("transformers-14")
@torch.no_grad()
def test_where_an_answer_asks_for_the_vits_tokens(monkeypatch):
    """generate asks `model.get_image_features(pixel_values, image_grid_thw)`, once, and takes what it gives."""
    model, asked = vlm(), []
    pixels, grid = seen()
    stock = model.model.get_image_features

    def features(pixel_values, image_grid_thw=None, **kwargs):
        asked.append((tuple(pixel_values.shape), image_grid_thw.tolist()))
        return stock(pixel_values, image_grid_thw, **kwargs)

    monkeypatch.setattr(model.model, "get_image_features", features, raising=False)
    ids = torch.tensor([[2, 3, 5, 5, 5, 5, 4, 7]])
    types = (
        {"mm_token_type_ids": (ids == 5).int()}
        if "mm_token_type_ids" in inspect.signature(model.forward).parameters
        else {}
    )
    model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels[:16],
                   image_grid_thw=grid[:1], max_new_tokens=2, do_sample=False, **types)  # fmt: skip
    hold(asked == [((16, 1176), [[1, 4, 4]])], f"generate asks for the ViT's tokens so: {asked}")


@row("transformers-15")
@torch.no_grad()
def test_a_cache_between_layers():
    """A DynamicCache is filled by hand, and a layer adds its own keys and values to it."""
    cache = module("transformers", "DynamicCache").DynamicCache()
    cache.update(torch.zeros(1, 2, 3, 4), torch.ones(1, 2, 3, 4), 0)
    cache.update(torch.zeros(1, 2, 1, 4), torch.ones(1, 2, 1, 4), 0)
    hold(tuple(cache.layers[0].keys.shape) == (1, 2, 4, 4), "a cache's layer no longer holds all its keys in `keys`")
    hold(bool((cache.layers[0].values == 1).all()), "a cache's layer no longer holds its values in `values`")
    layer = vlm().model.language_model.layers[0]
    names = {"cache", "past_key_values"} & set(inspect.signature(layer.forward).parameters)
    hold(bool(names), "a decoder layer takes its cache by a new name")


@row("transformers-16")
def test_what_tells_words_and_ends_an_answer():
    """A TextStreamer gives text to on_finalized_text; a criterion is called with ids and scores."""
    streamer = module("transformers", "TextStreamer").TextStreamer
    order(streamer.on_finalized_text, "text", "stream_end")
    criterion = module("transformers", "StoppingCriteria").StoppingCriteria
    order(criterion.__call__, "input_ids", "scores")


@row("transformers-17")
@torch.no_grad()
def test_how_words_come_out_of_the_last_layer():
    """Logits are lm_head of the language model's norm of the last layer's states; a cache knows its length."""
    model, states = vlm(), []
    language = model.model.language_model
    hook = language.layers[-1].register_forward_hook(
        lambda module, args, out: states.append(out[0] if isinstance(out, tuple) else out)
    )
    output = model(input_ids=torch.tensor([[7, 8, 9]]), use_cache=True)
    hook.remove()
    ours = model.lm_head(language.norm(states[0]))
    hold(
        torch.allclose(ours, output.logits, atol=1e-6),
        "logits are no longer lm_head of norm of the last layer's states",
    )
    hold(output.past_key_values.get_seq_length() == 3, "a cache's get_seq_length no longer counts its tokens")


# --- huggingface_hub, accelerate, safetensors ------------------------------------------------------------------------


@row("huggingface_hub-01")
def test_http_get(monkeypatch):
    """http_get goes on with a file at resume_size, asks with our headers, and shows a name and a size."""
    found = module("huggingface_hub.file_download", "http_get").http_get
    order(found, "url", "temp_file")
    for name in ("resume_size", "headers", "expected_size", "displayed_filename"):
        hold(name in inspect.signature(found).parameters, f"http_get takes no {name}")


@row("huggingface_hub-02")
def test_lock_and_headers(tmp_path):
    """WeakFileLock keeps others out and raises a TimeoutError; build_hf_headers adds to headers that it is given."""
    utils = module("huggingface_hub.utils", "WeakFileLock", "build_hf_headers")
    headers = utils.build_hf_headers(headers={"Accept-Encoding": "identity"})
    hold(headers.get("Accept-Encoding") == "identity", "build_hf_headers drops the headers that it is given")
    with utils.WeakFileLock(tmp_path / "lock", timeout=1):
        try:
            with utils.WeakFileLock(tmp_path / "lock", timeout=0.1):
                raise Broken("WeakFileLock lets two in")
        except TimeoutError:
            pass


@row("huggingface_hub-03")
def test_errors_of_the_network():
    """HfHubHTTPError's base classes are those of the network library; an error has its response."""
    errors = module("huggingface_hub.errors", "HfHubHTTPError", "GatedRepoError", "EntryNotFoundError")
    bases = [f"{base.__module__}.{base.__name__}" for base in errors.HfHubHTTPError.__bases__]
    known = any(base.split(".")[0] in ("requests", "httpx", "httpcore", "httpx2") for base in bases)
    hold(known, f"HfHubHTTPError is a {', '.join(bases)}: the network's own errors are not caught by that")
    for kind in (errors.GatedRepoError, errors.EntryNotFoundError):
        hold(issubclass(kind, Exception), f"{kind.__name__} is no exception")


@row("huggingface_hub-04")
def test_bars_of_http_get():
    """The progress bar of http_get is switched by the name huggingface_hub.http_get."""
    names = ("are_progress_bars_disabled", "disable_progress_bars", "enable_progress_bars")
    bars, name = module("huggingface_hub.utils.tqdm", *names), "huggingface_hub.http_get"
    source = inspect.getsource(module("huggingface_hub.file_download"))
    hold(f'"{name}"' in source, f"http_get's progress bar is no longer called {name}")
    before = bars.are_progress_bars_disabled(name)
    bars.disable_progress_bars(name)
    hold(bars.are_progress_bars_disabled(name), "disable_progress_bars does not switch off one bar")
    if not before:
        bars.enable_progress_bars(name)


@row("huggingface_hub-05")
def test_constants_and_metadata():
    """constants has ENDPOINT and HF_HUB_OFFLINE; a file's metadata has commit_hash, etag and size."""
    hub = module("huggingface_hub", "constants", "get_hf_file_metadata", "hf_hub_url")
    has(hub.constants, "ENDPOINT", "HF_HUB_OFFLINE", name="huggingface_hub.constants")
    takes(hub.get_hf_file_metadata, "url", "headers")
    kind = module("huggingface_hub.file_download", "HfFileMetadata").HfFileMetadata
    fields = set(kind.__dataclass_fields__)
    hold({"commit_hash", "etag", "size"} <= fields, f"a file's metadata has {sorted(fields)}")


@row("accelerate-01")
@torch.no_grad()
def test_layers_that_are_streamed():
    """cpu_offload leaves weights on meta between uses; hooks.remove_hook_from_module takes its hooks away again."""
    accelerate = module("accelerate", "cpu_offload", "hooks")
    layer = nn.Sequential(nn.Linear(2, 2)).requires_grad_(False)
    expected = layer(torch.ones(1, 2))
    accelerate.cpu_offload(layer, torch.device("cpu"))
    hold(torch.allclose(layer(torch.ones(1, 2)), expected), "a streamed layer computes something else")
    hold(layer[0].weight.is_meta, "cpu_offload keeps weights where they were")
    takes(accelerate.hooks.remove_hook_from_module, "module", "recurse")
    accelerate.hooks.remove_hook_from_module(layer, recurse=True)
    hold("_hf_hook" not in vars(layer[0]), "remove_hook_from_module leaves hooks behind")


@row("safetensors-01")
def test_the_file_format(tmp_path):
    """A file is 8 bytes of length, JSON of dtype, shape and data_offsets, then the bytes; both ways."""
    found = module("safetensors.torch", "save_file", "load_file")
    kinds = {"F32": torch.float32, "BF16": torch.bfloat16, "F8_E4M3": torch.float8_e4m3fn, "U8": torch.uint8}
    tensors = {code: torch.arange(4).to(dtype).reshape(2, 2) for code, dtype in kinds.items()}
    found.save_file(tensors, tmp_path / "theirs.safetensors", {"about": "us"})
    data = (tmp_path / "theirs.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    hold(header.pop("__metadata__") == {"about": "us"}, "a file's metadata is no longer in __metadata__")
    for code, dtype in kinds.items():
        field = header[code]
        hold((field["dtype"], field["shape"]) == (code, [2, 2]), f"{dtype} is stored as {field}")
        start, end = (8 + length + at for at in field["data_offsets"])
        held = torch.frombuffer(bytearray(data[start:end]), dtype=dtype).reshape(2, 2)
        hold(torch.equal(held.float(), tensors[code].float()), f"{dtype} does not lie at its data_offsets")
    text = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    text += b" " * (-len(text) % 8)
    ours = io.BytesIO(len(text).to_bytes(8, "little") + text + torch.tensor([1.0, 2.0]).numpy().tobytes())
    (tmp_path / "ours.safetensors").write_bytes(ours.getvalue())
    hold(
        found.load_file(tmp_path / "ours.safetensors")["w"].tolist() == [1.0, 2.0],
        "a header padded by spaces is refused",
    )


@row("safetensors-02")
def test_a_damaged_file_is_refused(tmp_path):
    """safe_open with "np" checks lengths, offsets and shapes and raises SafetensorError, reading no tensor."""
    found = module("safetensors", "safe_open", "SafetensorError")
    text = b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 800]}}'
    (tmp_path / "short.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    try:
        with found.safe_open(tmp_path / "short.safetensors", "np"):
            pass
    except found.SafetensorError:
        return
    raise Broken("safe_open opens a file whose tensors lie behind its end")
