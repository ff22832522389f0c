"""LightBagel Rewrite Prompt: what it asks of the VLM that is loaded, what it tells the page, and what it refuses."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import part, source, tensor

LONG = (
    "A weathered lighthouse stands on a rocky headland at dusk, its lamp throwing one warm beam over dark, rolling "
    "sea; gulls circle above, wet stones shine below, and far clouds glow orange behind everything."
)
THOUGHT = "<thinking>The sea should be dark so that light shows.</thinking> A lighthouse at night, lamp lit."
OFF = {"sampling_mode": "off"}
ON = {"sampling_mode": "on", "temperature": 0.7, "top_k": 64, "top_p": 0.95, "min_p": 0.05, "seed": 7}
ON |= {"repetition_penalty": 1.05}


def rewrite(host: Any, clip: Any, prompt: str = "a lighthouse", **changed: Any) -> tuple[str, str]:
    inputs = {"task": "generate", "system_prompt": "", "max_length": 512, "sampling_mode": OFF, "thinking": False}
    return host("LightBagelRewritePrompt", clip=clip, prompt=prompt, **{**inputs, **changed})


@pytest.fixture(scope="module")
def open_clip(host: Any, scripted: Any) -> Any:
    """The CLIP of a checkpoint whose VLM says a text, by Load LightBagel."""
    clips: dict[str, Any] = {}

    def opened(text: str = LONG) -> Any:
        if text not in clips:
            clips[text] = host("LightBagelLoader", checkpoint=scripted(text), weight_dtype="float32")[1]
        return clips[text]

    return opened


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """From now on what the stock `generate` of a CLIP's VLM is called with, and the text that it reads."""

    def watch(clip: Any) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []
        und = clip.cond_stage_model.und
        generate = und.vlm.generate

        def call(**options: Any) -> Any:
            calls.append({**options, "text": und.tokenizer.decode(options["input_ids"][0])})
            return generate(**options)

        monkeypatch.setattr(und.vlm, "generate", call)
        return calls

    return watch


