"""How ComfyUI moves on, acted out on the one at hand: unknown keywords everywhere, Generate Text as newer ones have it,
a pause of the host's recording, layers that became one, and the switch that turns all keeping off.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest
import torch
from helpers import INSTRUCTION, PROMPT, SETTINGS, STEPS, close, fusion_of, ksampler, part, source, tensor
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

QUESTION = "how many shapes are there?"
FEW = 3  # steps
GREEDY = {"do_sample": False, "max_length": 16}


@pytest.fixture
def ours(host: Any) -> Callable[[str], Any]:
    """Imports a module of nodes/host/ by its name."""
    return lambda name: part(host, name)


# --- unknown keywords ------------------------------------------------------------------------------------------------


class Original:
    """An executor as a hook is given it, which drops what this ComfyUI does not know."""

    def __init__(self, executor: Any) -> None:
        self.executor, self.class_obj = executor, executor.class_obj

    def __call__(self, *args: Any, later: Any = None, **kwargs: Any) -> Any:
        return self.executor(*args, **kwargs)

    def original(self, *args: Any, later: Any = None, **kwargs: Any) -> Any:
        return self.executor.original(*args, **kwargs)


def hooks_of(model: Any) -> list[tuple[str, list[Any]]]:
    return [(kind, keyed["lightbagel"]) for kind, keyed in model.wrappers.items() if "lightbagel" in keyed]


def stack_beside(host: Any, model: Any) -> Any:
    """The patcher of a fusion stack that Apply LightBagel Fusion puts beside a MODEL's Wan."""
    applied = host("LightBagelApplyFusion", model=model, fusion="nano (built in)")
    return applied.additional_models["lightbagel"][0]


def asked_of(stand_in: Any) -> list[str]:
    """The methods of our tokenizer or text encoder that ComfyUI's own have too, or CLIP, which asks them."""
    stock = import_module("comfy.sd1_clip")
    kinds = (stock.SD1Tokenizer, stock.SD1ClipModel, import_module("comfy.sd").CLIP)
    own = [name for name, f in vars(type(stand_in)).items() if inspect.isfunction(f) and not name.startswith("_")]
    return [name for name in own if any(hasattr(kind, name) for kind in kinds)]


def called_by_the_host(host: Any, ours: Callable[[str], Any], loaded: Any) -> Iterator[tuple[str, Any]]:
    """(name, function) of all of ours that ComfyUI calls: what stands in for its own objects, what overrides its
    classes' methods, and what is hung onto its models.
    """
    model, clip, vae = loaded
    fusion = stack_beside(host, model)
    for stand_in in (clip.tokenizer, clip.cond_stage_model):
        yield from ((name, getattr(type(stand_in), name)) for name in asked_of(stand_in))
    modules = [ours(name) for name in ("conditioning", "guider", "wan", "load", "hooks", "wan_adapter")]
    classes = {c for module in modules for c in vars(module).values() if inspect.isclass(c)}
    for one in classes | {type(vae), type(vae.first_stage_model), type(model.model.latent_format)}:
        bases = [base for base in one.__mro__[1:] if base.__module__.startswith("comfy.")]
        if one.__module__.startswith("comfy.") or not bases:
            continue
        for name, function in vars(one).items():
            if (
                inspect.isfunction(function)
                and not name.startswith("__")
                and any(hasattr(base, name) for base in bases)
            ):
                yield f"{one.__name__}.{name}", function
    yield from ((kind, hook) for kind, hooks in hooks_of(model) for hook in hooks)
    yield from model.object_patches.items()
    yield from ((name, f) for name, f in vars(vae).items() if name.startswith("memory_used_"))
    yield "sampler", ours("guider").sampler("euler", 2, 4.0)[0].sampler_function
    yield from ((f"loader of {p}", p.cached_patcher_init[0]) for p in (model, fusion, clip.patcher))


def test_whatever_the_host_calls_takes_keywords_that_it_does_not_know(host, ours, loaded):
    asked = dict(called_by_the_host(host, ours, loaded))
    assert {"tokenize_with_weights", "generate", "Rows.process_cond", "Guider.predict_noise", "sampler"} <= asked.keys()
    assert {"outer_sample", "calc_cond_batch", "scale_latent_inpaint"} <= asked.keys()
    of = {name: inspect.signature(function).parameters.values() for name, function in asked.items()}
    strict = [name for name, parameters in of.items() if not any(p.kind is p.VAR_KEYWORD for p in parameters)]
    assert strict == []


