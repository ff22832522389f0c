"""DPG-Bench: long prompts, four pictures of each in one grid, a model's yes or no to questions that build on others.

Its questions are in `dpg_bench.csv`, which lies beside the folder of prompts or is named as `Files.judge_prompts`.

What the official `compute_dpg_bench.py` does and this keeps, since published figures come from it: the figures of the
categories are of the answers as they were given, not set to 0 by a parent, and of each prompt's last picture alone.
The same over all pictures, which is steadier, stands beside them. What it does and this does not: a prompt whose
picture is missing drops out of its mean, and of an id's questions only the last block in the csv counts. It never asks
the csv's first question; see `_unasked`.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from statistics import fmean

from ..bench import Bench, Files
from ..items import Item, Reading, safe_name
from ..prompt_file import collect
from ..scores import WORST, Score, Scores, Worst
from ..statistics import bootstrap, mean_of_all
from .dpg_answers import Answers, Questions, read_answers, read_questions, without_orphans

NAME, TITLE = "dpg", "DPG-Bench"
MOST = 4  # pictures in a grid that the official scorer can look at


def read(files: Files, samples: int) -> Reading:
    """The prompts of a folder of `<id>.txt` files.

    Raises:
        ValueError: it is no folder, has no prompts, or more samples are asked for than the scorer's grid has room for.
    """
    if not 1 <= samples <= MOST:
        raise ValueError(f"{TITLE} puts 1 to {MOST} pictures of a prompt into one grid, not {samples}")
    if not files.prompts.is_dir():
        raise ValueError(f"{files.prompts} is no folder; the prompts of {TITLE} are a folder of <id>.txt files")
    rows = ((f"{files.prompts.name}/{file.name}", file) for file in sorted(files.prompts.glob("*.txt")))
    return collect(TITLE, files.prompts, rows, _item, none="it has no <id>.txt")


def _item(file: Path, where: str) -> Item:
    name = safe_name(file.stem, where)
    if "." in name:
        raise ValueError(f"{where}: the official scorer reads an id up to its first dot; rename the file")
    try:
        prompt = file.read_text("utf-8-sig").strip()
    except (OSError, ValueError) as error:
        raise ValueError(f"{where} cannot be read as text: {error}") from None
    if not prompt:
        raise ValueError(f"{where} is empty")
    return Item(name, "", (prompt,), ((PurePosixPath("images", f"{name}.png"),),), grid=True)


def score(files: Files) -> Scores:
    """The figures of what the official `compute_dpg_bench.py` wrote into its `..._detail.txt`, from 0 to 100.

    A question counts 0 where one that it builds on does. A picture is the mean of its questions, a prompt of its
    pictures, the bench of its prompts. What was not answered counts as a no: a picture
    without any answer as missing or, where its grid lies there, its questions as refused.

    Raises:
        ValueError: the csv or the answers are not there, are damaged, or are of other prompts.
    """
    file = files.results or _detail(files.out)
    questions = read_questions(files.judge_prompts or files.prompts.parent / "dpg_bench.csv")
    answers, unreadable = read_answers(file, questions)
    samples = files.samples or 1 + max(picture for pictures in answers.values() for picture in pictures)
    reading = read(files, samples)
    if strange := set(answers) - {item.id for item in reading.items}:
        raise ValueError(f"{file} has answers for {min(strange)}, which {files.prompts} does not ask for")
    notes = _unasked(questions, answers)
    for sentences, of in ((unreadable, file), (questions.unusable, "the csv"), (reading.unusable, files.prompts)):
        if sentences:
            notes.append(f"{len(sentences)} of {of} not used: {sentences[0]}")
    if without := [item.id for item in reading.items if item.id not in questions.of]:
        notes.append(f"{len(without)} prompts have no questions in the csv and are left out: {without[0]}")
    missing = refused = 0
    prompts: list[list[float]] = []
    categories: dict[str, list[list[float]]] = {}
    rows = []
    for item in reading.items:
        asked = questions.of.get(item.id, {})
        if not asked:
            continue
        given = [answers.get(item.id, {}).get(picture, {}) for picture in range(samples)]
        there = (files.out / item.files[0][0]).is_file()
        missing += sum(not one and not there for one in given)
        refused += sum(len(asked) - len(one) for one in given if one or there)
        full = [{key: 100.0 * one.get(key, 0.0) for key in asked} for one in given]
        prompts.append([fmean(without_orphans(one, asked).values()) for one in full])
        for category in {question.category for question in asked.values()}:
            of_all = [[one[key] for key in asked if asked[key].category == category] for one in full]
            categories.setdefault(category, []).append(of_all[-1])
            categories.setdefault(f"{category} (all pictures)", []).append([value for one in of_all for value in one])
        lacking = [asked[key].text for key in asked if not all(one[key] for one in full)]
        reason = "no: " + " ".join(lacking[:3]) if any(given) else "no answers"
        rows.append(Worst(item.id, item.turns[0], fmean(prompts[-1]), (str(item.files[0][0]),), reason))
    return Scores(
        NAME,
        "0-100",
        {"score": _mean(prompts)},
        {name: _mean(categories[name]) for name in sorted(categories, key=lambda name: ("(" in name, name))},
        missing=missing,
        refused=refused,
        notes=notes,
        worst=sorted((row for row in rows if row.score < 100), key=lambda row: row.score)[:WORST],
    )


def _mean(clusters: list[list[float]]) -> Score:
    return bootstrap({"": clusters}, mean_of_all)


def _detail(out: Path) -> Path:
    found = sorted([*out.glob("*_detail.txt"), *(out / "images").glob("*_detail.txt")])
    if len(found) != 1:
        seen = ", ".join(file.name for file in found) or "no file *_detail.txt"
        raise ValueError(f"{out} has {seen}; say which of compute_dpg_bench.py's is meant as the results")
    return found[0]


def _unasked(questions: Questions, answers: Answers) -> list[str]:
    """Takes out the csv's first question where the official script did not ask it; gives the sentence for it.

    Where others build on it, that script breaks off after the prompt's first picture and leaves the prompt out of its
    figures: nothing is known of the other pictures then, and the prompt is left out here as well.
    """
    if questions.first is None:
        return []
    name, key = questions.first
    if name not in answers or any(key in given for given in answers[name].values()):
        return []
    asked = questions.of[name]
    if any(key in question.parents for question in asked.values()):
        asked.clear()
        return [f"the official script does not ask the first question of the csv and breaks off at {name}: left out"]
    del asked[key]
    return [f"the official script does not ask the first question of the csv, of {name}: this question is left out"]


BENCH = Bench(
    NAME,
    TITLE,
    editing=False,
    samples=4,
    batch=4,
    read=read,
    score=score,
    official="bash dpg_bench/dist_eval.sh {out}/images SIDE_OF_ONE_PICTURE",
)
