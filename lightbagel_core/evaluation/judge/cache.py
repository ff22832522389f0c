"""Keeps a judge's answers in a file of JSON lines, so that no question is paid for twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

HEAD = b'{"key": "'  # every line begins so, which tells such a file from others


def fingerprint(url: str, body: Mapping[str, Any]) -> str:
    """The SHA-256 of all that determines an answer, in hexadecimal.

    Args:
        url: the judge's address.
        body: what it is sent: the model, its settings, the messages with the pictures' bytes.
    """
    return hashlib.sha256(json.dumps([url, body], sort_keys=True).encode()).hexdigest()


class Cache:
    """The answers of a file, and a way to add to it from many threads, and from several processes.

    A line holds a fingerprint, the question's id, the model's name and the answer: no picture, no key. Lines that a
    killed process or a full disk left incomplete are passed over; those questions are asked again.
    """

    def __init__(self, file: Path) -> None:
        """Raises ValueError when the file cannot be read, or holds other things than a judge's answers."""
        self.file = file
        self._lock = Lock()
        self._texts: dict[str, str] = {}
        try:
            data = file.read_bytes() if file.exists() else b""
        except OSError as error:
            raise ValueError(f"the judge's answers in {file} cannot be read: {error}") from None
        self._torn = bool(data) and not data.endswith(b"\n")
        for number, line in enumerate(data.split(b"\n"), 1):
            line = line.strip(b"\0 \r")
            if line[: len(HEAD)] != HEAD[: len(line)]:
                raise ValueError(f"{file} holds no judge's answers (line {number}); choose another file for them")
            try:
                row = json.loads(line)
                key, text = row["key"], row["text"]
            except (ValueError, KeyError):
                continue
            if isinstance(text, str):
                self._texts[key] = text

    def __len__(self) -> int:
        return len(self._texts)

    def get(self, key: str) -> str | None:
        """The answer to what has this fingerprint; None where there is none yet."""
        return self._texts.get(key)

    def add(self, key: str, text: str, **about: str) -> None:
        """Adds an answer to the file, in one piece.

        Args:
            about: what else stands in the line, for people.

        Raises:
            ValueError: it cannot be written.
        """
        line = json.dumps({"key": key, **about, "text": text}).encode() + b"\n"
        with self._lock:
            self._texts[key] = text
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                with open(self.file, "ab", buffering=0) as out:
                    line = b"\n" + line if self._torn else line
                    self._torn = True
                    self._torn = out.write(line) != len(line)
            except OSError as error:
                raise ValueError(f"the judge's answers cannot be written to {self.file}: {error}") from None
            if self._torn:
                raise ValueError(f"the judge's answers do not fit on the disk of {self.file}")
