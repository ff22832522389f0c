"""Token lists and conditionings in other people's hands: what packs and stock nodes do with both, done to ours."""

from __future__ import annotations

from copy import copy, deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from conftest import PACK
from helpers import CELLS, INSTRUCTION, PROMPT, close, counted, ksampler, source, tensor

KEY = "lightbagel"
OTHERS: dict[str, dict[str, Any]] = {
    "CLIPTextEncodeFlux": {"clip_l": PROMPT, "t5xxl": PROMPT, "guidance": 3.5},
    "CLIPTextEncodeSD3": {"clip_l": PROMPT, "clip_g": PROMPT, "t5xxl": "", "empty_padding": "none"},
    "CLIPTextEncodeSDXL": {
        "width": 1024, "height": 1024, "crop_w": 0, "crop_h": 0, "target_width": 1024, "target_height": 1024,
        "text_g": PROMPT, "text_l": PROMPT,
    },
    "CLIPTextEncodeHunyuanDiT": {"bert": PROMPT, "mt5xl": PROMPT},
    "CLIPTextEncodeHiDream": {"clip_l": PROMPT, "clip_g": PROMPT, "t5xxl": PROMPT, "llama": PROMPT},
    "CLIPTextEncodeKandinsky5": {"clip_l": PROMPT, "qwen25_7b": PROMPT},
    "CLIPTextEncodeLumina2": {"user_prompt": PROMPT, "system_prompt": "superior"},
    "TextEncodeAceStepAudio": {"tags": PROMPT, "lyrics": PROMPT, "lyrics_strength": 1.0},
    "TextEncodeQwenImageEditPlus": {"prompt": PROMPT},
}  # fmt: skip


def encoded(clip: Any, tokens: Any) -> torch.Tensor:
    with torch.inference_mode():
        return clip.encode_from_tokens(tokens)


def stripped(clip: Any, tokens: Any) -> list[Any]:
    """A CONDITIONING as packs make it: the tensor, and nothing else of what the encoder gave."""
    with torch.inference_mode():
        cond, pooled = clip.encode_from_tokens(tokens, return_pooled=True)
    return [[cond, {"pooled_output": pooled}]]


def edit_tokens(clip: Any, vae: Any, text: str = INSTRUCTION) -> Any:
    """An edit's tokens, as a node's encode hands them to the text encoder."""
    with torch.inference_mode():
        latents = [vae.encode(tensor(source()))]
        return clip.tokenize(text, pictures=[source()], latents=[x.reshape(1, 48, CELLS, CELLS) for x in latents])


def test_a_token_list_is_as_every_encoders(loaded, core):
    clip = loaded[1]
    tokens = clip.tokenize(PROMPT)
    words = core.und.tokenizer(PROMPT)["input_ids"]
    assert list(tokens) == [KEY]
    assert len(tokens[KEY]) == 1
    assert [token for token, weight in tokens[KEY][0]][1:-1] == words
    assert {weight for _, weight in tokens[KEY][0]} == {1.0}
    assert [word for *_, word in clip.tokenize(PROMPT, return_word_ids=True)[KEY][0]] == [0, *range(1, 9), 0]
    assert tokens == clip.tokenize(PROMPT) == deepcopy(tokens) == copy(tokens) != clip.tokenize("")
    assert [text for _, text in clip.tokenizer.untokenize(tokens[KEY][0][1:3])] == ["a", "red"]


def test_a_list_built_anew_is_read_alike(loaded):
    clip = loaded[1]
    tokens = clip.tokenize(PROMPT, return_word_ids=True)
    (batch,), start, end = tokens[KEY], tokens[KEY][0][0], tokens[KEY][0][-1]
    wanted = encoded(clip, clip.tokenize(PROMPT))
    for made in (
        [batch],
        [batch[1:-1]],
        [[(np.int64(token), weight) for token, weight, _ in batch]],
        [[*batch, end, end, (0, 1.0, 0)]],
        [batch[:4], batch[4:]],
        [[*batch[:4], end], [start, *batch[4:]]],
        np.array(batch, dtype=object)[None],
    ):
        assert torch.equal(encoded(clip, {KEY: made}), wanted)


