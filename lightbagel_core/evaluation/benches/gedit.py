"""GEdit-Bench: 606 edits of eleven tasks, in English and in Chinese.

A judge gives two scores for what was asked (SC) and two for the picture (PQ), each from 0 to 10; the lower one counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt
from pathlib import Path, PurePosixPath

from PIL import Image

from ...images import open_image
from ..bench import Answer, Bench, Files, Judged, Question
from ..items import Item, Reading, safe_name
from ..judge.templates import named
from ..prompt_file import collect, one_sample, text
from ..results import Outcome, drawn, is_drawn, left_out, png, png_of, worst
from ..scores import Score, Scores
from ..statistics import bootstrap, mean_of_all, mean_of_means
from .gedit_data import TASKS, Row, read_rows
from .gedit_results import FOLDER, Judgement, found_results, lowest_of, read_results, write_results

NAME, TITLE = "gedit", "GEdit-Bench"
LANGUAGES = {"en": "", "cn": " (Chinese)"}  # as the data set names them, and as figures do
FIGURES = ("O", "SC", "PQ")
HIGHEST = 10
JUDGE_PROMPTS = "viescore/vie_prompts.py"
CONTEXT = "_context_no_delimit"
SC_RULES = ("_prompts_0shot_two_image_edit_rule", "_prompts_0shot_tie_rule_SC")
PQ_RULES = ("_prompts_0shot_rule_PQ",)
GAP = "<instruction>"


def read(files: Files, samples: int) -> Reading:
    """The edits of the data set stepfun-ai/GEdit-Bench in both languages; their sources lie in it.

    An edit's id is task/language/key. Beside its picture goes the source, as `<key>_SRCIMG.png`.

    Args:
        files: `prompts` is the data set's folder, with Parquet files or with what `save_to_disk` wrote.

    Raises:
        ValueError: the folder holds none of GEdit-Bench's rows, or more than one sample is asked for.
    """
    one_sample(TITLE, samples)
    return _read(files)[0]


def _read(files: Files) -> tuple[Reading, dict[str, bool]]:
    """(the edits, for each id whether the data set marks it as of the intersection)."""
    rows, damaged = read_rows(files.prompts)
    reading = collect(TITLE, files.prompts, ((row.where, row) for row in rows), _item, damaged)
    common = {_id(row): bool(row.words["Intersection_exist"]) for row in reversed(rows)}
    return reading, {item.id: common[item.id] for item in reading.items}


def _id(row: Row) -> str:
    return "/".join(str(row.words[name]) for name in ("task_type", "instruction_language", "key"))


def _item(row: Row, where: str) -> Item:
    words = row.words
    task, language = text(words, "task_type", where), text(words, "instruction_language", where)
    if task not in TASKS or language not in LANGUAGES:
        raise ValueError(f"{where}: {task!r} in {language!r} is none of {TITLE}'s tasks and languages")
    key, folder = safe_name(words["key"], where), PurePosixPath("fullset", task, language)
    return Item(
        _id(row),
        task,
        (text(words, "instruction", where),),
        ((folder / f"{key}.png",),),
        (row.source,),
        beside={folder / f"{key}_SRCIMG.png": png_of(row.source.open)},
    )


def questions(files: Files) -> list[Question]:
    """For each picture that is there two questions, composed as the official VIEScore does for edits.

    SC is asked with source and edited picture, PQ with the edited one alone; it is resized to the source's size. The
    official script sends JPEGs, this sends PNGs.
    """
    context, *rules = named(files.judge_prompts, [CONTEXT, *SC_RULES, *PQ_RULES], JUDGE_PROMPTS)
    asks_sc, asks_pq = "\n".join([context, *rules[:2]]), "\n".join([context, *rules[2:]])
    if GAP not in asks_sc:
        raise ValueError(f"{files.judge_prompts}: {SC_RULES[1]} has no {GAP}, so the judge would see no instruction")
    asked = []
    for item in read(files, 1).items:
        if is_drawn(files.out, item):
            edited = partial(_edited, files.out, item)
            both = (png_of(partial(_source, files.out, item)), edited)
            asked += [
                Question(f"{item.id}/SC", asks_sc.replace(GAP, item.turns[0]), both, _readable),
                Question(f"{item.id}/PQ", asks_pq, (edited,), _readable),
            ]
    return asked


def _readable(answer: str) -> bool:
    return lowest_of(answer) is not None


def _source(out: Path, item: Item) -> Image.Image:
    """The source as it lies beside the picture, else as the data set has it: that is slower."""
    (file,) = item.beside
    return open_image(out / file) if (out / file).is_file() else item.sources[0].open()


def _edited(out: Path, item: Item) -> bytes:
    return png(drawn(out, item)().resize(_source(out, item).size))


def record(files: Files, answers: Mapping[str, Answer]) -> Path:
    """Writes a CSV for each task as the official script does, into `eval_results_new` below the output folder.

    A score that a judge refused is left empty, so that the official statistics print nan rather than leave it out; a
    picture that is not there has no row.
    """
    reading, common = _read(files)
    none = Answer(None)
    tasks: dict[str, list[Judgement]] = {}
    for item in reading.items:
        if is_drawn(files.out, item):
            said = [answers.get(f"{item.id}/{name}", none).text for name in ("SC", "PQ")]
            sc, pq = (None if one is None else lowest_of(one) for one in said)
            tasks.setdefault(item.group, []).append(Judgement(item, sc, pq, common[item.id]))
    folder = files.out / FOLDER
    write_results(folder, files.out, tasks)
    return folder


@dataclass(frozen=True)
class Edit:
    """One edit's scores. scores: O, SC, PQ. refused: how many of its two judgements there are not."""

    outcome: Outcome
    scores: tuple[float, float, float]
    language: str
    common: bool
    refused: int


