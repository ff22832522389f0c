"""Several turns: a conditioning that stands after others is what the core makes of the whole conversation; what was
read and seen before is not read and seen again; what cannot be gone on from is refused.
"""

from __future__ import annotations

import gc
import pickle
import re
from copy import deepcopy
from typing import Any

import pytest
import torch
from helpers import (
    CELLS,
    INSTRUCTION,
    PROMPT,
    SEED,
    SIDE,
    STEPS,
    close,
    counted,
    empty,
    ksampler,
    part,
    pixels,
    psnr,
    source,
    tensor,
)
from PIL import Image

KEY = "lightbagel"
SIDES = 64
TEXTS = [PROMPT, INSTRUCTION, "add a green star above the circle"]
SAME = 45.0  # dB


def turn(host: Any, loaded: Any, text: str, history: Any = None, *images: torch.Tensor, clip: Any = None) -> Any:
    """The CONDITIONING of a turn, its pictures as VAE and ViT tokens."""
    given = {f"image{i}": image for i, image in enumerate(images)}
    clip = loaded[1] if clip is None else clip
    return host("LightBagelTextEncode", clip, text, vae=loaded[2], images=given, history=history)


def conversation() -> list[list[Image.Image]]:
    """The pictures of three turns; the third's has another size."""
    return [[], [source()], [source("green", (64, 96))]]


def chain(host: Any, loaded: Any, clip: Any = None, branch: str = "full") -> Any:
    """The CONDITIONING of the last of three turns."""
    made, texts = None, TEXTS
    if branch == "negative":
        texts = [*TEXTS[:-1], "a red square"]
    for text, pictures in zip(texts, conversation(), strict=True):
        images = [] if branch == "no_image" else [tensor(picture) for picture in pictures]
        made = turn(host, loaded, text, made, *images, clip=clip)
    return made


def core_sample(core: Any, turns: list[tuple[list[Image.Image], str]], negative: str = "") -> dict[str, list[Any]]:
    """The contents of each branch, by the core's own rule."""
    from lightbagel_core.sampling.branches import Said, branches_of

    said = [
        Said([content for picture in pictures for content in (core.clean(picture), core.vit(picture))], core.text(text))
        for pictures, text in turns
    ]
    return branches_of(said[-1].pictures, said[-1].text, core.text(negative), said[:-1])


@pytest.fixture
def read_tokens(loaded) -> Any:
    """How many tokens the VLM's first layer was called with, call by call; the target's markers left out."""
    sizes: list[int] = []
    layer = loaded[1].cond_stage_model.und.vlm.model.language_model.layers[0]
    hook = layer.register_forward_hook(lambda module, args, output: sizes.append(args[0].shape[1] - 2 * SIDES))
    yield sizes
    hook.remove()


@pytest.mark.parametrize("keep", ["1", "0"])
@pytest.mark.parametrize("branch", ["full", "negative", "no_image"])
def test_the_states_are_those_of_the_whole_conversation(host, loaded, core, monkeypatch, branch, keep):
    from lightbagel_core.model.forward import pack_samples, und_states

    monkeypatch.setenv("LIGHTBAGEL_KEEP", keep)
    made = chain(host, loaded, branch=branch)[0][0]
    sample = core_sample(core, list(zip(conversation(), TEXTS, strict=True)), "a red square")[branch]
    patch, target = core.config.generation["patch_size"][-1], (3, 4)
    expected = torch.cat(und_states(core.und, pack_samples([sample], patch, target)), dim=-1)
    assert close(made[0, 1 + 2 * SIDES :], expected[:-2])
    assert close(made[0, 1 + 2 * (max(target) - 1) : 1 + 2 * max(target)], expected[-2:])