def test_batches_one_after_the_other_are_one_prompt(loaded):
    clip = loaded[1]
    tokens = clip.tokenize("a red circle")
    tokens[KEY] += clip.tokenize("left of a blue square")[KEY]
    assert torch.equal(encoded(clip, tokens), encoded(clip, clip.tokenize(PROMPT)))
    assert torch.equal(encoded(clip, {KEY: []}), encoded(clip, clip.tokenize("")))


def test_source_pictures_stand_among_the_tokens(host, loaded, prompts, monkeypatch):
    """The list alone says all: copied and built anew it draws the same edit, and the ViT looks once."""
    model, clip, vae = loaded
    node = host("LightBagelTextEncode", clip, INSTRUCTION, vae=vae, images={"image0": tensor(source())})
    wanted = ksampler(host, model, (node, prompts[1]))
    calls: dict[str, int] = {}
    counted(monkeypatch, calls, type(clip.cond_stage_model.und), "vit_images", "vit")
    tokens = edit_tokens(clip, vae)
    assert deepcopy(tokens) == tokens != edit_tokens(clip, vae)
    made = {KEY: [[(token, 1.0, 0) for token, _ in deepcopy(tokens)[KEY][0]]]}
    with torch.inference_mode():
        other, edit = (clip.encode_from_tokens_scheduled(each) for each in (tokens, made))
    assert calls["vit"] == 1
    assert close(ksampler(host, model, (edit, prompts[1])), wanted)
    keys = [cond[0][1]["model_conds"][KEY].cond.keys for cond in (other, edit)]
    assert keys[0][:-1] == keys[1][:-1]
    without = {KEY: [tokens[KEY][0][1:]]}
    assert torch.equal(encoded(clip, without), encoded(clip, clip.tokenize(INSTRUCTION)))


def test_a_question_is_read_from_the_list(loaded, core):
    clip, question = loaded[1], "what colour is the circle ?"
    tokens = clip.tokenize(question, pictures=[source()])
    made = {KEY: [[entry] for entry in tokens[KEY][0]]}
    with torch.inference_mode():
        ids = [clip.generate(each, do_sample=False, max_length=16) for each in (tokens, made)]
    assert ids[0] == ids[1]
    assert clip.decode(ids[0]).strip() == core.describe(source(), question)


@pytest.mark.parametrize(
    "tokens",
    [
        {KEY: [[(torch.zeros(128), 1.0)]]},
        {KEY: [[(49407, 1.0)]]},
        {KEY: [[(-1, 1.0)]]},
        {KEY: [[(5, 1.0)]]},
        {"l": [[(1, 1.0)]]},
        {KEY: [[(11, 1.0)]], "g": [[(11, 1.0)]]},
    ],
)
def test_what_is_no_word_of_the_text_is_refused(loaded, tokens):
    with pytest.raises(ValueError, match=r"other text encoders cannot be read|another model's text encoder"):
        encoded(loaded[1], tokens)


def test_weights_are_read_as_words_and_that_is_said_once(loaded, log):
    """With the tokenizer of the real model, whose words are not limited."""
    import sys

    from transformers import AutoTokenizer

    clip = loaded[1]
    module = sys.modules[type(clip.cond_stage_model).__module__.replace(".clip", ".tokens")]
    qwen = AutoTokenizer.from_pretrained(sys.modules[module.__name__.replace(".tokens", ".load")].TOKENIZER)
    und = type(clip.cond_stage_model.und)(clip.cond_stage_model.und.vlm, qwen, clip.cond_stage_model.und.processor)
    for text in ("a (red:1.3) circle", "a (red:1.3) circle", "a ((red)) circle", "a (red) circle (on the left)"):
        assert [entry[0] for entry in module.tokenize(und, text)[KEY][0]][1:-1] == qwen(text)["input_ids"]
    assert ["(red:1.3)" in each for each in log] == [True, False]
    assert "((red))" in log[1]
    escaped = module.tokenize(und, r"a \(red:1.3\) circle")
    assert escaped == module.tokenize(und, "a (red:1.3) circle")
    assert len(log) == 2
    assert "embeddings" in (module.tokenize(und, "an embedding:x"), log[-1])[1]


def test_the_nano_says_that_it_has_no_weights(loaded):
    with pytest.raises(ValueError, match=r"no prompt weights: write \(red:1.3\) without brackets"):
        loaded[1].tokenize("a (red:1.3) circle")
    with pytest.raises(ValueError, match="no embeddings: leave embedding:good out"):
        loaded[1].tokenize("a circle embedding:good")


