"""Conversations: what each drawing stands after, what is computed in a turn, what fails and leaves all as it was."""

from __future__ import annotations

import os
import warnings
from collections import Counter

import oracle
import pytest
import torch
from PIL import Image
from scripted import scripted_model
from tiny import make_tiny

from lightbagel_core.conversation.conversation import Conversation
from lightbagel_core.conversation.entries import Answered, Drawn, Shown
from lightbagel_core.model import chat, vae
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.sampling.denoise import Stopped

SMALL = {"steps": 1, "progress": False}
GUIDED = {**SMALL, "image_guidance": 2.0}  # all three branches
COLOURS = ("red", "blue", "green")
BLUE, STAR, LEFT = "make the circle blue", "replace the circle with a star", "add a green square on the left"


def picture(colour: str, size: tuple[int, int] = (96, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


@pytest.fixture
def model() -> LightBagel:
    return make_tiny()


@pytest.fixture
def drawings(model, monkeypatch) -> list[dict]:
    """What `draw` was given, call by call, in whose place a picture of one colour is made: those of COLOURS in turn.

    "context": of its branches, encoded with the conversation's own reading.
    """
    given: list[dict] = []

    def draw(branches, noise, guidance, *, reading, **options):
        height, width = (side * 16 for side in noise.shape[-2:])
        context = model.encode([branches[name][0] for name in guidance.branches], width, height, reading)
        given.append({"names": guidance.branches, "noise": noise, "context": context, "size": (width, height)})
        return [picture(COLOURS[(len(given) - 1) % 3], (width, height))]

    monkeypatch.setattr(model, "draw", draw)
    return given


def velocities(model: LightBagel, given: dict) -> dict[str, torch.Tensor]:
    """What a drawing's context gives for its noise at a flow time, by branch."""
    names, noise = given["names"], given["noise"]
    found = model.velocity(noise.repeat(len(names), 1, 1, 1), 0.7, given["context"])
    return dict(zip(names, found.split(1), strict=True))


def assert_follow(model: LightBagel, given: dict, wanted: dict[str, list]) -> None:
    """A drawing's branches give what the oracle says of these pictures and texts, each turned into contents anew."""
    ours = velocities(model, given)
    assert set(ours) == set(wanted)
    for name, parts in wanted.items():
        contents = []
        for part in parts:
            contents += [model.text(part)] if isinstance(part, str) else [model.clean(part), model.vit(part)]
        expected = oracle.velocity(model, contents, given["noise"], 0.7)
        assert oracle.relative(ours[name], expected) < 1e-4, name


def test_two_turns_of_edits_each_branch_against_the_oracle(model, drawings):
    conversation = model.converse(history=1)
    source = picture("white", (64, 96))
    conversation.show(source)
    red = conversation.edit(BLUE, "a green star", **GUIDED)
    conversation.edit(STAR, "a blue square", **GUIDED)
    first, second = drawings
    assert_follow(model, first, {"full": [source, BLUE], "negative": [source, "a green star"], "no_image": [BLUE]})
    wanted = {
        "full": [source, BLUE, red, STAR],
        "negative": [source, BLUE, red, "a blue square"],
        "no_image": [BLUE, STAR],
    }
    assert_follow(model, second, wanted)


def test_three_turns_from_a_prompt_each_branch_against_the_oracle(model, drawings):
    conversation = model.converse(history=2)
    red = conversation.draw("a red circle", **SMALL)
    blue = conversation.edit(BLUE, **GUIDED)
    with pytest.warns(UserWarning, match="drawn after 2 earlier turns; the published recipe trains at most one"):
        conversation.edit(STAR, **GUIDED)
    first, second, third = drawings
    assert_follow(model, first, {"full": ["a red circle"], "negative": [""]})
    wanted = {"full": ["a red circle", red, BLUE], "negative": ["a red circle", red, ""]}
    assert_follow(model, second, {**wanted, "no_image": ["a red circle", BLUE]})
    wanted = {
        "full": ["a red circle", red, BLUE, blue, STAR],
        "negative": ["a red circle", red, BLUE, blue, ""],
        "no_image": ["a red circle", BLUE, STAR],
    }
    assert_follow(model, third, wanted)
    assert [entry.history for entry in conversation.entries] == [0, 1, 2]


@pytest.mark.parametrize("history", [0, 1])
def test_three_turns_of_which_fewer_count(model, drawings, history):
    conversation = model.converse(history)
    conversation.draw("a red circle", **SMALL)
    red = conversation.last
    blue = conversation.edit(BLUE, **GUIDED)
    conversation.edit(STAR, **GUIDED)
    before, text = ([red, BLUE], [BLUE]) if history else ([], [])
    wanted = {"full": [*before, blue, STAR], "negative": [*before, blue, ""], "no_image": [*text, STAR]}
    assert_follow(model, drawings[2], wanted)


def test_pictures_shown_since_the_last_drawing_are_those_of_the_turn(model, drawings):
    conversation = model.converse(history=1)
    one, two, three = (picture(colour) for colour in ("white", "black", "gray"))
    conversation.show(one)
    conversation.show(two)
    conversation.edit(BLUE, **GUIDED)
    conversation.show(three)
    conversation.edit(STAR, **GUIDED)
    assert_follow(model, drawings[0], {"full": [one, two, BLUE], "negative": [one, two, ""], "no_image": [BLUE]})
    # What was shown takes the drawn picture's place, so that the turn which drew it is none of its history.
    assert_follow(model, drawings[1], {"full": [three, STAR], "negative": [three, ""], "no_image": [STAR]})


def test_a_prompt_alone_begins_anew(model, drawings):
    conversation = model.converse(history=5)
    conversation.show(picture("white"))
    conversation.edit(BLUE, **SMALL)
    green = conversation.draw("a green star", **SMALL)
    conversation.edit(STAR, **SMALL)
    assert_follow(model, drawings[1], {"full": ["a green star"], "negative": [""]})
    assert_follow(model, drawings[2], {"full": ["a green star", green, STAR], "negative": ["a green star", green, ""]})


def test_an_edit_is_the_plain_edit_where_no_turn_counts(model):
    conversation = model.converse()
    first = conversation.show(picture("red"))
    turn = conversation.edit(BLUE, seed=3, **GUIDED)
    assert turn.tobytes() == model.edit(first, BLUE, seed=3, **GUIDED)[0].tobytes()
    drawn = conversation.draw("a red circle", seed=4, **SMALL)
    assert drawn.tobytes() == model.generate("a red circle", seed=4, **SMALL)[0].tobytes()


def test_the_first_picture_gives_the_size(model, drawings):
    """As in an edit without a conversation."""
    conversation = model.converse(history=1)
    conversation.show(picture("red", (96, 64)))
    conversation.edit(BLUE, **SMALL)
    conversation.show(picture("blue", (64, 128)))
    conversation.edit(BLUE, **SMALL)
    conversation.edit(BLUE, width=96, height=96, **SMALL)
    conversation.show(picture("red", (96, 64)))
    conversation.show(picture("blue", (64, 96)))
    conversation.edit(BLUE, **SMALL)
    assert [given["size"] for given in drawings] == [(96, 64), (64, 128), (96, 96), (96, 64)]


# --- what is computed ------------------------------------------------------------------------------------------------


@pytest.fixture
def work(model, monkeypatch) -> Counter:
    """Tokens that the VLM's first layer was given for drawings, pictures that the ViT and the VAE were."""
    counted: Counter = Counter()
    language, visual = model.und.vlm.model.language_model, model.und.vlm.model.visual
    language.layers[0].register_forward_hook(lambda module, args, output: counted.update(VLM=args[0].shape[1]))
    visual.register_forward_hook(
        lambda module, args, kwargs, output: counted.update(
            ViT=len(kwargs["grid_thw"] if "grid_thw" in kwargs else args[1])
        ),
        with_kwargs=True,
    )
    encode = vae.encode
    monkeypatch.setattr(vae, "encode", lambda module, pixels: counted.update(VAE=len(pixels)) or encode(module, pixels))
    return counted


def spent(work: Counter) -> dict[str, int]:
    found = dict(work)
    work.clear()
    return found


def test_a_later_turn_reads_its_own_tokens_only(model, drawings, work):
    """A picture of 96 x 64 has two markers around its clean tokens, and 3 x 2 ViT tokens between two more."""
    seen = 2 + 3 * 2 + 2
    blue, star, empty = (len(model.text(text)) for text in (BLUE, STAR, ""))
    conversation = model.converse(history=9)
    conversation.show(picture("white", (96, 64)))
    conversation.edit(BLUE, **GUIDED)
    # the picture and the text, the empty prompt, the text alone, and three targets' markers
    assert spent(work) == {"VLM": seen + blue + empty + blue + 3 * 2, "ViT": 1, "VAE": 1}
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            conversation.edit(STAR, **GUIDED)
        assert spent(work) == {"VLM": seen + star + empty + star + 3 * 2, "ViT": 1, "VAE": 1}
    conversation.undo()
    conversation.edit(STAR, seed=1, **GUIDED)
    assert spent(work) == {}  # all of this context has been read, and its pictures seen


def test_with_fewer_turns_than_there_were_the_context_begins_anew(model, drawings, work):
    seen = 2 + 3 * 2 + 2
    star, empty = (len(model.text(text)) for text in (STAR, ""))
    conversation = model.converse(history=0)
    conversation.show(picture("white", (96, 64)))
    conversation.edit(BLUE, **GUIDED)
    spent(work)
    conversation.edit(STAR, **GUIDED)
    # the target's markers after the empty prompt stand where they stood, but after another picture
    assert spent(work) == {"VLM": seen + star + empty + star + 3 * 2, "ViT": 1, "VAE": 1}


@pytest.fixture
def says_red(monkeypatch) -> None:
    """Whatever the VLM of random weights makes of a question, it is read as "red"."""
    monkeypatch.setattr(chat, "in_words", lambda *args: chat.Answer("red"))


def test_no_picture_is_looked_at_twice(model, drawings, work, says_red):
    conversation = model.converse()
    one = picture("white")
    shown = conversation.show(one)
    assert conversation.show(one.copy()) is shown
    conversation.edit(BLUE, **GUIDED)
    assert (work["ViT"], work["VAE"]) == (1, 1)
    conversation.ask("what colour is the circle?", 2)
    assert work["ViT"] == 1 + 2  # for answers it is sized otherwise; the two shown and the drawn one are two pictures
    conversation.ask("what is on the left?", 2)
    assert (work["ViT"], work["VAE"]) == (3, 1)
    conversation.show(shown)
    conversation.edit(STAR, **GUIDED)
    assert (work["ViT"], work["VAE"]) == (3, 1)


def test_what_was_undone_is_not_kept(model, drawings):
    conversation = model.converse()
    conversation.show(picture("white"))
    conversation.edit(BLUE, **SMALL)
    conversation.edit(STAR, **SMALL)
    assert (len(conversation._clean), len(conversation._vit)) == (2, 2)
    conversation.undo()
    conversation.undo()
    assert (len(conversation._clean), len(conversation._vit)) == (1, 1)


# --- going on and going back -----------------------------------------------------------------------------------------


def test_it_keeps_all_in_order_and_goes_back(model, drawings):
    conversation = model.converse()
    assert (conversation.pictures, conversation.last) == ([], None)
    red = conversation.draw("a red circle", seed=5, **SMALL)
    blue = conversation.edit(BLUE, "a green star", **SMALL)
    assert conversation.pictures == [red, blue]
    assert conversation.last is blue
    undone = conversation.undo()
    assert (undone.text, undone.negative_prompt, undone.edited, undone.picture) == (BLUE, "a green star", True, blue)
    assert conversation.last is red
    again = conversation.edit(STAR, **SMALL)
    assert_follow(model, drawings[2], {"full": [red, STAR], "negative": [red, ""]})
    assert conversation.pictures == [red, again]
    assert conversation.entries[0].settings["seed"] == 5
    conversation.undo()
    conversation.undo()
    with pytest.raises(ValueError, match="nothing to undo: the conversation has not begun"):
        conversation.undo()


def test_questions_come_after_earlier_questions():
    model = scripted_model("It is red.", "On the left side.")
    conversation = model.converse()
    conversation.show(picture("red"))
    heard: list[str] = []
    assert conversation.ask("What colour is it?", on_text=heard.append) == "It is red."
    assert heard[-1] == "It is red."
    assert len(heard) > 1
    assert conversation.ask("Where?") == "On the left side."
    shown, first, second = conversation.entries
    assert isinstance(shown, Shown)
    assert (first.question, first.answer, first.cut) == ("What colour is it?", "It is red.", False)
    assert isinstance(second, Answered)
    conversation.undo()
    assert conversation.entries == (shown, first)
    assert conversation.ask("Where?", max_new_tokens=2) == "On the"
    assert conversation.entries[-1].cut


def test_what_is_asked_are_all_pictures_and_earlier_answers(model, drawings, says_red, monkeypatch):
    asked = []
    answer = chat.answer
    monkeypatch.setattr(chat, "answer", lambda und, talk, *a, **k: asked.append(talk) or answer(und, talk, *a, **k))
    conversation = model.converse()
    white = conversation.show(picture("white"))
    said = conversation.ask("what colour is the circle?", 3)
    red = conversation.edit(BLUE, **SMALL)
    conversation.ask("what is on the left?", 3)
    assert asked[1].messages == [
        ("user", [white, "what colour is the circle?"]),
        ("assistant", [said]),
        ("user", [red, "what is on the left?"]),
    ]


def test_more_than_one_earlier_turn_warns_once(model, drawings):
    conversation = model.converse(history=3)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        conversation.draw("a red circle", **SMALL)
        for _ in range(4):
            conversation.edit(BLUE, **SMALL)
    assert len([one for one in told if "earlier turns" in str(one.message)]) == 1


@pytest.mark.parametrize("history", [0, 3])
def test_thirty_turns(model, drawings, history):
    conversation = model.converse(history)
    conversation.draw("a red circle", **SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(29):
            conversation.edit(BLUE, seed=number, **SMALL)
    assert len(conversation.pictures) == 30
    assert len(set(map(id, conversation.pictures))) == 30
    wanted = [*conversation.pictures[-history - 2 : -1]]
    parts = [part for each in wanted for part in (each, BLUE)]
    assert_follow(model, drawings[-1], {"full": parts, "negative": [*parts[:-1], ""]})


# --- what fails ------------------------------------------------------------------------------------------------------


@pytest.fixture
def begun(model, drawings) -> Conversation:
    conversation = model.converse(history=1)
    conversation.draw("a red circle", **SMALL)
    conversation.edit(BLUE, **SMALL)
    return conversation


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda it: it.draw(" "), "nothing to draw in an empty prompt"),
        (lambda it: it.edit(""), "an edit needs an instruction"),
        (lambda it: it.ask("\n"), "nothing to answer in an empty question"),
        (lambda it: it.ask("what colour is the circle?", 0), "at least 1 token, not 0"),
        (lambda it: it.draw("a pink circle"), "does not know: pink"),
        (lambda it: it.edit("make the dog blue"), "does not know: dog"),
        (lambda it: it.edit(BLUE, "a dog"), "does not know: dog"),
        (lambda it: it.ask("who is it?"), "does not know: who"),
        (lambda it: it.ask("what is <|image_pad|>?"), "the model's own marker"),
        (lambda it: it.edit(BLUE, steps=0), "steps must be at least 1"),
        (lambda it: it.edit(BLUE, num_images=2), "a turn draws one picture, not 2"),
        (lambda it: it.draw("a red circle", image_guidance=2.0), "only edits have it"),
        (lambda it: it.edit("a circle " * 250), "needs 5.. positions, and the VLM has 512: use a shorter text"),
        (lambda it: it.ask("a circle " * 260), "and it reads fewer than 512"),
        (lambda it: it.show(Image.new("RGB", (900, 10))), "too narrow"),
        (lambda it: it.edit(BLUE, width=10**6), "each side must lie between"),
    ],
)
def test_what_fails_leaves_the_conversation_as_it_was(begun, model, call, message):
    before = begun.entries
    with pytest.raises(ValueError, match=message):
        call(begun)
    assert begun.entries == before
    begun.edit(STAR, **SMALL)
    assert len(begun.entries) == 3


