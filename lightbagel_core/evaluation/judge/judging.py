"""Has a judge asked about a bench's pictures, and records what it said; results of others are never replaced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from ..bench import Bench, Files, Judged
from ..prompt_file import read_json
from ..results import write_text
from .ask import Cost, Judge, ask

ANSWERS = "judge-answers.jsonl"  # below the pictures' folder: what has been asked once is not asked again
MARK = "judge.json"  # there too: which judge was asked last, and the files that were written then


def judge_bench(
    bench: Bench,
    files: Files,
    judge: Judge,
    progress: Callable[[int, int], object] | None = None,
    paid: Callable[[Cost], object] | None = None,
) -> Path:
    """Asks a judge about all pictures of a bench; gives the file or folder of results, in the official judge's form.

    Beside it `judge.json` names the judge and the SHA-256 of each file. Results without such a mark, which an official
    script wrote, or somebody changed, are not replaced, nor mixed with others.

    Args:
        progress, paid: as `ask` takes them.

    Raises:
        ValueError: the bench has no such judge; there are results that no judge's run wrote, or no picture; what `ask`
            and the bench's `Judged` raise. Then nothing is written but the answers so far.
    """
    if bench.judged is None:
        raise ValueError(f"{bench.title} is not scored by a judge behind an endpoint")
    _replaceable(bench.judged, files)
    questions = bench.judged.questions(files)
    if not questions:
        raise ValueError(f"{files.out} has no picture of {bench.title} that a judge could be asked about; draw first")
    judgement = ask(questions, judge, files.out / ANSWERS, progress, paid=paid)
    before = _replaceable(bench.judged, files)  # once more: that may have been hours
    try:
        for file in before:  # of other names now, where the folder or what lies in it has changed
            file.unlink(missing_ok=True)
        return bench.judged.record(files, judgement.answers)
    finally:  # also of a part of them, so that the next run may replace it
        _mark(files.out, bench.judged.found(files), judge)


def _replaceable(judged: Judged, files: Files) -> Sequence[Path]:
    """The results that an earlier run wrote. Raises ValueError where there are others."""
    found = judged.found(files)
    for file in found:
        if not _ours(files.out, file):
            raise ValueError(
                f"{file} was not written by a judge that was asked from here, or was changed since; asking one would "
                "replace it or mix with it: move it elsewhere first, or score it as it is, without a judge"
            )
    return found


def _ours(out: Path, file: Path) -> bool:
    """Whether a file of results is as a run of ours wrote it."""
    try:
        data, _ = read_json(out / MARK)
        written = data.get("files") if isinstance(data, dict) else None
        return isinstance(written, dict) and written.get(_name(out, file)) == _checksum(file)
    except (OSError, ValueError):
        return False


def _mark(out: Path, found: Sequence[Path], judge: Judge) -> None:
    written = {_name(out, file): _checksum(file) for file in found}
    write_text(out / MARK, json.dumps({"judge": judge.model, "url": judge.url, "files": written}, indent=1) + "\n")


def _name(out: Path, file: Path) -> str:
    return file.relative_to(out).as_posix()


def _checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