def test_weights_in_a_list_do_not_act_and_that_is_said_once(loaded, log):
    clip = loaded[1]
    plain = clip.tokenize(PROMPT)
    weighted = {KEY: [[(token, 1.3) for token, _ in plain[KEY][0]]]}
    assert torch.equal(encoded(clip, weighted), encoded(clip, plain))
    encoded(clip, weighted)
    assert len([each for each in log if "weights" in each]) == 1


def test_a_conditioning_of_which_only_the_tensor_was_kept(host, loaded, prompts):
    model, clip, vae = loaded
    texts = [clip.tokenize(text) for text in (PROMPT, "a green star")]
    wanted = ksampler(host, model, prompts)
    assert close(ksampler(host, model, (stripped(clip, texts[0]), stripped(clip, clip.tokenize("")))), wanted)
    one, other = (stripped(clip, text) for text in texts)
    cut = [[one[0][0][:, : other[0][0].shape[1]], {}]]
    for made in ([[one[0][0].clone(), {}]], [[one[0][0] * 2, {}]]):
        assert close(ksampler(host, model, (made, prompts[1])), wanted)
    mixed = [[0.3 * cut[0][0] + 0.7 * other[0][0], {"pooled_output": None}]]
    average = host("ConditioningAverage", host("CLIPTextEncode", clip, "a green star"), prompts[0], 0.7)
    assert close(ksampler(host, model, (mixed, prompts[1])), ksampler(host, model, (average, prompts[1])))
    edit = stripped(clip, edit_tokens(clip, vae))
    node = host("LightBagelTextEncode", clip, INSTRUCTION, vae=vae, images={"image0": tensor(source())})
    drawn = ksampler(host, model, (node, prompts[1]))
    assert close(ksampler(host, model, (edit, prompts[1])), drawn)
    assert not close(drawn, wanted)


def test_what_is_remembered_of_a_tensor_goes_with_it(loaded, tmp_path):
    import sys

    clip, module = loaded[1], sys.modules[type(loaded[1].cond_stage_model).__module__]
    given = sys.modules[module.__name__.replace(".clip", ".conditioning")].GIVEN
    cond = encoded(clip, clip.tokenize(PROMPT))
    torch.save(cond, tmp_path / "cond.pt")
    assert torch.equal(torch.load(tmp_path / "cond.pt", weights_only=True), cond)
    at = id(cond)
    assert at in given
    del cond
    assert at not in given


@pytest.mark.parametrize("made", ["an edit", "a mix with an edit", "joined", "zeroed"])
def test_what_cannot_be_known_from_the_tensor_alone_is_refused(host, loaded, prompts, made):
    model, clip, vae = loaded
    text, edit = stripped(clip, clip.tokenize(PROMPT))[0][0], stripped(clip, edit_tokens(clip, vae))[0][0]
    tensors = {
        "an edit": edit.clone(),
        "a mix with an edit": 0.9 * text + 0.1 * edit[:, : text.shape[1]],
        "joined": torch.cat([text, edit], dim=1),
        "zeroed": torch.zeros_like(text),
    }
    with pytest.raises(ValueError, match="left out what stands beside its tensor"):
        ksampler(host, model, ([[tensors[made], {"pooled_output": None}]], prompts[1]))


@pytest.mark.parametrize("sources", [False, True])
def test_a_factor_on_a_conditioning_does_not_act_and_that_is_said_once(host, loaded, prompts, log, sources):
    model, clip, vae = loaded
    images = {"image0": tensor(source())} if sources else {}
    cond = host("LightBagelTextEncode", clip, INSTRUCTION, vae=vae, images=images)
    wanted = ksampler(host, model, (cond, prompts[1]))
    assert not log
    for _ in range(2):  # as the node does, which older ComfyUIs lack
        drawn = ksampler(host, model, ([[cond[0][0] * 1.5, cond[0][1]]], prompts[1]))
    assert torch.allclose(drawn, wanted, rtol=1e-2, atol=1e-2)
    assert len([each for each in log if "multiplied by 1.5 (ConditioningMultiply)" in each]) == 1