def test_an_edit_without_a_picture_is_refused(model):
    conversation = model.converse()
    with pytest.raises(ValueError, match="no picture to edit yet: draw one or show one first"):
        conversation.edit(BLUE)
    conversation.draw("a red circle", **SMALL)
    assert len(conversation.edit(BLUE, **SMALL).getbands()) == 3


@pytest.mark.parametrize("history", [-1, 1.0, True, "1"])
def test_a_history_is_a_number(model, history):
    with pytest.raises(ValueError, match="number of earlier turns, 0 or more"):
        model.converse(history)


@pytest.mark.parametrize("error", [KeyboardInterrupt, Stopped])
def test_a_drawing_that_is_stopped_leaves_the_conversation_as_it_was(model, error):
    conversation = model.converse(history=1)
    conversation.draw("a red circle", **SMALL)
    before = conversation.entries

    def stop(done, total, latents):
        if error is Stopped:
            return False
        raise KeyboardInterrupt

    with pytest.raises(error):
        conversation.edit(BLUE, steps=3, progress=False, on_step=stop)
    assert conversation.entries == before
    after = conversation.edit(BLUE, **SMALL)
    fresh = model.converse(history=1)
    fresh.draw("a red circle", **SMALL)
    assert after.tobytes() == fresh.edit(BLUE, **SMALL).tobytes()


