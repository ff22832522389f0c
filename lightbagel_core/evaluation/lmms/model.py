"""The model that lmms-eval runs: `lmms-eval --model lightbagel`. lmms-eval imports this, nothing else does."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from loguru import logger
from tqdm.auto import tqdm

from ...config import MODEL_DTYPES, NANO
from ...describe import Describer
from ...files.formats import open_model
from ...files.precision import MODES, default_device
from ...memory.offload import Offload
from ...model.chat import Talk, check
from .messages import Wanted, read_talk

SHOWN = 5  # refusals in the log


class LightBagel(lmms):
    """`describe` behind lmms-eval's chat interface: greedy answers of the VLM alone, in batches.

    A question that cannot be put to the model (a word the nano has no token for, a picture that cannot be read) gets an
    empty answer, so that its task counts it as wrong, and is named in a warning.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str | None = None,
        understanding: str | None = None,
        tokenizer: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        offload: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        **unknown: Any,
    ) -> None:
        """Opens the VLM.

        Args:
            pretrained, understanding, tokenizer, device, dtype: as the command line's --model, --understanding,
                --tokenizer, --device and --dtype; of several processes each takes a card of its own.
            offload: "parts" or "layers"; default: the VLM stays on the device.
            batch_size: questions answered at once; a number, not "auto".

        Raises:
            ValueError: an argument is unknown or out of range, or the files are no VLM; the message says what to do.
        """
        super().__init__()
        if unknown:
            raise ValueError(
                f"model_args has {', '.join(sorted(unknown))}; lightbagel knows pretrained, understanding, tokenizer, "
                "device, dtype and offload"
            )
        if not str(batch_size).isdecimal() or int(batch_size) < 1 or max_batch_size is not None:
            raise ValueError(f"--batch_size must be a number of at least 1, not {batch_size!r}, with no max_batch_size")
        if dtype is not None and dtype not in MODEL_DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(MODEL_DTYPES)}, not {dtype!r}")
        if offload not in (None, "none", "parts", "layers"):
            raise ValueError(f"offload must be none, parts or layers, not {offload!r}")
        self._rank, self._world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.batch_size = int(batch_size)
        self.device = own_device(device)
        name = pretrained or (None if understanding else "nano")
        opened = open_model(
            NANO if name == "nano" else Path(str(name)) if name else None,
            components={"understanding": Path(str(understanding))} if understanding else {},
            tokenizer=Path(str(tokenizer)) if tokenizer else None,
            need=["understanding"],
        )
        streamed = None if offload == "none" else cast("Offload | None", offload)
        self._describer = Describer.of(opened, self.device, MODES[dtype] if dtype else None, streamed)

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """The answer to each request.

        Raises:
            ValueError: a task asks for answers that are not greedy.
            NotImplementedError: a request holds a video or a sound, or is none of a chat task.
        """
        wanted = [self._wanted(request) for request in requests]
        for setting in sorted({name for each in wanted for name in each.unused}):
            logger.warning(f"lightbagel: generation_kwargs has {setting}, which has no effect here")
        alike = defaultdict(list)  # those of one length are answered together
        for index, each in enumerate(wanted):
            alike[each.max_new_tokens].append(index)
        answers = [""] * len(requests)
        refused: list[str] = []
        with tqdm(total=len(requests), disable=self.rank != 0, desc="LightBagel", unit="answer") as bar:
            for length, indices in alike.items():
                for start in range(0, len(indices), self.batch_size):
                    batch = indices[start : start + self.batch_size]
                    for index, answer in self._answers([requests[i] for i in batch], length, refused):
                        answers[batch[index]] = wanted[batch[index]].cut(answer)
                    bar.update(len(batch))
        if refused:
            logger.warning(
                f"lightbagel: {len(refused)} of {len(requests)} questions could not be put to the model; their answers "
                f"are empty and count as wrong: {'; '.join(refused[:SHOWN])}{'; …' * (len(refused) > SHOWN)}"
            )
        return answers

    def _wanted(self, request: Instance) -> Wanted:
        if len(request.args) != 6:
            raise NotImplementedError(f"{request.task_name} is no task of questions and answers: lightbagel runs those")
        try:
            return Wanted.of(request.args[2])
        except ValueError as error:
            raise ValueError(f"{request.task_name}: {error}") from None

    def _answers(self, requests: Sequence[Instance], length: int, refused: list[str]) -> list[tuple[int, str]]:
        """(index, answer) of a batch's requests that can be put to the model; of the others a line in `refused`."""
        talks: dict[int, Talk] = {}
        for index, request in enumerate(requests):
            _, to_messages, _, document, task, split = request.args
            messages = to_messages(self.task_dict[task][split][document])
            try:
                talks[index] = read_talk(messages)
                check(self._describer.und, talks[index])
            except ValueError as error:
                talks.pop(index, None)
                refused.append(f"{task} {document}: {str(error).split('. ')[0]}")
            except NotImplementedError as error:
                raise NotImplementedError(f"{task} {document}: {error}") from None
        return list(zip(talks, self._describer.answers(list(talks.values()), length), strict=True)) if talks else []

    def clean(self) -> None:
        """Gives up the VLM when all questions are answered, so that a judge may have the memory."""
        self.__dict__.pop("_describer", None)
        super().clean()

    def loglikelihood(self, requests: Sequence[Instance]) -> NoReturn:
        raise NotImplementedError(
            "lightbagel answers in words and gives no likelihoods; choose a task of output_type generate_until"
        )

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> NoReturn:
        raise NotImplementedError(
            "lightbagel answers each question once, not in rounds; choose a task of output_type generate_until"
        )


def own_device(name: str | None) -> torch.device:
    """The device of this process: the one named, else the accelerator that is there; of several cards its own.

    Raises:
        ValueError: there is no such device.
    """
    try:
        device = torch.device(name) if name else default_device()
        if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} does not work here: {str(error).splitlines()[0]}") from None
    return device