@pytest.fixture
def page(host: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    """What a page is sent while node 7 of its graph runs."""
    from comfy_execution.utils import CurrentNodeContext
    from server import PromptServer

    sent: list[tuple[Any, ...]] = []
    server = PromptServer.instance
    monkeypatch.setattr(server, "client_id", "me", raising=False)
    monkeypatch.setattr(server, "send_progress_text", lambda text, node, sid=None: sent.append((text, node, sid)))
    monkeypatch.setattr(server, "send_sync", lambda event, data, sid=None: sent.append((event, data, sid)))
    monkeypatch.setattr(part(host, "telling"), "PAUSE", 0.0)
    with CurrentNodeContext("prompt", "7", 0):
        yield sent


def test_a_prompt_is_rewritten(host, open_clip):
    assert rewrite(host, open_clip()) == (LONG, "")


def test_a_thought_is_an_output_of_its_own(host, open_clip):
    clip = open_clip(THOUGHT)
    assert rewrite(host, clip, thinking=True) == (
        "A lighthouse at night, lamp lit.",
        "The sea should be dark so that light shows.",
    )
    assert rewrite(host, clip)[0] == "A lighthouse at night, lamp lit."  # unasked for it is not drawn either


def test_what_the_vlm_reads(host, open_clip, asked):
    """A system text, the pictures in the order of their inputs, and the prompt, in the template's own form."""
    clip = open_clip()
    calls = asked(clip)
    pictures = {"image0": tensor(source()), "image1": torch.cat([tensor(source("green", (64, 96)))] * 2)}
    rewrite(host, clip, "make it night", task="edit", images=pictures, system_prompt="Write like a pirate.")
    (call,) = calls
    system, user, *_ = call["text"].split("<|im_end|>\n")
    assert system == "<|im_start|>system\nWrite like a pirate."
    assert user.startswith("<|im_start|>user\nPicture 1: <|vision_start|>")
    assert user.endswith("<|vision_end|>make it night")
    assert len(call["image_grid_thw"]) == 3
    assert call["max_new_tokens"] == 512
    assert call["do_sample"] is False


def test_an_empty_system_prompt_is_ours_in_the_language_of_the_prompt(host, open_clip, asked):
    clip = open_clip()
    calls = asked(clip)
    for prompt, system in (("a lighthouse", " "), ("一座灯塔", " "), ("a lighthouse", None)):
        rewrite(host, clip, prompt, system_prompt=system)  # None: nothing came by a link
    english, chinese, unsaid = (call["text"].split("<|im_end|>")[0] for call in calls)
    assert english.isascii()
    assert not chinese.isascii()
    assert unsaid == english


def test_words_by_chance_have_the_settings_of_the_node(host, open_clip, asked):
    clip = open_clip()
    calls = asked(clip)
    assert rewrite(host, clip, sampling_mode=ON) == rewrite(host, clip, sampling_mode=ON)
    settings = {name: value for name, value in ON.items() if name not in ("sampling_mode", "seed")}
    assert settings.items() <= calls[0].items()
    assert calls[0]["do_sample"] is True


def test_the_words_stand_in_the_node_while_they_are_made(host, open_clip, page):
    """On the page that asked, under the node that runs; a thought goes when the prompt is there."""
    assert rewrite(host, open_clip()) == (LONG, "")
    words = [text for text, *_ in page]
    assert {(node, client) for _, node, client in page} == {("7", "me")}
    assert len(words) > 20
    assert all(LONG.startswith(text) for text in words)
    assert sorted(words, key=len) == words
    assert words[-1] == LONG
    page.clear()
    prompt, _ = rewrite(host, open_clip(THOUGHT), thinking=True)
    assert any(text.startswith("\u2039thinking\u203a") for text, *_ in page)
    assert page[-1][0] == prompt


def test_no_word_is_a_tag_of_the_page(host, open_clip, page):
    """Where a page shows words as HTML; the prompt itself keeps its signs."""
    text = "A sign reads <b onclick=alert(1)> in bold & 5 > 4."
    assert rewrite(host, open_clip(text))[0] == text
    assert page
    assert not any(sign in shown for shown, *_ in page for sign in "<>")


def test_nothing_is_sent_where_no_page_has_asked(host, open_clip, page, monkeypatch):
    from server import PromptServer

    monkeypatch.setattr(PromptServer.instance, "client_id", None)
    rewrite(host, open_clip())
    assert page == []


def test_the_page_hears_at_most_ten_times_a_second_and_the_last_always(host, monkeypatch):
    telling = part(host, "telling")
    now = 100.0
    monkeypatch.setattr(telling.time, "monotonic", lambda: now)
    sent: list[str] = []
    told = telling.Told(sent.append)
    for i in range(1, 101):  # a second of a hundred words
        told(str(i))
        now += 0.01
    assert 9 <= len(sent) <= 11
    assert sent[0] == "1"
    told.at_last("all")
    assert sent[-1] == "all"


def test_it_is_cancelled_within_a_token(host, open_clip, page, monkeypatch):
    """By the button, while the words are made; the next run works."""
    import comfy.model_management as management
    from server import PromptServer

    clip = open_clip()
    tokens = []
    forward = clip.cond_stage_model.und.vlm.lm_head.forward
    monkeypatch.setattr(clip.cond_stage_model.und.vlm.lm_head, "forward", lambda x: (tokens.append(1), forward(x))[1])

    def pressed(text: str, node: str, sid: Any = None) -> None:
        if len(tokens) == 9:
            management.interrupt_current_processing()

    monkeypatch.setattr(PromptServer.instance, "send_progress_text", pressed)
    with pytest.raises(management.InterruptProcessingException):
        rewrite(host, clip)
    assert len(tokens) == 9
    assert rewrite(host, clip) == (LONG, "")


def test_no_second_copy_of_a_model(host, open_clip):
    """The VLM that answers is the one that encodes prompts; a rewrite leaves no bytes behind."""
    import comfy.model_management as management

    clip = open_clip()
    host("CLIPTextEncode", clip, "a lighthouse")
    rewrite(host, clip)  # what is made once by whoever asks first: rotary tables, caches of kernels

    def weights() -> dict[str, int]:
        return {name: weight.data_ptr() for name, weight in clip.cond_stage_model.named_parameters()}

    def held() -> int:
        gc.collect()
        found = (thing for thing in gc.get_objects() if isinstance(thing, torch.Tensor))
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in found}
        return sum(storages.values())

    before = weights(), [id(loaded.model) for loaded in management.current_loaded_models], held()
    rewrite(host, clip, images={"image0": tensor(source())})
    after = weights(), [id(loaded.model) for loaded in management.current_loaded_models], held()
    assert after[:2] == before[:2]
    assert sum(loaded.model is clip.patcher for loaded in management.current_loaded_models) == 1
    whole = sum(weight.nbytes for weight in clip.cond_stage_model.parameters())
    assert abs(after[2] - before[2]) < whole / 100