def test_an_answer_that_is_interrupted_leaves_the_conversation_as_it_was():
    conversation = scripted_model("It is red and round.").converse()
    conversation.show(picture("red"))

    def interrupt(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        conversation.ask("What is it?", on_text=interrupt)
    assert len(conversation.entries) == 1
    assert conversation.ask("What is it?") == "It is red and round."


def test_an_answer_that_is_ended_is_kept():
    conversation = scripted_model("It is red and round.").converse()
    # a word is told when the next one begins
    assert conversation.ask("What is it?", on_text=lambda text: "red" not in text) == "It is red and"
    assert not conversation.entries[-1].cut


def test_no_answer_is_said():
    conversation = scripted_model(" ").converse()
    with pytest.raises(ValueError, match="the VLM gave no answer; ask in other words"):
        conversation.ask("What is it?")
    assert conversation.entries == ()


def test_what_cannot_be_written_is_said_and_the_conversation_goes_on(begun, tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(ValueError, match=r"could not write into .*file: it is a file; name a folder"):
        begun.save(tmp_path / "file")
    with pytest.raises(ValueError, match="could not write"):
        begun.save(tmp_path / "file" / "inside")
    assert os.listdir(tmp_path) == ["file"]
    begun.edit(STAR, **SMALL)
    begun.save(tmp_path / "folder")
    assert len(Conversation.open(tmp_path / "folder", begun.model).entries) == 3


# --- opened again ----------------------------------------------------------------------------------------------------


def test_it_goes_on_where_it_was_saved(begun, model, drawings, tmp_path):
    begun.save(tmp_path / "talk")
    opened = Conversation.open(tmp_path / "talk", model)
    assert opened.history == 1
    for ours in (begun, opened):
        ours.edit(STAR, **GUIDED)
    (first, second), last = drawings[-2:], begun.entries[1].picture
    assert_follow(
        model,
        second,
        {
            "full": [begun.entries[0].picture, BLUE, last, STAR],
            "negative": [begun.entries[0].picture, BLUE, last, ""],
            "no_image": [BLUE, STAR],
        },
    )
    theirs = velocities(model, second)
    for name, velocity in velocities(model, first).items():
        torch.testing.assert_close(theirs[name], velocity, rtol=1e-4, atol=1e-5)
    opened.save(tmp_path / "talk")  # into its own folder it may
    assert isinstance(Conversation.open(tmp_path / "talk", model).entries[2], Drawn)


def test_it_is_saved_again_wherever_it_was_saved(begun, model, tmp_path):
    begun.save(tmp_path / "a")
    begun.save(tmp_path / "b")
    begun.undo()
    begun.save(tmp_path / "b" / ".." / "a")
    assert len(Conversation.open(tmp_path / "a", model).entries) == 1
    assert len(Conversation.open(tmp_path / "b", model).entries) == 2


def test_another_model_is_said(begun, nano, tmp_path):
    begun.save(tmp_path)
    with pytest.warns(UserWarning, match="had with 'tiny' and goes on with 'nano'"):
        opened = Conversation.open(tmp_path, nano, history=0)
    assert opened.history == 0


def test_another_conversation_is_not_written_over(begun, model, tmp_path):
    begun.save(tmp_path)
    other = model.converse()
    other.draw("a red circle", **SMALL)
    with pytest.raises(ValueError, match="holds another conversation; save this one into a folder of its own"):
        other.save(tmp_path)
    assert len(Conversation.open(tmp_path, model).entries) == 2
    begun.undo()
    begun.save(tmp_path)
    assert len(Conversation.open(tmp_path, model).entries) == 1