def test_a_turn_reads_its_own_tokens_only(host, loaded, read_tokens):
    """The VLM; the ViT and the VAE see each picture once, whoever asks."""
    words = [len(loaded[1].tokenize(text)[KEY][0]) for text in TEXTS]
    images = [tensor(picture) for pictures in conversation() for picture in pictures]
    one = turn(host, loaded, TEXTS[0])
    two = turn(host, loaded, TEXTS[1], one, images[0])
    turn(host, loaded, TEXTS[2], two, images[1])
    seen = [made[0][1]["model_conds"][KEY].cond for made in (one, two)]
    picture = sum(segment.und_tokens for segment in seen[1].segments[1:3])
    assert read_tokens[0] == words[0]
    assert read_tokens[1] == picture + words[1]
    assert words[2] < read_tokens[2] < picture + words[2] + 10
    read_tokens.clear()
    turn(host, loaded, "", two)
    assert read_tokens == [2]


def test_no_picture_is_seen_twice(host, loaded, monkeypatch):
    """By positive and negative of a turn, and with another picture beside it in the next."""
    calls: dict[str, int] = {}
    counted(monkeypatch, calls, type(loaded[1].cond_stage_model.und), "vit_images", "vit")
    counted(monkeypatch, calls, type(loaded[2]), "encode", "vae")
    image, other = tensor(source()), tensor(source("green"))
    one = turn(host, loaded, TEXTS[0])
    two = [turn(host, loaded, text, one, image) for text in (TEXTS[1], "")]
    assert calls == {"vit": 1, "vae": 1}
    host("LightBagelTextEncode", loaded[1], TEXTS[1], images={"image0": image}, history=one)
    assert calls == {"vit": 1, "vae": 1}
    [turn(host, loaded, text, two[0], image, other) for text in (TEXTS[2], "")]
    assert calls == {"vit": 2, "vae": 2}
    turn(host, loaded, TEXTS[1], one, image.clone())
    assert calls == {"vit": 3, "vae": 3}


def test_another_vae_or_other_weights_see_again(host, loaded, clip_lora, monkeypatch):
    image, calls = tensor(source()), {}
    counted(monkeypatch, calls, type(loaded[1].cond_stage_model.und), "vit_images", "vit")
    counted(monkeypatch, calls, type(loaded[2]), "encode", "vae")
    first = turn(host, loaded, INSTRUCTION, None, image)
    other = host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype="float32")[2]
    host("LightBagelTextEncode", loaded[1], INSTRUCTION, vae=other, images={"image0": image})
    assert calls == {"vit": 1, "vae": 2}
    changed = host("LoraLoader", loaded[0], loaded[1], clip_lora, 0.0, 1.0)[1]
    assert not close(turn(host, loaded, INSTRUCTION, None, image, clip=changed)[0][0], first[0][0])
    assert calls == {"vit": 2, "vae": 2}


def test_sources_pass_through_the_dit_once(host, loaded, monkeypatch):
    """Those of the history and of the turn, for positive and negative together, as in a run without history."""
    calls: dict[str, int] = {}
    images = [tensor(source(colour)) for colour in ("red", "green")]
    before = turn(host, loaded, TEXTS[0], None, images[0])
    conds = [turn(host, loaded, text, before, images[1]) for text in (TEXTS[1], "")]
    counted(monkeypatch, calls, type(loaded[0].model.diffusion_model), "forward_orig", "wan")
    ksampler(host, loaded[0], conds)
    assert calls == {"wan": 2 + STEPS}


@pytest.mark.parametrize("image_guidance", [1.0, 1.5])
def test_both_hosts_draw_the_same_conversation(host, loaded, core, image_guidance):
    """Three turns, each from the picture that the last one drew, with all the history there is."""
    from lightbagel_core.sampling.guidance import Guidance

    guidance, settings = Guidance(2.0, image_guidance), {"seed": SEED, "steps": STEPS, "solver": "euler", "shift": 4.0}
    run, images, theirs = part(host, "run"), [], []
    history: dict[str, Any] = {"full": None, "negative": None, "no_image": None}
    turns: list[tuple[list[Image.Image], str]] = []
    for text in TEXTS:
        conds = {
            "full": turn(host, loaded, text, history["full"], *images[-1:]),
            "negative": turn(host, loaded, "", history["full"], *images[-1:]),
            "no_image": turn(host, loaded, text, history["no_image"]),
        }
        with torch.inference_mode():
            image, _ = run.draw(loaded[0], loaded[2], conds, empty()["samples"], None, guidance, **settings)
        images.append(image)
        history = conds
        turns.append((theirs[-1:], text))
        branches = {name: [sample] for name, sample in core_sample(core, turns).items()}
        theirs += core.draw(branches, core.noise(1, SIDE, SIDE, SEED), guidance, steps=STEPS, solver="euler", shift=4.0,
                            progress=False)  # fmt: skip
        assert psnr(pixels(image), theirs[-1]) > SAME