def test_unknown_keywords_change_nothing(host, loaded, prompts, ours, monkeypatch):
    """Each method is handed one, through a prompt, an answer, a stock run and a one-box run."""
    model, clip, _ = loaded
    edit = {**SETTINGS, "steps": 2, "images": {"image0": tensor(source())}, "image_guidance": 1.5}
    handed: list[str] = []

    def results() -> tuple[Any, ...]:
        encoded = host("CLIPTextEncode", clip, PROMPT)
        drawn = ksampler(host, model, (encoded, prompts[1]))
        words = clip.decode(clip.generate(clip.tokenize(QUESTION, pictures=(source(),)), **GREEDY))
        return words, drawn, host("LightBagelEdit", *loaded, instruction=INSTRUCTION, **edit)[0]

    def later(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            handed.append(name)
            return function(*args, **kwargs, later=object())

        monkeypatch.setattr(owner, name, call)

    before = results()
    clip.cond_stage_model.recent.made.clear()
    for owner in (clip.tokenizer, clip.cond_stage_model):
        for name in asked_of(owner):
            later(owner, name)
    for name in ("process_cond", "can_concat", "concat", "size"):
        later(ours("conditioning").Rows, name)
    later(ours("guider").Guider, "predict_noise")
    for kind, hooks in hooks_of(model):

        def hooked(executor: Any, *args: Any, hook: Any = hooks[0], kind: str = kind, **kwargs: Any) -> Any:
            handed.append(kind)
            return hook(Original(executor), *args, **kwargs, later=object())

        monkeypatch.setitem(model.wrappers[kind], "lightbagel", [hooked])
    after = results()
    assert after[0] == before[0]
    assert torch.equal(after[1], before[1])
    assert torch.equal(after[2], before[2])
    idle = {"tokenize_with_weights", "encode_token_weights", "generate", "decode", "set_clip_options", "process_cond",
            "concat", "predict_noise", *(kind for kind, _ in hooks_of(model))} - set(handed)  # fmt: skip
    assert not idle


def test_models_are_loaded_again_with_keywords_that_are_not_known(host, loaded):
    """For compiling, hooks and several cards; what is loaded is the same model."""
    model, clip, _ = loaded
    for one in (model, stack_beside(host, model), clip.patcher):
        function, args = one.cached_patcher_init[:2]
        again = function(*args, disable_dynamic=True, later=object())
        assert {n: t.shape for n, t in again.model.state_dict().items()} == {
            n: t.shape for n, t in one.model.state_dict().items()
        }


def test_nodes_are_given_no_input_that_they_have_not_declared(host):
    """The host leaves out what a newer page or another pack adds to a prompt, so no `execute` needs to take it."""
    execution = import_module("execution")
    for name, node in host.mappings.items():
        if name.startswith("LightBagel"):
            assert "later" not in execution.get_input_data({"later": 1}, node, "1")[0]


# --- Generate Text ---------------------------------------------------------------------------------------------------


def generate_text(clip: Any, prompt: str, images: list[Any] | None = None, **changed: Any) -> tuple[str, str]:
    """The answer and the thinking, by the calls of Generate Text as ComfyUI has it from about 0.38 on."""
    options = {"skip_template": False, "min_length": 1, "thinking": False, "video": None, "audio": None}
    tokens = clip.tokenize(prompt, images=images, **{**options, "system_prompt": "", **changed})
    settings = {"temperature": 1.0, "top_k": 50, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0, "seed": None}
    clip.load_model(tokens)
    clip.cond_stage_model.set_clip_options({"execution_device": clip.patcher.load_device})
    ids = clip.cond_stage_model.generate(tokens, **GREEDY, **settings, presence_penalty=0.0, mtp=True)
    text = clip.decode(ids)
    thoughts, _, answer = text.partition("</think>")
    return (answer, thoughts) if thoughts.lstrip().startswith("<think>") else (text.strip(), "")


def test_generate_text_as_newer_ones_have_it(host, loaded):
    """A list of pictures, of which some may be missing; nothing is thought; the answer is Describe's."""
    clip = loaded[1]
    pictures = [tensor(source()), None, tensor(source("green", (64, 96)))]
    asked = {"max_length": 16, "sampling_mode": {"sampling_mode": "off"}}
    one = host("LightBagelDescribe", clip, image=pictures[0], question="Describe the image", **asked)
    assert generate_text(clip, "Describe the image", [pictures[0]]) == (one, "")
    two = clip.decode(clip.generate(clip.tokenize(QUESTION, pictures=(source(), source("green", (64, 96)))), **GREEDY))
    assert generate_text(clip, QUESTION, pictures) == (two.strip(), "")
    assert generate_text(clip, QUESTION, torch.cat([pictures[0]] * 2))[0]  # a batch in place of a list
    assert generate_text(clip, "Describe the image", [pictures[0]], thinking=True) == (one, "")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"video": torch.ones(2, 8, 8, 3)}, "not at videos"),
        ({"audio": {"waveform": torch.ones(1, 1, 8), "sample_rate": 8}}, "hears nothing"),
        ({"system_prompt": "answer in one word"}, "without a system prompt.*or use LightBagel Rewrite Prompt"),
        ({"skip_template": True}, "switch use_default_template on"),
        ({"llama_template": "{}"}, "form of another model"),
        ({"image_embeds": torch.ones(1, 4)}, "form of another model"),
    ],
)
def test_what_changes_the_meaning_is_refused(loaded, given, message):
    with pytest.raises(ValueError, match=message):
        loaded[1].tokenize(PROMPT, **given)