def score(files: Files) -> Scores:
    """The figures of the CSVs that the official script, or `record`, wrote.

    O is the root of SC x PQ of each edit. Of each figure the mean of a task's edits, then of the tasks' means; for each
    language that was drawn or judged, also for the edits alone that the data set marks as of the intersection.
    What is missing or was refused counts as 0; the official script puts a random number for what it cannot read.

    Raises:
        ValueError: there are no results, or they are of something else.
    """
    reading, common = _read(files)
    judged, unused = read_results(files)
    edits = [_edit(files.out, item, judged.get(item.id), common[item.id]) for item in reading.items]
    begun = {edit.language for edit in edits if edit.outcome.item.id in judged or edit.outcome.lost != "missing"}
    if not begun:
        raise ValueError(f"{files.prompts} and the results have no edit in common")
    edits = [edit for edit in edits if edit.language in begun]
    overall: dict[str, Score] = {}
    groups: dict[str, Score] = {}
    for language in filter(begun.__contains__, LANGUAGES):
        here = [edit for edit in edits if edit.language == language]
        for name, chosen in (("", here), (", intersection", [edit for edit in here if edit.common])):
            for index, figure in enumerate(FIGURES):
                values = _by_task(chosen, index)
                overall[f"{figure}{name}{LANGUAGES[language]}"] = bootstrap(values, mean_of_means)
        for task, scores in _by_task(here, 0).items():
            groups[f"{task}{LANGUAGES[language]}"] = bootstrap({task: scores}, mean_of_all)
    return Scores(
        NAME,
        "0-10",
        overall,
        groups,
        sum(edit.outcome.lost == "missing" for edit in edits),
        sum(edit.refused for edit in edits),
        [*_notes(edits, begun), *left_out(files.prompts, reading.unusable), *left_out(files.out / FOLDER, unused)],
        worst([edit.outcome for edit in edits], HIGHEST, files.out),
    )


def _edit(out: Path, item: Item, judged: tuple[float | None, float | None] | None, common: bool) -> Edit:
    language = item.id.split("/")[1]
    if judged is None and not is_drawn(out, item):
        return Edit(Outcome(item, 0.0, "the picture is missing", "missing"), (0.0, 0.0, 0.0), language, common, 0)
    given = judged or (None, None)
    sc, pq = (value or 0.0 for value in given)
    whole = sqrt(sc * pq)
    refused = given.count(None)
    reason = "a judgement was refused" if refused else f"SC {sc:g}, PQ {pq:g}"
    return Edit(Outcome(item, whole, reason, "refused" if refused else ""), (whole, sc, pq), language, common, refused)


def _by_task(edits: Sequence[Edit], index: int) -> dict[str, list[list[float]]]:
    tasks: dict[str, list[list[float]]] = {}
    for edit in edits:
        tasks.setdefault(edit.outcome.item.group, []).append([edit.scores[index]])
    return {task: tasks[task] for task in TASKS if task in tasks}


def _notes(edits: Sequence[Edit], begun: set[str]) -> list[str]:
    notes = ["O is the mean of the root of SC x PQ of each edit, which is no root of the mean SC and PQ."]
    notes += [
        f"Nothing was drawn or judged in {language!r}; there are no figures of it."
        for language in LANGUAGES
        if language not in begun
    ]
    tasks = {edit.outcome.item.group for edit in edits}
    if len(tasks) < len(TASKS):
        notes.append(f"These are {len(tasks)} of the bench's {len(TASKS)} tasks; the figures compare with no others.")
    return notes


BENCH = Bench(
    NAME,
    TITLE,
    editing=True,
    samples=1,
    batch=1,
    read=read,
    score=score,
    judged=Judged(questions, record, found_results),
    official="python test_gedit_score.py --save_path {out}/.. --model_name NAME_OF_THE_FOLDER",
)
