"""nano-describe: what is asked, how answers are judged, and that a stopped run goes on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from lightbagel_core.config import ImageRule
from lightbagel_core.evaluation.suites import describing
from lightbagel_core.evaluation.suites.truth import fresh, scene_of_dict, seen_in
from lightbagel_core.images import open_image


class Parrot:
    """Says what it is told to, in turn; counts how often it is asked."""

    def __init__(self, says: list[str]) -> None:
        self.says, self.batches, self.und, self.needed = says, [], self, Counter[str]()

    def need(self, component: str) -> None:
        self.needed[component] += 1

    def answers(self, turns: list[Any]) -> list[str]:
        self.batches.append([question for _, question in turns])
        return [self.says.pop(0) for _ in turns]


@pytest.fixture
def worded(tmp_path, monkeypatch):
    """A folder of captions and questions alone, some about three and four things; a `Parrot` answers."""
    monkeypatch.setattr(describing.chat, "answers", lambda und, turns: und.answers(turns))
    monkeypatch.setattr(describing, "CLASSES", tuple(c for c in describing.CLASSES if c != describing.RECONSTRUCTIONS))
    describing.write_prompts(tmp_path / "out" / "prompts", 80, (1,))
    return tmp_path / "out" / "prompts"


def test_answers_count_word_for_word(worded):
    items = describing.read(worded)
    by_class = [item for group in describing.CLASSES for item in items if item.group == group]
    said = [item.answer if i % 4 else item.answer + " ." for i, item in enumerate(by_class)]
    scores = describing.scores_of(describing.ask(Parrot(said), worded, worded.parent, progress=False))
    assert [scores.groups[group].value for group in describing.CLASSES] == [0.75] * 4
    assert next(iter(scores.overall.values())).value == 0.75
    kinds = [scores.groups[name] for name in scores.groups if name.startswith("questions: ")]
    assert sum(score.n for score in kinds) == 20  # of three and four things none
    assert len(scores.worst) == 20
    assert (worded.parent / scores.worst[0].pictures[0]).is_file()
    assert scores.worst[0].reason.endswith(f"instead of {by_class[0].answer!r}")


def test_different_questions_go_in_one_batch_and_a_stopped_run_goes_on(worded):
    items, out = describing.read(worded), worded.parent
    by_class = [item for group in describing.CLASSES for item in items if item.group == group]
    with pytest.raises(IndexError):  # it stops at the 41st
        describing.ask(Parrot([item.answer for item in by_class[:40]]), worded, out, progress=False)
    first = (out / "answers.jsonl").read_text("utf-8")
    again = Parrot([item.answer for item in by_class[40:]])
    rows = describing.ask(again, worded, out, progress=False)
    assert all(row["right"] for row in rows)
    assert (out / "answers.jsonl").read_text("utf-8").startswith(first)
    assert max(len({*batch}) for batch in again.batches) > 4
    quiet = Parrot([])
    assert describing.ask(quiet, worded, out, progress=False) == rows
    assert quiet.batches == []


def damaged(file, number: int, change) -> None:
    """Changes one line of a file."""
    lines = file.read_text("utf-8").splitlines()
    lines[number] = json.dumps(change(json.loads(lines[number])))
    file.write_text("\n".join(lines) + "\n", "utf-8")


@pytest.mark.parametrize(
    "change",
    [
        lambda row: [],
        lambda row: {**row, "more": 1},
        lambda row: {name: value for name, value in row.items() if name != "answer"},
        lambda row: {**row, "question": 3},
        lambda row: {**row, "group": "riddles"},
        lambda row: {**row, "id": "../a"},
        lambda row: {**row, "scene": None},
    ],
)
def test_a_damaged_question_is_said_with_its_line(tmp_path, change):
    describing.write_prompts(tmp_path, 3, (1,))
    damaged(tmp_path / "questions.jsonl", 2, change)
    with pytest.raises(ValueError, match=r"questions\.jsonl, line 3"):
        describing.read(tmp_path)


def test_a_damaged_answer_is_said_with_its_line(worded):
    said = [item.answer for group in describing.CLASSES for item in describing.read(worded) if item.group == group]
    rows = describing.ask(Parrot(said), worded, worded.parent, progress=False)
    for key in rows[0]:
        whole = (worded.parent / "answers.jsonl").read_text("utf-8")
        damaged(worded.parent / "answers.jsonl", 4, lambda row, key=key: {k: v for k, v in row.items() if k != key})
        with pytest.raises(ValueError, match=rf"answers\.jsonl, line 5 is no answer.*'{key}'.*take the line out"):
            describing.ask(Parrot([]), worded, worded.parent, progress=False)
        (worded.parent / "answers.jsonl").write_text(whole, "utf-8")


def test_every_kind_of_question_is_told_apart():
    rng, found, numbers = fresh(describing.NAME, 3), Counter[str](), set()
    for i in range(400):
        one = describing.random_asked(rng, describing.QUESTIONS, str(i))
        found[one.kind] += 1
        numbers.add(len(one.scene["things"]))
    assert set(found) == set(describing.KINDS.values())
    assert min(found.values()) > 10
    assert numbers == set(range(5))


def test_more_things_are_asked_about_apart():
    rng = fresh(describing.NAME, 3)
    for group in describing.CLASSES[3:]:
        things = {len(describing.random_asked(rng, group, "a").scene["things"]) for _ in range(30)}
        assert things == {3, 4}
    assert describing.random_asked(rng, describing.CLASSES[3], "a").answer.count(",") >= 1


def test_pictures_go_through_the_vae_and_back(nano, tmp_path):
    rng = fresh(describing.NAME, 1)
    items = [describing.random_asked(rng, describing.RECONSTRUCTIONS, str(i)) for i in range(2)]
    rows = describing.reconstructed(nano, items, tmp_path)
    assert [row["right"] for row in rows] == [True, True]
    seen, _ = seen_in(tmp_path / rows[0]["pictures"][0])
    assert seen.attributes == scene_of_dict(items[0].scene).attributes


def test_a_picture_goes_through_the_vae_in_the_size_that_the_model_edits(nano, tmp_path, monkeypatch):
    monkeypatch.setattr(nano, "config", replace(nano.config, vae_image=ImageRule(96, 32, 32)))
    item = describing.random_asked(fresh(describing.NAME, 1), describing.RECONSTRUCTIONS, "0")
    (row,) = describing.reconstructed(nano, [item], tmp_path)
    assert open_image(tmp_path / row["pictures"][0]).size == (96, 96)


def test_a_reconstruction_of_something_else_is_wrong(nano, tmp_path, monkeypatch):
    rng = fresh(describing.NAME, 1)
    items = [describing.random_asked(rng, describing.RECONSTRUCTIONS, str(i)) for i in range(2)]
    monkeypatch.setattr(describing.vae, "encode", lambda vae, pixels: encode(vae, pixels.flip(0)))
    rows = describing.reconstructed(nano, items, tmp_path)
    assert [row["right"] for row in rows] == [False, False]
    assert " instead of " in rows[0]["reason"]


encode = describing.vae.encode


def test_prompts_are_the_same_bytes_everywhere(tmp_path):
    describing.write_prompts(tmp_path, 20, (1, 2))
    content = (tmp_path / describing.PROMPTS).read_bytes()
    assert hashlib.sha256(content).hexdigest()[:16] == "ae5fcca4bfef96d9"
    rows = [json.loads(line) for line in content.decode("ascii").splitlines()]
    assert Counter(row["group"] for row in rows) == dict.fromkeys(describing.CLASSES, 8)
    seen, _ = seen_in(tmp_path / rows[-1]["image"])
    assert seen == scene_of_dict(rows[-1]["scene"]).ordered()
