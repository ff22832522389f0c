"""lightbagel chat: a conversation, line by line, of a person at a terminal or of a script."""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import EXIT_USAGE
from .chat_lines import COMMANDS, HELP, Line, file_of, read_line
from .console import AsMade, shown
from .failures import of_people, of_the_program
from .line_input import ReadLine, line_reader
from .opening import open_model_of
from .terminal_pictures import as_shown, protocol

if TYPE_CHECKING:
    from ..conversation.conversation import Conversation
    from ..conversation.entries import Drawn, Entry


def chat(args: argparse.Namespace) -> int:
    """Has a conversation until it is ended; returns the exit status.

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
        had = Chat(conversation, args)
        had.check()
        return had.run()


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
        self.failed = False

    def check(self) -> None:
        """Raises ValueError for settings that nothing could be drawn by."""
        from PIL import Image

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they warn of is told when something is drawn
            self.conversation.model.settings(**self.settings(editing=False))
            self.conversation.model.settings(Image.new("RGB", (256, 256)), **self.settings(editing=True))

    def run(self) -> int:
        """Does what each line asks for, until /quit or the end of the input; returns the exit status.

        At a terminal it is 0. Nobody reads along with a script, so that there an error in any line gives EXIT_USAGE,
        after all lines.

        Raises:
            KeyboardInterrupt: in a script; a person at a terminal stops what is being done with it, not the chat.
        """
        terminal = sys.stdin.isatty()
        if terminal:
            name = shown(self.conversation.model.config.name)
            print(f"{name}: say what to draw; /help lists the commands, /quit leaves")
        read = line_reader(list(COMMANDS))
        try:
            while self.answer(read, terminal):
                pass
        finally:
            if terminal:
                self.leave()
        return EXIT_USAGE if self.failed and not terminal else 0

    def answer(self, read: ReadLine, terminal: bool) -> bool:
        """Does what the next line asks for, and says what went wrong with it; returns whether the chat goes on."""
        before, text, goes_on = self.conversation.entries, None, True
        try:
            text = read()
            line = read_line(text)
            goes_on = line is None or self.do(line)
            sys.stdout.flush()
        except KeyboardInterrupt:
            if not terminal:
                raise
            _print(f"\nstopped; {self.became_of(before)} (/quit leaves)")
        except Exception as error:  # a fault of the program too: what was said so far must not end with it
            if text is None:  # nothing can be read, so that nothing more will come
                goes_on = False
            if text is not None or not isinstance(error, EOFError):
                self.failed = True
                said = of_people(error)
                if said is None:
                    _print(f"{of_the_program(error)}; {self.became_of(before)}")
                else:
                    done = "" if self.conversation.entries is before else f"; {self.became_of(before)}"
                    _print(f"lightbagel: {said}{done}")
        return goes_on

    def became_of(self, before: tuple[Entry, ...]) -> str:
        """What became of a conversation that had these entries when the line came which was not done to its end."""
        if self.conversation.entries is before:
            return "the conversation is as it was"
        return "what the line asked for was done before that"

    def leave(self) -> None:
        """Saves what was not saved, beside its pictures if they lie in a folder for temporary files."""
        if not self.conversation.entries or self.conversation.entries == self.saved:
            return
        try:
            folder = self.scratch_folder()
            self.conversation.save(folder)
            _print(f"the conversation was not saved; it lies in {folder} now, and --open {folder} goes on with it")
        except Exception as error:
            said = of_people(error) or of_the_program(error)
            _print(f"lightbagel: the conversation was not saved, and could not be now: {said}")

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
        how = {"progress": not self.args.quiet, **self.settings(editing)}
        if editing:
            self.conversation.edit(words, self.args.negative, **how)
        else:
            self.conversation.draw(words, self.args.negative, **how)
        self.present()

    def settings(self, editing: bool) -> dict[str, Any]:
        """What is asked of a drawing beside its words."""
        if editing:
            return dict(self.asked)
        width, height = self.args.size or (None, None)
        return {**self.asked, "width": width, "height": height, "image_guidance": None}  # which edits alone have

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
        """Brings in the picture of a file."""
        from ..images import open_image

        picture = self.conversation.show(open_image(file_of(name)))
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
        page = self.conversation.save(file_of(words) if words else self.conversation.folder or "")
        self.saved = self.conversation.entries
        print(shown(str(page)))

    def present(self) -> None:
        """Shows the last entry's picture where the terminal can, and says where it lies where not."""
        from ..conversation.entries import Drawn

        entry = self.conversation.entries[-1]
        if not isinstance(entry, Drawn):
            return
        if self.protocol is not None:
            sys.stdout.write(as_shown(entry.picture, self.protocol))
            return
        if self.conversation.folder is None:
            print(self.written(self.scratch_folder(), entry))
            return
        try:
            print(self.written(self.conversation.folder, entry))
        except ValueError as error:
            instead = self.written(self.scratch_folder(), entry)
            self.failed = True
            _print(f"lightbagel: drawn, but {of_people(error)}: it lies in {instead}")

    def written(self, folder: Path, entry: Drawn) -> str:
        """The name of a drawn picture's file, written into a folder."""
        from ..conversation.transcript import write_picture

        return shown(str(write_picture(folder, self.conversation.model.config.name, self.conversation.entries, entry)))

    def scratch_folder(self) -> Path:
        """A folder for temporary files, made when it is first needed."""
        self.scratch = self.scratch or Path(tempfile.mkdtemp(prefix="lightbagel-chat-"))
        return self.scratch


def _print(message: str) -> None:
    """Prints to stderr; where that fails too, as on a full disk, there is nowhere left to say so."""
    with suppress(OSError):
        print(message, file=sys.stderr)


def _tell_warnings() -> None:
    """Has warnings for users printed as sentences, not as Python prints them; each time, since each turn is new."""

    def tell(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        print(f"lightbagel: {shown(str(message))}", file=sys.stderr)

    warnings.filterwarnings("ignore")
    warnings.filterwarnings("always", category=UserWarning, module=r"lightbagel_core\.")
    warnings.showwarning = tell