def test_what_an_answer_cannot_heed_is_refused(loaded):
    clip = loaded[1]
    tokens = clip.tokenize(QUESTION, pictures=(source(),))
    settings = {"temperature": 1.0, "top_k": 5, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0, "seed": 0}
    with pytest.raises(ValueError, match="no presence_penalty"):
        clip.cond_stage_model.generate(tokens, do_sample=True, max_length=4, **settings, presence_penalty=0.5)


# --- what is kept over a run -----------------------------------------------------------------------------------------


class Allocations(TorchDispatchMode):
    """Where tensors were made: for each storage, whether inside the pause. The storages are held, so that none is taken
    for another at the same address.
    """

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.pauses = False, 0
        self.made: dict[int, tuple[Any, bool]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else [out]:
            if isinstance(one, Tensor):
                storage = one.untyped_storage()
                self.made.setdefault(storage.data_ptr(), (storage, self.inside))
        return out

    @contextmanager
    def pause(self) -> Iterator[None]:
        """The stub of the host's pause."""
        assert not self.inside, "a pause inside a pause would end the outer one"
        self.inside, self.pauses = True, self.pauses + 1
        try:
            yield
        finally:
            self.inside = False


def cache_of(model: Any) -> Any:
    return model.get_wrappers("diffusion_model", "lightbagel")[0].__self__.cache


def tensors_in(thing: Any) -> Iterator[Tensor]:
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, dict):
        for each in thing.values():
            yield from tensors_in(each)
    elif isinstance(thing, list | tuple):
        for each in thing:
            yield from tensors_in(each)
    elif hasattr(thing, "learned"):  # a context
        yield from tensors_in([thing.keys, thing.values, thing.rotary, thing.learned])


def an_edit(host: Any, parts: Any) -> Tensor:
    images = {"image0": tensor(source())}
    settings = {**SETTINGS, "steps": FEW, "images": images, "instruction": INSTRUCTION, "image_guidance": 1.5}
    return host("LightBagelEdit", *parts, **settings)[0]