@pytest.mark.parametrize("sources", [False, True])
def test_a_clip_whose_loras_hooks_schedule(host, loaded, prompts, clip_lora, sources):
    """As two conditionings by hand: the LoRA's for the first half of the run, the plain one for the second."""
    model, clip, vae = loaded
    images = {"image0": tensor(source())} if sources else {}

    def encode(clip: Any) -> Any:
        return host("LightBagelTextEncode", clip, INSTRUCTION, vae=vae, images=images)

    hooks = host("CreateHookLora", clip_lora, 0.0, 1.0)
    keyframes = host("CreateHookKeyframe", 1.0, 0.0)
    keyframes = host("CreateHookKeyframe", 0.0, 0.5, keyframes)
    hooks = host("SetHookKeyframes", hooks, keyframes)
    scheduled = encode(host("SetClipHooks", clip, True, False, hooks))
    with_lora = encode(host("LoraLoader", model, clip, clip_lora, 0.0, 1.0)[1])
    plain = encode(clip)
    assert [len(scheduled), "model_conds" in scheduled[0][1]] == [2, False]
    assert close(scheduled[0][0], with_lora[0][0])
    assert close(scheduled[1][0], plain[0][0])
    assert not close(scheduled[0][0], scheduled[1][0])
    ((unscheduled, beside),) = encode(host("SetClipHooks", clip, False, True, hooks))
    assert close(unscheduled, with_lora[0][0])
    assert {"hooks", "model_conds"} <= beside.keys()
    halves = [host("ConditioningSetTimestepRange", c, *r) for c, r in ((with_lora, (0, 0.5)), (plain, (0.5, 1)))]
    by_hand = ksampler(host, model, (host("ConditioningCombine", *halves), prompts[1]))
    on_conds = encode(host("SetClipHooks", clip, True, True, hooks))  # the hooks travel on to the MODEL
    assert "hooks" in on_conds[0][1]
    for cond in (scheduled, on_conds):
        assert close(ksampler(host, model, (cond, prompts[1])), by_hand)
    assert not close(by_hand, ksampler(host, model, (plain, prompts[1])))


@pytest.mark.parametrize("node", OTHERS)
def test_text_encode_nodes_of_other_models_are_refused_in_one_sentence(host, loaded, node):
    if node not in host.mappings:
        pytest.skip(f"this ComfyUI has no {node}")
    with pytest.raises(ValueError, match="use CLIP Text Encode for text, LightBagel Text Encode to edit"):
        host(node, clip=loaded[1], **OTHERS[node])


def test_what_other_models_nodes_write_beside_a_text_is_said_not_to_act(host, loaded, prompts, log):
    model, clip, _ = loaded
    cond = host("CLIPTextEncodePixArtAlpha", width=1024, height=1024, text=PROMPT, clip=clip)
    cond = host("FluxGuidance", conditioning=cond, guidance=3.5)
    assert torch.equal(ksampler(host, model, (cond, prompts[1])), ksampler(host, model, prompts))
    assert sorted(each.split("'")[1] for each in log) == ["guidance", "width"]


def test_clip_set_last_layer_does_not_act_and_that_is_said(host, loaded, log):
    clip = loaded[1]
    wanted = encoded(clip, clip.tokenize(PROMPT))
    neutral, second = host("CLIPSetLastLayer", clip, -1), host("CLIPSetLastLayer", clip, -2)
    assert torch.equal(encoded(neutral, neutral.tokenize(PROMPT)), wanted)
    assert not log
    assert torch.equal(encoded(second, second.tokenize(PROMPT)), wanted)
    assert len(log) == 1
    assert "CLIP Set Last Layer (-2) does not act" in log[0]


def test_merging_two_clips(host, loaded, clip_lora):
    """CLIPMergeSimple goes from the second to the first; half way is as half the LoRA between them."""
    model, clip, _ = loaded
    one, half, two = (host("LoraLoader", model, clip, clip_lora, 0.0, s)[1] for s in (0.0, 0.5, 1.0))
    states = [encoded(c, c.tokenize(PROMPT)) for c in (one, half, two)]
    assert not close(states[0], states[1])
    assert not close(states[1], states[2])
    for ratio, wanted in ((1.0, states[0]), (0.5, states[1]), (0.0, states[2])):
        merged = host("CLIPMergeSimple", one, two, ratio)
        assert close(encoded(merged, merged.tokenize(PROMPT)), wanted)


def test_the_help_page_says_what_does_not_act():
    page = (PACK / "web" / "docs" / "LightBagelTextEncode.md").read_text(encoding="utf-8")
    for thing in ("(red:1.3)", "ConditioningMultiply", "CLIP Set Last Layer"):
        assert thing in page
