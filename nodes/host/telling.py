"""Words that stand in a node on ComfyUI's page while they are made."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from comfy_execution.utils import get_executing_context
from server import PromptServer

PAUSE = 0.1  # seconds between two messages; the page draws no faster
EVENT = "lightbagel.words"  # what web/describe.js listens to

Send = Callable[[str], Any]


class Told:
    """Hands on all the words of an answer so far, at most every `PAUSE` seconds, and in the end all of them."""

    def __init__(self, send: Send | None) -> None:
        self.send, self.again = send, 0.0

    def __call__(self, words: str) -> None:
        now = time.monotonic()
        if self.send is not None and now >= self.again:
            self.send(words)
            self.again = now + PAUSE

    def at_last(self, words: str) -> None:
        if self.send is not None:
            self.send(words)


def in_the_node() -> Told:
    """Tells the node that runs now, on the page that asked for it: ComfyUI shows the words under its settings.

    The page reads them as HTML, in its older versions whatever stands in them, so nothing in them may be a tag.
    """
    node, server = _running()
    return Told(node and (lambda words: server.send_progress_text(untagged(words), node, sid=server.client_id)))


def untagged(words: str) -> str:
    """The words with signs that look like < and >: what escapes those is shown as it stands by newer pages."""
    return words.replace("<", "\u2039").replace(">", "\u203a")


def in_the_box() -> Told:
    """The same for a node with a box of ours for its answer (web/describe.js), which would else show them twice."""
    node, server = _running()
    return Told(node and (lambda words: server.send_sync(EVENT, {"node": node, "text": words}, server.client_id)))


def _running() -> tuple[str | None, Any]:
    """The id of the node that runs now, and the server; no id where no page has asked.

    (`io.Hidden.unique_id` says it too, but makes the id a part of what a node's result is kept by.)
    """
    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    return (context.node_id if context and server and server.client_id else None), server
