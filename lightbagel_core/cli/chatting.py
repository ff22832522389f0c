"""lightbagel chat: a conversation, line by line, of a person at a terminal or of a script."""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .chat_lines import COMMANDS, HELP, Line, read_line
from .console import AsMade, shown
from .failures import in_words
from .line_input import line_reader
from .opening import open_model_of
from .terminal_pictures import as_shown, protocol

if TYPE_CHECKING:
    from ..conversation.conversation import Conversation


def chat(args: argparse.Namespace) -> None:
    """Has a conversation until it is ended.

    Raises:
        ValueError: no model, or no conversation in the folder that is to be opened, or an option that is out of range.
    """
    from ..conversation.conversation import Conversation

    if args.max_new_tokens < 1:
        raise ValueError(f"--max-new-tokens must be at least 1, not {args.max_new_tokens}")
    model = open_model_of(args)
    with warnings.catch_warnings():
        _tell_warnings()
        if args.open is None:
            conversation = model.converse(args.history or 0)
        else:
            conversation = Conversation.open(args.open, model, args.history)
        Chat(conversation, args).run()


class Chat:
    """A conversation and how it is had: the settings of what is drawn, and where its pictures go."""

    def __init__(self, conversation: Conversation, args: argparse.Namespace) -> None:
        """`args` are those of the command."""
        from ..sampling.settings import Asked

        self.conversation, self.args = conversation, args
        self.asked: dict[str, Any] = {
            name: value for name, value in vars(args).items() if name in Asked.__annotations__
        }
        self.protocol = protocol(sys.stdout, os.environ)
        self.scratch: Path | None = None  # for pictures of a conversation that lies in no folder
        self.saved = conversation.entries

    def run(self) -> None:
        """Does what each line asks for, until /quit or the end of the input."""
        if sys.stdin.isatty():
            name = shown(self.conversation.model.config.name)
            print(f"{name}: say what to draw; /help lists the commands, /quit leaves")
        read = line_reader(list(COMMANDS))
        while True:
            try:
                line = read_line(read())
                if line is not None and not self.do(line):
                    break
            except EOFError:
                break
            except KeyboardInterrupt:
                print("\nstopped; the conversation is as it was (/quit leaves)", file=sys.stderr)
            except (ValueError, OSError, MemoryError, RuntimeError) as error:
                print(f"lightbagel: {in_words(error)}", file=sys.stderr)
            sys.stdout.flush()
        if self.conversation.entries and self.conversation.entries is not self.saved and sys.stdin.isatty():
            where = f"; its pictures lie in {self.scratch}" if self.scratch is not None else ""
            print(f"the conversation was not saved{where}", file=sys.stderr)

    def do(self, line: Line) -> bool:
        """Does what a line asks for; returns whether the chat goes on."""
        command, words = line.command, line.words
        if command == "" or command in ("draw", "edit"):
            self.draw(words, editing=command == "edit" or (not command and self.conversation.last is not None))
        elif command == "ask":
            self.ask(words)
        elif command == "show":
            self.show(words)
        elif command == "undo":
            self.undo()
        elif command == "seed":
            self.seed(words)
        elif command == "save":
            self.save(words)
        elif command == "help":
            print(HELP)
        return command != "quit"

    def draw(self, words: str, editing: bool) -> None:
        """Draws or edits, and shows the picture."""
        asked = dict(self.asked)
        if editing:
            self.conversation.edit(words, self.args.negative, progress=not self.args.quiet, **asked)
        else:
            asked["width"], asked["height"] = self.args.size or (None, None)
            asked["image_guidance"] = None  # which edits alone have
            self.conversation.draw(words, self.args.negative, progress=not self.args.quiet, **asked)
        self.present()

    def ask(self, question: str) -> None:
        """Has a question answered, in words that come while they are made."""
        from ..conversation.entries import Answered

        with AsMade(sys.stdout) as spoken:
            answer = self.conversation.ask(question, self.args.max_new_tokens, spoken)
        if not spoken.live:
            print(shown(answer))
        last = self.conversation.entries[-1]
        if isinstance(last, Answered) and last.cut:
            most = self.args.max_new_tokens
            print(f"lightbagel: the answer was cut at {most} tokens; --max-new-tokens raises that", file=sys.stderr)

    def show(self, name: str) -> None:
        """Brings in the picture of a file; its name may stand in quotation marks."""
        from ..images import open_image

        if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'":
            name = name[1:-1]
        picture = self.conversation.show(open_image(Path(name).expanduser()))
        print(f"a picture of {picture.width}x{picture.height}")

    def undo(self) -> None:
        """Goes back one entry, and says to where."""
        from ..conversation.entries import Answered, Drawn

        entry = self.conversation.undo()
        what = (
            f"the answer to {entry.question!r}" if isinstance(entry, Answered)
            else f"the picture of {entry.text!r}" if isinstance(entry, Drawn)
            else "the picture that was shown"
        )  # fmt: skip
        print(f"gone: {shown(what)}")

    def seed(self, words: str) -> None:
        """Sets the seed, to another one where none is given."""
        if words and not re.fullmatch("-?[0-9]{1,20}", words):
            raise ValueError(f"a seed is a whole number, not {words!r}")
        seed = int(words) if words else random.SystemRandom().randrange(2**32)
        if not -(2**63) <= seed < 2**64:
            raise ValueError(f"the seed must lie between -2^63 and 2^64 - 1, not {seed}")
        self.asked["seed"] = seed
        print(f"seed {seed}")

    def save(self, words: str) -> None:
        """Writes the conversation into a folder, by default where it was saved before or opened from."""
        if not words and self.conversation.folder is None:
            raise ValueError("say where to save it: /save FOLDER")
        page = self.conversation.save(Path(words).expanduser() if words else self.conversation.folder or "")
        self.saved = self.conversation.entries
        print(page)

    def present(self) -> None:
        """Shows the last entry's picture where the terminal can, and says where it lies where not."""
        from ..conversation.entries import Drawn
        from ..conversation.transcript import write_picture

        entry = self.conversation.entries[-1]
        if not isinstance(entry, Drawn):
            return
        if self.protocol is not None:
            sys.stdout.write(as_shown(entry.picture, self.protocol))
            return
        folder = self.conversation.folder
        if folder is None:
            folder = self.scratch = self.scratch or Path(tempfile.mkdtemp(prefix="lightbagel-chat-"))
        print(write_picture(folder, self.conversation.model.config.name, self.conversation.entries, entry))


def _tell_warnings() -> None:
    """Has warnings for users printed as sentences, not as Python prints them; each time, since each turn is new."""

    def tell(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        print(f"lightbagel: {shown(str(message))}", file=sys.stderr)

    warnings.filterwarnings("ignore")
    warnings.filterwarnings("always", category=UserWarning, module=r"lightbagel_core\.")
    warnings.showwarning = tell
