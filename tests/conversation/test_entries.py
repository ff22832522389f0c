"""What an edit stands after, and what is asked, written out by hand."""

from __future__ import annotations

from PIL import Image

from lightbagel_core.conversation.entries import Answered, Drawn, Shown, asking, pictures_of, turns_of
from lightbagel_core.sampling.branches import Said


def picture() -> Image.Image:
    return Image.new("RGB", (32, 32))


def drawn(text: str, made: Image.Image, edited: bool = True) -> Drawn:
    return Drawn(text, "", made, edited, 0, {})


A, B, C, D = (picture() for _ in range(4))


def test_pictures_come_in_order():
    assert pictures_of([Shown(A), Answered("?", "!"), drawn("blue", B), Shown(A)]) == [A, B, A]


def test_an_edit_has_the_pictures_shown_since_the_last_drawing_else_the_last_picture():
    assert turns_of([]) == ([], [])
    assert turns_of([Answered("?", "!")]) == ([], [])
    assert turns_of([Shown(A), Answered("?", "!"), Shown(B)]) == ([], [A, B])
    entries = [Shown(A), Shown(B), drawn("blue", C)]
    assert turns_of(entries) == ([Said([A, B], "blue")], [C])
    assert turns_of([*entries, Answered("?", "!")]) == ([Said([A, B], "blue")], [C])
    assert turns_of([*entries, Shown(D)]) == ([], [D])  # which is not what the turn before has drawn
    assert turns_of([*entries, Shown(D), Shown(C)]) == ([], [D, C])
    assert turns_of([*entries, Shown(C), Shown(D)]) == ([Said([A, B], "blue")], [C, D])


def test_a_chain_holds_every_turn():
    entries = [drawn("a star", A, False), drawn("blue", B), drawn("red", C)]
    assert turns_of(entries) == ([Said([], "a star"), Said([A], "blue"), Said([B], "red")], [C])


def test_a_prompt_alone_begins_a_chain():
    entries = [Shown(A), drawn("blue", B), Shown(D), drawn("a star", C, False)]
    assert turns_of(entries) == ([Said([], "a star")], [C])


def test_what_is_asked():
    entries = [Shown(A), Answered("how many?", "two"), drawn("blue", B), Shown(C), Answered("which?", "this")]
    assert asking(entries, "why?").messages == [
        ("user", [A, "how many?"]),
        ("assistant", ["two"]),
        ("user", [B, C, "which?"]),
        ("assistant", ["this"]),
        ("user", ["why?"]),
    ]
    assert asking([], "why?").messages == [("user", ["why?"])]