@pytest.mark.parametrize(
    ("text", "changed", "message"),
    [
        (LONG, {"prompt": " "}, "prompt is empty"),
        (LONG, {"task": "edit"}, "give at least one"),
        (LONG, {"images": {"image0": torch.full((1, 8, 8, 3), torch.nan)}}, "no numbers"),
        (LONG, {"max_length": 0}, "max_length must lie between 1 and"),
        (LONG, {"thinking": True}, "gave no thought"),
        (THOUGHT, {"thinking": True, "max_length": 4}, "did not end it.*it was cut"),
        ("<thinking>Only this.</thinking>", {"thinking": True}, "holds no prompt"),
    ],
)
def test_what_cannot_be_rewritten_is_said(host, open_clip, text, changed, message):
    with pytest.raises(ValueError, match=message):
        rewrite(host, open_clip(text), **changed)


def test_a_cut_prompt_is_used_and_the_log_says_so_each_time(host, open_clip, log):
    for number in (1, 2):
        prompt, _ = rewrite(host, open_clip(), max_length=5)
        assert LONG.startswith(prompt)
        assert 0 < len(prompt) < len(LONG)
        assert len(log) == number
        assert log[-1].startswith("LightBagel: an answer was cut at its max_length, 5 tokens")


def test_a_system_prompt_of_ten_thousand_characters(host, open_clip, asked):
    clip = open_clip()
    calls = asked(clip)
    system = "Say more about light. " * 460
    assert rewrite(host, clip, system_prompt=system) == (LONG, "")
    assert system.strip() in calls[0]["text"]


def test_the_nano_cannot_rewrite(host, loaded):
    with pytest.raises(ValueError, match=r"nano.*Qwen2\.5-VL-7B-Instruct"):
        rewrite(host, loaded[1])


def test_a_tokenizer_without_a_template_is_refused_before_the_vlm_is_loaded(host, open_clip, monkeypatch):
    clip = open_clip()
    monkeypatch.setattr(clip.cond_stage_model.und.tokenizer, "chat_template", None)
    monkeypatch.setattr(clip, "load_model", lambda *_, **__: pytest.fail("the VLM was loaded"))
    with pytest.raises(ValueError, match=r"no chat template.*Qwen2\.5-VL-7B-Instruct"):
        rewrite(host, clip)


def test_weights_that_think_in_a_form_of_their_own_are_said_to(host, open_clip, log, monkeypatch):
    clip = open_clip(THOUGHT)
    rewrite(host, clip, thinking=True)
    assert not log
    encoder = clip.cond_stage_model
    monkeypatch.setattr(encoder, "config", replace(encoder.config, thinking=object()))
    rewrite(host, clip)
    assert not log
    assert [rewrite(host, clip, thinking=True)[1] for _ in range(2)] == [
        "The sea should be dark so that light shows."
    ] * 2
    assert len(log) == 1
    assert "trained to think" in log[0]


def test_another_models_clip_is_named(host):
    class Other:
        cond_stage_model = torch.nn.Linear(1, 1)

    with pytest.raises(ValueError, match="needs the CLIP of Load LightBagel"):
        rewrite(host, Other())


def test_stock_generate_text_says_the_same(host, open_clip):
    """It asks by token lists, as ever."""
    text = host("TextGenerate", clip=open_clip(), prompt="a lighthouse", max_length=512, sampling_mode=OFF)
    assert text == LONG


def describe(host: Any, clip: Any) -> str:
    return host(
        "LightBagelDescribe", clip, image=tensor(source()), question="What is here?", max_length=512, sampling_mode=OFF
    )


def test_a_description_streams_into_its_box(host, open_clip, page):
    """By a message of our own: the box is there already, and the page's own would be a second."""
    assert describe(host, open_clip()) == LONG
    assert {(event, data["node"], sid) for event, data, sid in page} == {("lightbagel.words", "7", "me")}
    words = [data["text"] for _, data, _ in page]
    assert len(words) > 20
    assert all(LONG.startswith(text) for text in words)
    assert words[-1] == LONG
