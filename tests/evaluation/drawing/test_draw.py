"""A batch of a bench's items: what is drawn of it, where it goes, and what becomes of what cannot be drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch
from format_files import lora
from PIL import Image
from scenes import PICTURE, assert_alike

from lightbagel_core.config import NANO
from lightbagel_core.evaluation.drawing.draw import NOT_DRAWN, Drawer, check_settings, grid, is_there, seed_of
from lightbagel_core.evaluation.drawing.presets import Drawing
from lightbagel_core.evaluation.items import Item, Source
from lightbagel_core.files.formats import open_model
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.sampling.branches import Said, branches_of

STEPS = 2
BLUER = "make the circle blue"


def item(name: str, *turns: str, samples: int = 1, **more) -> Item:
    files = tuple(
        tuple(PurePosixPath(name, f"{turn}-{sample}.png") for sample in range(samples)) for turn in range(len(turns))
    )
    return Item(name, "group", turns, files, **more)


def source(picture: Image.Image = PICTURE) -> Source:
    return Source("source.png", lambda: picture)


@pytest.fixture
def drawer(nano, tmp_path):
    def make(samples: int = 1, batch: int = 4, **more) -> Drawer:
        drawing = Drawing(samples, batch, {"steps": STEPS, "seed": 5, **more})
        return Drawer(nano, "bench", tmp_path / "out", drawing, tmp_path / "out" / ".scratch")

    return make


def opened(drawer: Drawer, name: str) -> Image.Image:
    with Image.open(drawer.out / name) as picture:
        picture.load()
        return picture


def test_a_seed_is_a_hash_of_what_the_picture_is():
    seeds = [seed_of(*args) for args in (("a", "b", 0), ("a", "b", 1), ("a", "c", 0), ("b", "b", 0), ("a", "b", 0, 1))]
    assert len(set(seeds)) == 5
    assert seed_of("geneval", "00000", 0) == 5884313012924762389  # on every machine, for ever
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_picture_is_what_generate_draws_with_its_seed(drawer, nano):
    """Not to the bit: in a batch of two the kernels add up in another order."""
    draw = drawer()
    assert draw.batch([item("one", "a red circle"), item("two", "a blue star")]) == 2
    for name, prompt in (("one", "a red circle"), ("two", "a blue star")):
        alone = nano.generate(prompt, steps=STEPS, seed=seed_of("bench", name, 0, 0, 5), progress=False)[0]
        assert_alike(opened(draw, f"{name}/0-0.png"), alone)


def test_an_edit_is_what_edit_draws(drawer, nano):
    draw = drawer(image_guidance=1.5)
    draw.batch([item("one", "make the circle blue", sources=(source(),))])
    seed = seed_of("bench", "one", 0, 0, 5)
    alone = nano.edit(PICTURE, "make the circle blue", steps=STEPS, seed=seed, image_guidance=1.5, progress=False)[0]
    assert_alike(opened(draw, "one/0-0.png"), alone)


def test_a_turn_edits_what_the_turn_before_it_drew(drawer, nano):
    draw = drawer()
    draw.batch([item("chain", "make the circle blue", "remove the square", sources=(source(),))])
    first = opened(draw, "chain/0-0.png")
    seed = seed_of("bench", "chain", 0, 1, 5)
    second = nano.edit(first, "remove the square", steps=STEPS, seed=seed, progress=False)[0]
    assert_alike(opened(draw, "chain/1-0.png"), second)


def said(what: str, content: str | Image.Image) -> tuple[str, str | bytes]:
    """A content by what it was made of."""
    return what, content if isinstance(content, str) else content.tobytes()


@pytest.fixture
def encoded(nano, monkeypatch):
    """The branches of each drawing, as the pictures and words that its contents were made of."""
    of, drawn = {}, []

    def named(make, what):
        def call(self, content):
            made = make(self, content)
            of[id(made)] = said(what, content), made  # kept, so that its id stays its own
            return made

        return call

    for what in ("clean", "vit", "text"):
        monkeypatch.setattr(type(nano), what, named(getattr(type(nano), what), what))
    draw = type(nano).draw

    def seen(self, branches, *args, **more):
        drawn.append({name: [[of[id(one)][0] for one in row] for row in rows] for name, rows in branches.items()})
        return draw(self, branches, *args, **more)

    monkeypatch.setattr(type(nano), "draw", seen)
    return drawn


@pytest.mark.parametrize("history", [0, 1, 2])
def test_a_turn_is_drawn_after_as_many_turns_as_are_asked_for(drawer, encoded, history):
    words = ("make the circle blue", "remove the square", "make the circle green")
    draw, two = drawer(), [item("a", *words, sources=(source(),)), item("b", *words[::-1], sources=(source(),))]
    draw.drawing = replace(draw.drawing, history=history)
    draw.batch(two)
    assert len(encoded) == 3
    for row, (name, asked) in enumerate((("a", words), ("b", words[::-1]))):
        pictures = [PICTURE, *(opened(draw, f"{name}/{turn}-0.png") for turn in (0, 1))]
        for turn, found in enumerate(encoded):
            turns = [
                Said([said(what, pictures[number]) for what in ("clean", "vit")], said("text", asked[number]))
                for number in range(max(0, turn - history), turn + 1)
            ]
            expected = branches_of(turns[-1].pictures, turns[-1].text, said("text", ""), turns[:-1])
            assert {branch: rows[row] for branch, rows in found.items()} == expected


def test_a_turn_after_another_is_what_a_conversation_draws(drawer, nano):
    draw, words = drawer(), ("make the circle blue", "remove the square")
    draw.drawing = replace(draw.drawing, history=1)
    draw.batch([item("chain", *words, sources=(source(),))])
    first = opened(draw, "chain/0-0.png")
    turns = [[nano.clean(picture), nano.vit(picture)] for picture in (PICTURE, first)]
    branches = branches_of(turns[1], nano.text(words[1]), nano.text(""), [Said(turns[0], nano.text(words[0]))])
    settings = nano.settings(first, steps=STEPS)
    noise = nano.noise(1, settings.width, settings.height, seed_of("bench", "chain", 0, 1, 5))
    rows = {name: [contents] for name, contents in branches.items()}
    (second,) = nano.draw(rows, noise, settings.guidance, steps=STEPS, progress=False)
    assert_alike(opened(draw, "chain/1-0.png"), second)


def test_chains_with_and_without_a_first_picture_are_drawn_together(drawer):
    """Each as it is drawn alone; what stands before their second turns is of two lengths."""
    chains = [item("drawn", "a red circle", BLUER), item("edited", BLUER, BLUER, sources=(source(),))]
    draw = drawer()
    draw.drawing = replace(draw.drawing, history=1)
    draw.batch(chains)
    for chain in chains:
        before = opened(draw, f"{chain.id}/1-0.png")
        (draw.out / chain.id / "1-0.png").unlink()
        alone = drawer()
        alone.drawing = draw.drawing
        alone.batch([chain])
        assert_alike(opened(alone, f"{chain.id}/1-0.png"), before)


def test_samples_differ_and_a_grid_is_one_picture(drawer):
    draw = drawer(samples=4)
    files = ((PurePosixPath("grids/p.png"),),)
    draw.batch([replace(item("p", "a red circle"), files=files, grid=True)])
    whole = opened(draw, "grids/p.png")
    assert whole.size == (192, 192)
    quarters = [whole.crop((x, y, x + 96, y + 96)).tobytes() for y in (0, 96) for x in (0, 96)]
    assert len(set(quarters)) == 4


def test_a_grid_reads_like_a_page():
    tiles = [Image.new("RGB", (2, 1), (shade, 0, 0)) for shade in (10, 20, 30, 40)]
    assert np.asarray(grid(tiles))[:, ::2, 0].tolist() == [[10, 20], [30, 40]]


def test_what_cannot_be_drawn_is_noted_and_the_rest_goes_on(drawer):
    def unreadable() -> Image.Image:
        raise ValueError("source.png is damaged (truncated); save it again or use another file")

    draw = drawer()
    items = [
        item("cat", "a cat"),
        item("good", "a red circle"),
        item("broken", "remove the star", sources=(Source("source.png", unreadable),)),
        item("half", "a red circle", "make it pink"),
    ]
    assert draw.batch(items) == 2
    assert set(draw.missing) == {"cat", "broken", "half"}
    assert "does not know: cat" in draw.missing["cat"]
    assert "source.png is damaged" in (draw.out / NOT_DRAWN / "broken" / "0-0.txt").read_text("utf-8")
    assert is_there(items[1], draw.out)
    assert is_there(items[3], draw.out, turns=1)
    assert not (draw.out / "cat").exists()


def test_a_note_goes_when_its_item_is_drawn(drawer):
    there = []

    def later() -> Image.Image:
        if not there:
            raise ValueError("there is no image file source.png")
        return PICTURE

    draw, one = drawer(), item("one", "remove the square", sources=(Source("source.png", later),))
    draw.batch([one])
    there.append(True)
    again = drawer()
    assert again.batch([one]) == 1
    assert not list((again.out / NOT_DRAWN).rglob("*.txt"))
    assert again.missing == {}


def test_a_batch_that_lacks_a_picture_is_drawn_again_and_gives_the_same_bytes(drawer):
    items = [item("one", "a red circle"), item("two", "a blue star")]
    draw = drawer()
    draw.batch(items)
    before = (draw.out / "two" / "0-0.png").read_bytes()
    (draw.out / "one" / "0-0.png").write_bytes(b"mine")
    (draw.out / "two" / "0-0.png").unlink()
    assert drawer().batch(items) == 1
    assert (draw.out / "two" / "0-0.png").read_bytes() == before
    assert (draw.out / "one" / "0-0.png").read_bytes() == b"mine"  # what is there stays
    assert drawer().batch(items) == 0


def test_pictures_of_two_sizes_are_drawn_apart(drawer):
    small = PICTURE.resize((96, 64))
    draw = drawer()
    draw.batch([item(name, "remove the square", sources=(source(p),)) for name, p in (("a", PICTURE), ("b", small))])
    assert opened(draw, "a/0-0.png").size == (96, 96)
    assert opened(draw, "b/0-0.png").size == (96, 64)


def test_a_source_that_many_rows_share_is_encoded_once(drawer, nano, monkeypatch):
    seen = []
    vit = type(nano).vit
    monkeypatch.setattr(type(nano), "vit", lambda self, image: seen.append(image) or vit(self, image))
    drawer(samples=4).batch([item("a", "remove the square", samples=4, sources=(source(),))])
    assert len(seen) == 1


def test_one_kind_of_source_token_alone(drawer, nano):
    draw = drawer()
    draw.drawing = replace(draw.drawing, source_tokens=("vae",))
    draw.batch([item("one", "make the circle blue", sources=(source(),))])
    seed = seed_of("bench", "one", 0, 0, 5)
    alone = nano.edit(PICTURE, "make the circle blue", steps=STEPS, seed=seed, source_tokens=("vae",), progress=False)
    assert_alike(opened(draw, "one/0-0.png"), alone[0])


def test_its_file_says_what_it_was_made_with(drawer):
    draw = drawer()
    draw.batch([item("one", "a red circle")])
    about = json.loads(opened(draw, "one/0-0.png").text["lightbagel"])
    assert about == {
        "bench": "bench", "item": "one", "turn": 0, "sample": 0, "prompt": "a red circle", "negative_prompt": "",
        "model": "nano", "steps": STEPS, "seed": 5,
    }  # fmt: skip


def test_its_file_names_the_loras(tmp_path):
    style = lora(open_model(NANO).components, tmp_path / "style.safetensors")
    model = LightBagel.from_pretrained("nano", "cpu", loras={style: 0.8})
    draw = Drawer(model, "bench", tmp_path, Drawing(1, 1, {"steps": STEPS}), tmp_path / ".scratch")
    draw.batch([item("one", "a red circle")])
    assert json.loads(opened(draw, "one/0-0.png").text["lightbagel"])["loras"] == {"style.safetensors": 0.8}


def test_what_lies_beside_is_written_with_the_pictures(drawer):
    beside = {PurePosixPath("one/metadata.jsonl"): lambda: b"{}"}
    draw = drawer()
    draw.batch([replace(item("one", "a red circle"), beside=beside), replace(item("two", "a cat"), beside={})])
    assert (draw.out / "one" / "metadata.jsonl").read_bytes() == b"{}"


def test_a_picture_that_comes_out_as_nan_is_noted(drawer, nano, monkeypatch):
    decode = nano.decode
    monkeypatch.setattr(nano, "decode", lambda latents: decode(latents * torch.nan))
    draw = drawer()
    assert draw.batch([item("one", "a red circle")]) == 0
    assert "NaN" in draw.missing["one"]


def test_an_unknown_negative_prompt_is_refused_at_once(nano, tmp_path):
    with pytest.raises(ValueError, match="does not know: blurry"):
        Drawer(nano, "bench", tmp_path, Drawing(1, 1, negative="blurry"), tmp_path)


def test_settings_are_checked_before_anything_is_drawn(nano):
    with pytest.warns(UserWarning, match="rounded to 96x96"):
        assert check_settings(nano, Drawing(1, 1, {"width": 100, "height": 90}), editing=False) == (96, 96)
    assert check_settings(nano, Drawing(1, 1), editing=True) == (96, 96)
    for asked in ({"steps": 0}, {"text_guidance": float("nan")}, {"guidance_interval": (1.0, 0.0)}):
        with pytest.raises(ValueError, match="must"):
            check_settings(nano, Drawing(1, 1, asked), editing=False)
    with pytest.raises(ValueError, match=r"the negative prompt cannot be used: .*does not know: blurry"):
        check_settings(nano, Drawing(1, 1, negative="blurry"), editing=False)


def test_a_picture_without_content_is_drawn_again(drawer):
    draw, one = drawer(), item("one", "a red circle")
    draw.batch([one])
    (draw.out / "one" / "0-0.png").write_bytes(b"")
    assert drawer().batch([one]) == 1
    assert opened(draw, "one/0-0.png").size == (96, 96)