def test_stock_samplers_draw_a_turn(host, loaded, core):
    """KSampler, as in the workflow; its "simple" grid starts at 1 where ours starts at 0.999."""
    from lightbagel_core.sampling.guidance import Guidance

    before = turn(host, loaded, TEXTS[0])
    conds = [turn(host, loaded, text, before, tensor(source())) for text in (TEXTS[1], "")]
    image = host("VAEDecode", loaded[2], {"samples": ksampler(host, loaded[0], conds)})
    branches = {n: [s] for n, s in core_sample(core, [([], TEXTS[0]), ([source()], TEXTS[1])]).items()}
    noise = core.noise(1, SIDE, SIDE, SEED)
    (ours,) = core.draw(branches, noise, Guidance(2.0), steps=STEPS, solver="euler", shift=4.0, progress=False)
    assert psnr(pixels(image), ours) > SAME


def test_what_is_kept_is_counted_and_goes_with_the_conditioning(host, loaded):
    import comfy.model_management as management

    given = part(host, "conditioning")
    gc.collect()
    already, config = set(given.READ), loaded[1].cond_stage_model.und.vlm.config.get_text_config()
    one = turn(host, loaded, TEXTS[0])
    two = turn(host, loaded, TEXTS[1], one, tensor(source()))
    read = [given.READ[id(made[0][0])] for made in (one, two)]
    assert read[1].turns[0] is read[0].turns[0]
    heads, side = config.num_key_value_heads, config.hidden_size // config.num_attention_heads
    for made, found in zip((one, two), read, strict=True):
        tokens = made[0][0].shape[1] - 1 - 2 * SIDES
        assert sum(x.nbytes for x in found.turns) == tokens * config.num_hidden_layers * 2 * heads * side * 4
        assert sum(x.untyped_storage().nbytes() for x in found.turns) == sum(x.nbytes for x in found.turns)
        assert all(x.device == management.intermediate_device() for x in found.turns)
    del one, two, read, made, found
    gc.collect()
    assert set(given.READ) == already


def test_nothing_is_kept_where_nobody_can_go_on(host, loaded, monkeypatch):
    """Of prompts of other nodes, of pictures that are gone, and with LIGHTBAGEL_KEEP=0."""
    given, images = part(host, "conditioning"), loaded[1].cond_stage_model.images
    image = tensor(source())
    turn(host, loaded, INSTRUCTION, None, image)
    assert [entry for entry in images.made if entry[1][-1]() is image]
    seen = len(images.made)
    del image
    gc.collect()
    assert len(images.made) == seen - 2
    gc.collect()
    before = set(given.READ)
    stock = host("CLIPTextEncode", loaded[1], PROMPT)
    assert set(given.READ) == before
    after = turn(host, loaded, INSTRUCTION, stock)
    assert close(after[0][0], turn(host, loaded, INSTRUCTION, turn(host, loaded, PROMPT))[0][0])
    monkeypatch.setenv("LIGHTBAGEL_KEEP", "0")
    gc.collect()
    before = set(given.READ)
    image = tensor(source())
    made = turn(host, loaded, PROMPT, None, image)
    assert id(made[0][0]) in given.GIVEN
    assert set(given.READ) == before
    assert not images.made


def test_a_lora_on_the_clip_reads_the_history_anew(host, loaded, clip_lora, read_tokens):
    changed = host("LoraLoader", loaded[0], loaded[1], clip_lora, 0.0, 1.0)[1]
    plain, whole = chain(host, loaded), chain(host, loaded, clip=changed)
    image = tensor(conversation()[2][0])
    two = turn(host, loaded, TEXTS[1], turn(host, loaded, TEXTS[0]), tensor(source()))
    read_tokens.clear()
    mixed = turn(host, loaded, TEXTS[2], two, image, clip=changed)
    assert read_tokens == [mixed[0][0].shape[1] - 1 - 2 * SIDES]
    assert close(mixed[0][0], whole[0][0])
    assert not close(mixed[0][0], plain[0][0])
    assert close(turn(host, loaded, TEXTS[2], two, image)[0][0], plain[0][0])


