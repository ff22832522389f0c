"""Fetches model files from the Hugging Face Hub into ComfyUI's models folder; nothing happens until `download` runs.

The bytes go through huggingface_hub's `http_get`, into a hidden file beside the target: its `hf_hub_download` throws
away what has come when it is interrupted (since 2.x), and these files have up to 17 GB.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Any

from .file_names import check_new

_QWEN, _WAN = "Comfy-Org/Qwen-Image_ComfyUI", "Comfy-Org/Wan_2.2_ComfyUI_Repackaged"
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.json")
# Short name: the repository, the files in it, the folder inside models/.
KNOWN: dict[str, tuple[str, tuple[str, ...], str]] = {
    "qwen2.5-vl-7b": (_QWEN, ("split_files/text_encoders/qwen_2.5_vl_7b.safetensors",), "text_encoders"),
    "qwen2.5-vl-7b-fp8": (_QWEN, ("split_files/text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors",), "text_encoders"),
    "qwen2.5-vl-tokenizer": ("Qwen/Qwen2.5-VL-7B-Instruct", _TOKENIZER, "text_encoders/qwen2.5-vl-tokenizer"),
    "wan2.2-ti2v-5b": (_WAN, ("split_files/diffusion_models/wan2.2_ti2v_5B_fp16.safetensors",), "diffusion_models"),
    "wan2.2-vae": (_WAN, ("split_files/vae/wan2.2_vae.safetensors",), "vae"),
}
FOLDERS = ("text_encoders", "diffusion_models", "vae", "loras")
ENDINGS = (".safetensors", ".json", ".jinja", ".txt")
_FORM = re.compile(r"(?!.*(?:--|\.\.).*:)\w[\w.-]*/\w[\w.-]*:(?:\w[\w.()+=@, -]*/)*\w[\w.()+=@, -]*", re.ASCII)


def _files(name: str) -> list[tuple[str, str, str]]:
    """What a name stands for: (repository, path in it, place inside models/) each. Raises ValueError for a bad name."""
    if name in KNOWN:
        repo, paths, folder = KNOWN[name]
        return [(repo, path, f"{folder}/{PurePosixPath(path).name}") for path in paths]
    if not _FORM.fullmatch(name):
        raise ValueError(f"{name!r} is neither OWNER/REPO:PATH/IN/REPO nor one of {', '.join(KNOWN)}")
    repo, _, path = name.partition(":")
    from .tensor_files import PICKLED

    file = PurePosixPath(path)
    if file.suffix.lower() in PICKLED:
        raise ValueError(f"{path} is not fetched: {file.suffix} files can run code; a .safetensors of it is needed")
    if file.suffix.lower() not in ENDINGS:
        raise ValueError(f"{path} is not fetched: its name must end in one of {', '.join(ENDINGS)}")
    check_new(file)
    return [(repo, path, f"{file.parent.name if file.parent.name in FOLDERS else 'lightbagel'}/{file.name}")]


def _reason(error: Exception) -> str:
    from huggingface_hub import constants, errors

    if isinstance(error, TimeoutError):  # of the lock; those of the network are httpx's or requests' own
        return f"another process is fetching it ({error})"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return "its owner asks for consent first; give it on the repository's page and log in with: hf auth login"
    if isinstance(error, errors.EntryNotFoundError):
        return "the repository has no such file"
    if status in (401, 404):
        return "there is no such repository, or it is private; if you may read it, log in with: hf auth login"
    if status is not None:
        return f"{constants.ENDPOINT} answered with error {status}{'; try again later' if status >= 429 else ''}"
    if isinstance(error, OSError) and error.errno is not None:  # of this machine's disk; those of the network have none
        return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
    detail = next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
    return f"no connection to {constants.ENDPOINT}, or it broke off; try again, what has come is kept ({detail})"


@contextmanager
def _explained(repo: str, path: str) -> Iterator[None]:
    """Turns the errors of the hub, the network and the disk into a ValueError that names the file."""
    from huggingface_hub.errors import HfHubHTTPError

    network: Any = HfHubHTTPError.__bases__  # httpx's or, before 1.0, requests' own: whichever huggingface_hub uses
    try:
        yield
    except (OSError, *network) as error:
        raise ValueError(f"could not fetch {path} of {repo}: {_reason(error)}") from error


def _fetch(missing: dict[Path, tuple[str, str]], progress: bool) -> None:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    from .tensor_files import sha256

    headers = build_hf_headers(headers={"Accept-Encoding": "identity"})  # so that a part of the answer can be asked for
    plan: list[tuple[Path, Path, Any]] = []
    free: dict[int, int] = {}
    for target, (repo, path) in missing.items():
        if constants.HF_HUB_OFFLINE:
            raise ValueError(
                f"HF_HUB_OFFLINE is set (or TRANSFORMERS_OFFLINE), so {path} of {repo} is not fetched; "
                f"unset it, or put the file into {target.parent} yourself"
            )
        with _explained(repo, path):
            head = get_hf_file_metadata(hf_hub_url(repo, path), headers=headers)
            if not head.commit_hash or not head.etag:
                raise ValueError(
                    f"could not fetch {path} of {repo}: {constants.ENDPOINT} answers, but not as a model hub does; "
                    "does this network ask for a login first, or is HF_ENDPOINT wrong?"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.{hashlib.sha256(head.etag.encode()).hexdigest()[:12]}.part")
            disk, have = target.parent.stat().st_dev, part.stat().st_size if part.exists() else 0
            free[disk] = free.get(disk, shutil.disk_usage(target.parent).free) - max(0, (head.size or 0) - have)
            if free[disk] < 0:
                raise ValueError(
                    f"{target} needs {-free[disk] / 1e9:.1f} GB more than is free there; nothing was fetched"
                )
        plan.append((target, part, head))
    bar = "huggingface_hub.http_get"
    for target, part, head in plan:
        repo, path = missing[target]
        lock = target.with_name(f".{target.name}.lock")
        with _explained(repo, path), WeakFileLock(lock, timeout=1):
            if target.is_file():  # another process was faster
                continue
            with open(part, "ab") as file:
                if head.size is not None and file.tell() > head.size:
                    file.seek(0)
                    file.truncate()
                url = hf_hub_url(repo, path, revision=head.commit_hash)
                options: Any = {"expected_size": head.size, "displayed_filename": target.name}
                if hide := not (progress or are_progress_bars_disabled(bar)):
                    disable_progress_bars(bar)
                try:
                    http_get(url, file, resume_size=file.tell(), headers=headers, **options)
                finally:
                    if hide:
                        enable_progress_bars(bar)
                file.flush()
                os.fsync(file.fileno())
            if re.fullmatch("[0-9a-f]{64}", head.etag) and sha256(part) != head.etag:
                part.unlink()
                raise ValueError(f"{path} of {repo} arrived damaged and was deleted; fetch it again")
            os.replace(part, target)
        for left in [lock, *target.parent.glob(f".{escape(target.name)}.*.part")]:  # parts of an older version, too
            with suppress(OSError):
                left.unlink()


def download(names: Sequence[str], models: Path, progress: bool = True) -> list[Path]:
    """Fetches files into `models`, ComfyUI's models folder, and returns their paths; what is there is left alone.

    A name is one of `KNOWN`, or OWNER/REPO:PATH/IN/REPO. What an interrupted call had fetched, the next one keeps.

    Raises:
        ValueError: a name or the folder is wrong, HF_HUB_OFFLINE is set, or a file could not be fetched or written.
    """
    wanted: dict[Path, tuple[str, str]] = {}
    for repo, path, place in [file for name in names for file in _files(name)]:
        if wanted.setdefault(models / place, (repo, path)) != (repo, path):
            raise ValueError(f"two of these files would become {models / place}; fetch one of them")
    if not models.is_dir():
        raise ValueError(f"there is no folder {models}; name ComfyUI's models folder, such as ComfyUI/models")
    missing = {target: source for target, source in wanted.items() if not target.is_file()}
    for target in wanted if progress else ():
        if target not in missing:
            print(f"{target} is already there", file=sys.stderr)
    if missing:
        _fetch(missing, progress)
    return list(wanted)