def test_what_is_kept_is_made_in_the_hosts_pause(host, loaded, monkeypatch):
    """A stub of the pause notes what is made inside it: all that is kept, in the first step; later none is entered."""
    prefetch = pytest.importorskip("comfy.model_prefetch", reason="this ComfyUI has no module of that name")
    preview, model, watch = import_module("latent_preview"), loaded[0], Allocations()
    fusion = fusion_of(model)
    seen: list[tuple[int, set[int], int]] = []

    def step(*_: Any) -> None:
        held = {at: what for at, what in cache_of(model).kept.items() if at[0] != "covers"}  # these hold layers
        kept = {t.untyped_storage().data_ptr() for t in tensors_in(held)}
        seen.append((len(kept), {at for at in kept if not watch.made.get(at, (None, False))[1]}, watch.pauses))

    plain = an_edit(host, loaded)
    loaded[1].cond_stage_model.recent.made.clear()
    monkeypatch.setattr(prefetch, "pause_malloc_graph", watch.pause, raising=False)
    monkeypatch.setattr(preview, "prepare_callback", lambda *_: step)
    with watch:
        assert torch.equal(an_edit(host, loaded), plain)
    weight = fusion.context.untyped_storage().data_ptr()  # in float32 the learned context is the weight itself
    assert [outside - {weight} for _, outside, _ in seen] == [set()] * FEW
    assert seen[0][0] > 20
    assert len({pauses for *_, pauses in seen}) == 1
    assert 0 < len([1 for _, inside in watch.made.values() if inside]) < len(watch.made) / 2


def test_a_run_keeps_nothing_where_the_switch_says_so(host, loaded, monkeypatch):
    """LIGHTBAGEL_KEEP=0: the same picture, nothing kept at any step nor for the next run."""
    preview, model, encoder = import_module("latent_preview"), loaded[0], loaded[1].cond_stage_model
    held: list[Any] = []

    def step(*_: Any) -> None:
        cache = cache_of(model)
        held.extend([*cache.kept, *cache.unchanging, cache.keeping])

    plain = an_edit(host, loaded)
    encoder.recent.made.clear()
    monkeypatch.setenv("LIGHTBAGEL_KEEP", "0")
    monkeypatch.setattr(preview, "prepare_callback", lambda *_: step)
    drawn = an_edit(host, loaded)
    assert close(drawn, plain)
    assert held == [False] * FEW
    assert not encoder.recent.made
    monkeypatch.setenv("LIGHTBAGEL_KEEP", "off")
    with pytest.raises(ValueError, match="LIGHTBAGEL_KEEP is 'off': 0 keeps nothing"):
        an_edit(host, loaded)


class OneProjection(nn.Module):
    """Wan's cross-attention with the context's two projections as one layer, as a host may fuse them."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.num_heads, self.q, self.o, self.norm_q = stock.num_heads, stock.q, stock.o, stock.norm_q
        self.norm = stock.norm_k
        self.kv = nn.Linear(stock.k.in_features, 2 * stock.k.out_features)
        self.kv.weight.data = torch.cat([stock.k.weight, stock.v.weight])
        self.kv.bias.data = torch.cat([stock.k.bias, stock.v.bias])
        self.calls = 0

    def forward(self, x: Tensor, context: Tensor, transformer_options: Any = None, **kwargs: Any) -> Tensor:
        from comfy.ldm.modules.attention import optimized_attention

        self.calls += 1
        k, v = self.kv(context).chunk(2, dim=-1)
        q, k = self.norm_q(self.q(x)), self.norm(k)
        return self.o(optimized_attention(q, k, v, heads=self.num_heads, transformer_options=transformer_options))


def test_layers_that_a_wan_has_not_are_not_kept(host, loaded, prompts):
    """Without `cross_attn.k`, `norm_k` and `v` the picture is the same; the layers that are there are still kept."""
    other = host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype="float32")[0]
    wan, calls = other.model.diffusion_model, []
    ksampler(host, other, prompts, steps=1)  # so that its weights are loaded
    with torch.inference_mode():
        for block in wan.blocks:
            block.cross_attn = OneProjection(block.cross_attn)
    wan.text_embedding.register_forward_hook(lambda *_: calls.append(1))
    assert close(ksampler(host, other, prompts), ksampler(host, loaded[0], prompts))
    assert [block.cross_attn.calls for block in wan.blocks] == [STEPS] * len(wan.blocks)


def test_a_wan_without_any_of_them_is_left_alone(ours):
    class Bare:
        blocks = (nn.Linear(1, 1), nn.Linear(1, 1))

    assert ours("run_cache").layers_of_context(Bare()) == []
    cache = ours("run_cache").RunCache()
    with cache.run(True), cache.covering(Bare()):
        assert cache.keeping