def test_a_clip_whose_loras_hooks_schedule(host, loaded, clip_lora):
    """Each entry is the conversation with its own weights; what was seen without the LoRA is not used with it."""
    hooks = host("CreateHookLora", clip_lora, 0.0, 1.0)
    keyframes = host("CreateHookKeyframe", 1.0, 0.0)
    keyframes = host("CreateHookKeyframe", 0.0, 0.5, keyframes)
    scheduled = host("SetClipHooks", loaded[1], True, False, host("SetHookKeyframes", hooks, keyframes))
    image = tensor(source())
    one = turn(host, loaded, TEXTS[0], None, image)

    def after(clip: Any, history: Any) -> Any:
        return turn(host, loaded, TEXTS[1], history, image, clip=clip)

    changed = host("LoraLoader", loaded[0], loaded[1], clip_lora, 0.0, 1.0)[1]
    wanted = [after(clip, turn(host, loaded, TEXTS[0], None, image, clip=clip))[0][0] for clip in (changed, loaded[1])]
    plain = after(loaded[1], one)
    for history in (one, turn(host, loaded, TEXTS[0], None, image, clip=scheduled)):
        found = after(scheduled, history)
        assert len(found) == 2
        assert [close(entry[0], states) for entry, states in zip(found, wanted, strict=True)] == [True, True]
    assert not close(wanted[0], wanted[1])
    assert close(after(loaded[1], one)[0][0], plain[0][0])


def test_a_token_list_with_a_history_can_be_copied(host, loaded):
    clip = loaded[1]
    one = turn(host, loaded, TEXTS[0])
    before = part(host, "history").earlier(one, clip.cond_stage_model)
    tokens = clip.tokenize(TEXTS[1], sources=[before])
    made = {KEY: [[(token, 1.0, 0) for token, _ in deepcopy(tokens)[KEY][0]]]}
    with torch.inference_mode():
        assert torch.equal(clip.encode_from_tokens(made), clip.encode_from_tokens(tokens))
    assert close(clip.encode_from_tokens(made), turn(host, loaded, TEXTS[1], one)[0][0])
    assert clip.tokenizer.untokenize(tokens[KEY][0])[0][1] == "<1 earlier turn>"
    with pytest.raises(ValueError, match="a history is for drawing"):
        clip.generate(tokens, do_sample=False, max_length=4)


def changed(host: Any, loaded: Any, how: str) -> Any:
    """A history that cannot be gone on from."""
    image = tensor(source())
    one, other = turn(host, loaded, TEXTS[0], None, image), turn(host, loaded, TEXTS[1], None, image)
    if how == "averaged":
        return host("ConditioningAverage", one, other, 0.5)
    if how == "zeroed":
        return host("ConditioningZeroOut", one)
    if how == "joined":
        return host("ConditioningConcat", one, other)
    if how == "multiplied":
        return [[one[0][0] * 1.5, one[0][1]]]
    if how == "its tensor alone, copied":
        return [[one[0][0].clone(), {}]]
    if how == "combined":
        return host("ConditioningCombine", one, other)
    if how == "another model's":
        return [[torch.zeros(1, 77, 768), {"pooled_output": None}]]
    if how == "another clip's":
        clip = host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype="float32")[1]
        return turn(host, loaded, TEXTS[0], clip=clip)
    if how == "from a file":
        conds = pickle.loads(pickle.dumps(one[0][1]["model_conds"]))  # noqa: S301 - as ComfyUI's own nodes write it
        return [[one[0][0].clone(), {"model_conds": conds}]]
    if how == "with a ReferenceLatent":
        return [[one[0][0], {**one[0][1], "reference_latents": [torch.zeros(1, 48, CELLS, CELLS)]}]]
    return []


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("averaged", "a node has changed the history"),
        ("zeroed", "a node has changed the history"),
        ("joined", "a node has changed the history"),
        ("multiplied", "a node has changed the history"),
        ("its tensor alone, copied", "a node has changed the history"),
        ("combined", r"the history holds several prompts \(ConditioningCombine\)"),
        ("another model's", "comes from another model's text encoder"),
        ("another clip's", "encoded with another CLIP"),
        ("from a file", "loaded from a file"),
        ("with a ReferenceLatent", "does not hear a ReferenceLatent"),
        ("nothing", "an empty conditioning"),
    ],
)
def test_what_cannot_be_gone_on_from_is_refused(host, loaded, how, told):
    with pytest.raises(ValueError, match=told):
        turn(host, loaded, TEXTS[2], changed(host, loaded, how))
    assert turn(host, loaded, TEXTS[2])


