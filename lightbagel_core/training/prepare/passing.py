"""The pass over sources that writes a store: in parallel, and so that a kill loses the open shard alone.

Units are worked in a fixed order by several processes, and their results taken in that order. A shard ends with the
unit that fills it; then a note in the store says which unit comes next and what was counted. So a pass that goes on
from the note writes the very bytes that an unbroken one would have. `store.json` comes last: until then the folder is
no store, or still the one that sets are being added to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ...files.writing import write_whole
from ..data.store import FILE, LATENTS, LEFT_OUT, SHARD, Manifest, SetAbout, Shard, Store, manifest_of, read_manifest
from .checking import check_unit
from .rows import Layout, LeftOut
from .shards import ShardWriter
from .stamps import stamp
from .tally import Tally
from .working import in_order

NOTE, LOCK = ".prepare.json", ".prepare.lock"
OWN = {FILE, LEFT_OUT, NOTE, LOCK, LATENTS}
DOUBLE = "it has the same pictures and texts as an earlier row"
PRELOAD = "lightbagel_core.training.prepare.checking"
KEPT = 16  # bytes of a digest that are kept in memory, one for each row of the store


@dataclass(frozen=True)
class Asked:
    """A set that is to be added, of one or several sources.

    source, licence: in words; "" where they are not known.
    """

    name: str
    sources: tuple[tuple[Path, Layout], ...]
    source: str = ""
    licence: str = ""

    def about(self, longest: int) -> SetAbout:
        """What the store will say of it, with nothing counted yet. Raises ValueError where a source is not listed."""
        layouts = ", ".join(dict.fromkeys(layout.name for _, layout in self.sources))
        told = stamp(path for path, _ in self.sources)
        return Tally().about(self.name, layouts, self.source, self.licence, told, longest)


@dataclass
class _Note:
    """Where a pass stands.

    base: what the store held before. abouts: of the sets that are added. tallies: as many. shards: written now.
    at: the set that comes next, and the unit in it. listed: bytes of the list of what is left out.
    """

    base: Manifest
    abouts: list[SetAbout]
    tallies: list[Tally]
    shards: list[Shard] = field(default_factory=list)
    at: tuple[int, int] = (0, 0)
    listed: int = 0

    @property
    def manifest(self) -> Manifest:
        added = [
            tally.about(about.name, about.layout, about.source, about.licence, about.stamp, about.longest)
            for about, tally in zip(self.abouts, self.tallies, strict=True)
        ]
        return Manifest((*self.base.sets, *added), (*self.base.shards, *self.shards))

    def write(self, folder: Path) -> None:
        said = {
            "manifest": json.loads(self.manifest.to_bytes()),
            "sets": len(self.base.sets),
            "shards": len(self.base.shards),
            "tallies": [vars(tally) for tally in self.tallies],
            "at": self.at,
            "listed": self.listed,
        }
        write_whole(folder / NOTE, json.dumps(said).encode(), folder)


def prepare(
    folder: Path, asked: Sequence[Asked], *, longest: int = 0, workers: int = 1, progress: bool = False
) -> tuple[Manifest, list[Tally]]:
    """Adds sets to a store, which is made where there is none; a pass that was broken off is gone on with.

    Args:
        longest: pixels that the longer side of a picture is scaled down to; 0: none is.
        workers: processes. progress: whether a bar is shown.

    Returns:
        What the store holds, and what was counted of the sets that were asked for now: none of one that was there
        already, from the same files.

    Raises:
        ValueError: the folder holds other things, or another pass writes there; a set of that name was made of other
            files, or the files changed since the pass began; nothing of them can be learned from; or the store cannot
            be written.
    """
    for path in (path for one in asked for path, _ in one.sources):
        if folder.resolve().is_relative_to(path.resolve()) or path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{folder} and {path} lie in each other: choose a folder for the store outside its source")
    with _claimed(folder):
        try:
            return _prepared(folder, asked, longest, workers, progress)
        except OSError as error:
            raise ValueError(f"{folder} could not be written: {error.strerror or error}") from None


def _prepared(
    folder: Path, asked: Sequence[Asked], longest: int, workers: int, progress: bool
) -> tuple[Manifest, list[Tally]]:
    note, asked = _begin(folder, asked, longest)
    seen = {digest[:KEPT] for digest in _digests(folder, note.manifest)}
    with open(folder / LEFT_OUT, "ab") as lines:
        lines.truncate(note.listed)
        lines.seek(0, os.SEEK_END)
        for number in range(note.at[0], len(asked)):
            one = asked[number]
            units = [(layout, path, unit, longest) for path, layout in one.sources for unit in layout.units(path)]
            first = note.at[1] if number == note.at[0] else 0
            with tqdm(total=len(units), initial=first, disable=not progress, desc=one.name, unit="piece") as bar:
                _add(folder, note, number, units, first, lines, seen, workers, bar)
    if not note.manifest.rows:
        (folder / NOTE).unlink()
        reasons = "; ".join(reason for tally in note.tallies for reason in list(tally.reasons)[:3])
        raise ValueError(
            f"nothing of {', '.join(one.name for one in asked)} can be learned from"
            + (f": {reasons}; {folder / LEFT_OUT} lists all" if reasons else ": no rows were found")
        )
    write_whole(folder / FILE, note.manifest.to_bytes(), folder)
    (folder / NOTE).unlink()
    return note.manifest, note.tallies


def _add(
    folder: Path,
    note: _Note,
    number: int,
    units: Sequence[tuple[Any, ...]],
    first: int,
    lines: Any,
    seen: set[bytes],
    workers: int,
    bar: Any,
) -> None:
    """Goes through the units of a set, from one on."""
    name, tally = note.abouts[number].name, note.tallies[number]
    before, writer = tally.rows, None

    def listed(key: str, why: str) -> None:
        lines.write((json.dumps({"set": name, "key": key, "why": why}, ensure_ascii=True) + "\n").encode())

    def close(at: tuple[int, int]) -> None:
        nonlocal writer
        if writer is not None:
            note.shards.append(writer.close())
        writer = None
        lines.flush()
        os.fsync(lines.fileno())
        note.at, note.listed = at, lines.tell()
        note.write(folder)

    try:
        for place, checked in enumerate(in_order(check_unit, units[first:], workers, PRELOAD), first):
            tally.pictures.update(checked.counts)
            for row in checked.found:
                if isinstance(row, LeftOut):
                    tally.lost(row)
                    listed(row.key, row.why)
                elif row.digest[:KEPT] in seen:
                    tally.doubles += 1
                    listed(row.key, DOUBLE)
                else:
                    seen.add(row.digest[:KEPT])
                    if writer is None:
                        shards = len(note.base.shards) + len(note.shards)
                        writer = ShardWriter(folder, shards, len(note.base.sets) + number)
                    writer.add(row)
                    tally.kept(row)
            if writer is not None and writer.full:
                close((number, place + 1))
            bar.update()
            seconds = bar.format_dict["elapsed"]
            bar.set_postfix_str(
                f"{tally.rows:,} rows, {(tally.rows - before) / max(seconds, 1e-3):,.0f} a second", False
            )
        close((number + 1, 0))
    finally:
        if writer is not None:
            writer.drop()


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Holds a store's folder, which is made where there is none."""
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(f"another pass is writing to {folder} now: wait for it, or choose another folder") from None
    except OSError as error:
        raise ValueError(f"{folder} cannot be written to: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):  # Windows deletes no open file; there filelock does it afterwards
            (folder / LOCK).unlink()


def _begin(folder: Path, asked: Sequence[Asked], longest: int) -> tuple[_Note, list[Asked]]:
    """The note to go on from, and the sets that are not in the store yet. What a killed pass left open is deleted."""
    other = sorted(found.name for found in folder.iterdir() if found.name not in OWN and not _ours(found.name))
    if other:
        raise ValueError(f"{folder} holds other files ({', '.join(other[:3])}); choose a new folder")
    base = read_manifest(folder) if (folder / FILE).is_file() else Manifest()
    if not base.sets and not (folder / NOTE).is_file() and any(folder.glob("rows-*.arrow")):
        raise ValueError(f"{folder} holds a store's rows, but no {FILE}: choose a new folder")
    there = {about.name: about for about in base.sets}
    new, abouts = [], []
    for one in asked:
        about, old = one.about(longest), there.get(one.name)
        if old is None:
            new.append(one)
            abouts.append(about)
        elif (old.stamp, old.layout, old.longest) != (about.stamp, about.layout, about.longest):
            raise ValueError(
                f"{folder} has a set {one.name} already, which was made of other files, or otherwise: give this one "
                "another --name, or choose a new folder"
            )
    note = _Note(base, abouts, [Tally() for _ in abouts], listed=_size(folder / LEFT_OUT))
    if (folder / NOTE).is_file():
        found = _read_note(folder)
        if found.base == base:  # else the store was finished, and the kill came before the note was deleted
            _compare(folder, found.abouts, abouts)
            note = found
    keep = {shard.name for shard in note.manifest.shards}
    for file in folder.iterdir():
        if _ours(file.name) and file.name not in keep:
            file.unlink()
    broken = [shard.name for shard in note.shards if _size(folder / shard.name) != shard.bytes]
    if broken or _size(folder / LEFT_OUT) < note.listed:
        file = folder / (broken or [LEFT_OUT])[0]
        raise ValueError(f"{file} is not what this pass wrote: delete {folder}, and begin again")
    note.write(folder)
    return note, new


def _ours(name: str) -> bool:
    """Whether a file is a shard, or a part of something that was being written."""
    return bool(SHARD.fullmatch(name)) or (name.startswith(".") and name.endswith(".partial"))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _read_note(folder: Path) -> _Note:
    file = folder / NOTE
    try:
        said = json.loads(file.read_text("utf-8"))
        manifest = manifest_of(said["manifest"])
        sets, shards = int(said["sets"]), int(said["shards"])
        return _Note(
            Manifest(manifest.sets[:sets], manifest.shards[:shards]),
            list(manifest.sets[sets:]),
            [Tally.of(tally) for tally in said["tallies"]],
            list(manifest.shards[shards:]),
            (int(said["at"][0]), int(said["at"][1])),
            int(said["listed"]),
        )
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise ValueError(f"{file}, by which a pass goes on, is damaged ({error}): delete it, and begin again") from None


def _compare(folder: Path, before: Sequence[SetAbout], asked: Sequence[SetAbout]) -> None:
    """Raises ValueError where a pass that was broken off was asked for something else."""

    def said(abouts: Sequence[SetAbout]) -> list[tuple[Any, ...]]:
        return [(about.name, about.layout, about.source, about.licence, about.longest) for about in abouts]

    if said(before) != said(asked):
        raise ValueError(
            f"{folder} is half prepared: of {_words(before)}, and now asked of {_words(asked) or 'nothing new'}. Begin "
            "again as before, or choose a new folder"
        )
    for old, new in zip(before, asked, strict=True):
        if old.stamp != new.stamp:
            raise ValueError(
                f"the files of {new.name} are not those that {folder} was begun with: put them back, or choose a new "
                "folder"
            )


def _words(abouts: Sequence[SetAbout]) -> str:
    longest = {about.longest for about in abouts} - {0}
    more = f", scaled to {longest.pop()}" if longest else ""
    return (
        "; ".join(
            f"{about.name} ({about.layout}, source {about.source!r}, licence {about.licence!r})" for about in abouts
        )
        + more
    )


def _digests(folder: Path, manifest: Manifest) -> Iterator[bytes]:
    store = Store(folder, manifest)
    for shard in range(len(manifest.shards)):
        yield from store.digests(shard)