def test_where_a_history_counts_is_said_not_to_act(host, loaded, log):
    one = turn(host, loaded, TEXTS[0])
    wanted = turn(host, loaded, TEXTS[1], one)
    for made in (
        host("ConditioningSetArea", one, 64, 64, 0, 0, 1.0),
        host("ConditioningSetTimestepRange", one, 0.0, 0.5),
        host("ConditioningSetMask", one, torch.ones(1, 8, 8), "default", 1.0),
    ):
        assert close(turn(host, loaded, TEXTS[1], made)[0][0], wanted[0][0])
    assert {each.split(" on a history")[0] for each in log} == {
        "LightBagel: an area", "LightBagel: a strength", "LightBagel: a range of steps", "LightBagel: a mask",
    }  # fmt: skip


def test_a_history_that_says_nothing_in_its_last_turn_is_told(host, loaded, log):
    """That of a negative side, connected by mistake; one that says something is not told of."""
    one = turn(host, loaded, TEXTS[0])
    for history in (one, turn(host, loaded, TEXTS[1], None, tensor(source()))):
        turn(host, loaded, "", history)
    assert not log
    negative = turn(host, loaded, "", None, tensor(source()))
    assert [len(turn(host, loaded, TEXTS[1], negative)) for _ in range(2)] == [1, 1]
    assert log == [
        "LightBagel: the history says nothing in its last turn: give the negative side the same history as the positive"
    ]


def test_a_history_longer_than_the_vlm_has_positions_is_refused(host, loaded, read_tokens):
    """Before the VLM reads it; what went before can be drawn and gone on from."""
    image, made = tensor(source()), turn(host, loaded, PROMPT)
    for number in range(2, 41):  # noqa: B007 - which turn it was
        before, read = made, len(read_tokens)
        try:
            made = turn(host, loaded, INSTRUCTION, before, image)
        except ValueError as error:
            told = str(error)
            break
    assert 25 < number < 40
    assert len(read_tokens) == read
    assert re.match(r"this drawing's context needs 5\d\d positions, and the VLM has 512: .* fewer earlier turns", told)
    assert turn(host, loaded, "", before)


def test_what_the_target_adds_counts_too(host, loaded):
    """A target of 96 pixels takes five positions: three tokens and its markers."""
    nothing = turn(host, loaded, "")
    fits, over = (turn(host, loaded, "circle " * words) for words in (505, 506))
    assert torch.isfinite(ksampler(host, loaded[0], (fits, nothing), steps=1)).all()
    with pytest.raises(ValueError, match="needs 513 positions, and the VLM has 512"):
        ksampler(host, loaded[0], (over, nothing), steps=1)
    with pytest.raises(ValueError, match="needs 513 positions, and the VLM has 512"):
        host("CLIPTextEncode", loaded[1], "circle " * 511)


def test_thirty_turns_are_read_and_said_to_be_untrained_once(host, loaded, log, read_tokens):
    made = turn(host, loaded, PROMPT)
    made = turn(host, loaded, INSTRUCTION, made)
    assert not log
    for _ in range(28):
        made = turn(host, loaded, INSTRUCTION, made)
    assert len(log) == 1
    assert "more than one earlier turn" in log[0]
    assert set(read_tokens[1:]) == {len(loaded[1].tokenize(INSTRUCTION)[KEY][0])}
    assert torch.isfinite(ksampler(host, loaded[0], (made, turn(host, loaded, "")), steps=2)).all()
