"""Fetching model files, against a hub and its storage played by two servers in this process."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import forked
import pytest
from filelock import FileLock

COMMIT = "c0ffee" * 6 + "c0de"
QWEN = "Comfy-Org/Qwen-Image_ComfyUI"
WAN = "Comfy-Org/Wan_2.2_ComfyUI_Repackaged"
OWN = "someone/a-repo"
SCRIPT = """
import json, sys, time
from pathlib import Path
assert "huggingface_hub" not in sys.modules  # it reads its environment when it is imported
sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, 0.02))  # huggingface_hub waits seconds between its tries
from lightbagel_core.files.download import download
for names in json.loads(sys.argv[2]):
    try:
        print(json.dumps([str(path) for path in download(names, Path(sys.argv[1]), progress="quiet" not in sys.argv)]))
    except ValueError as error:
        print(json.dumps(f"refused: {error}"))
"""


class Hub:
    """Large files are announced by the hub and sent by the storage, small ones by the hub itself, as in the real one.

    `heard` is what was asked: (server, method, path, Range, token). `sent` counts the bytes of files.
    """

    def __init__(self, process: forked.Parent) -> None:
        self.process = process
        self.files: dict[str, bytes] = {}
        self.heard: list[tuple[str, str, str, str | None, str | None]] = []
        self.sent = 0
        self.cut: int | None = None  # the storage sends so many bytes, then breaks off and is away
        self.announced: dict[str, str] = {}  # headers to announce otherwise than true
        self.error: tuple[int, str] | None = None
        self.strange = False  # answers as anything but a hub, such as a hotel's login page
        self.on_head: Callable[[], object] = lambda: None
        self.servers = [self.serve("hub"), self.serve("storage")]
        self.urls = [f"http://127.0.0.1:{server.server_port}" for server in self.servers]

    def serve(self, where: str) -> ThreadingHTTPServer:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def do_GET(self) -> None:
                asked, token = self.headers["Range"], self.headers["Authorization"]
                hub.heard.append((where, self.command, self.path, asked, token))
                if self.command == "HEAD":
                    hub.on_head()
                if hub.strange:
                    return self.answer(200, {"ETag": '"login"'}, b"<html>Welcome to our hotel</html>")
                if hub.error:
                    return self.answer(hub.error[0], {"X-Error-Code": hub.error[1]} if hub.error[1] else {})
                repo, _, path = unquote(self.path).partition("/resolve/")
                name = f"{repo[1:]}:{path.partition('/')[2]}"
                if name not in hub.files or path.partition("/")[0] not in ("main", COMMIT):
                    return self.answer(404, {"X-Error-Code": "EntryNotFound"})
                body, large = hub.files[name], name.endswith(".safetensors")
                etag = hashlib.sha256(body).hexdigest() if large else hashlib.sha1(body).hexdigest()
                headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
                if large and where == "hub":
                    headers |= {"Location": hub.urls[1] + self.path, "X-Linked-Size": str(len(body))}
                    headers |= {"X-Linked-ETag": f'"{etag}"', "X-Xet-Hash": etag, "Link": '</xet>; rel="xet-auth"'}
                    return self.answer(302, headers | hub.announced)
                start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
                rest = body[start:]
                headers["Content-Length"] = str(len(rest))
                if asked:
                    headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                if hub.cut is not None:
                    rest, hub.error = rest[: hub.cut], (503, "")
                if self.command == "GET":
                    hub.sent += len(rest)
                self.answer(206 if asked else 200, headers, rest)

            do_HEAD = do_GET

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    def gets(self) -> list[tuple[str, str, str, str | None, str | None]]:
        """The GETs of files; huggingface_hub 2 also asks, now and then, how to tell an agent."""
        return [heard for heard in self.heard if heard[1] == "GET" and "/resolve/" in heard[2]]

    def close(self) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()


def inherited() -> dict[str, str]:
    """This environment without what would lead to the real hub."""
    return {
        k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_")) and "proxy" not in k.lower()
    }


@pytest.fixture(scope="module")
def process():
    """What processes that download are forked from: all is imported but what the environment changes."""
    with forked.parent("import lightbagel_core.files.tensor_files", inherited()) as parent:
        yield parent


@pytest.fixture
def hub(process):
    hub = Hub(process)
    yield hub
    hub.close()


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def run(hub: Hub, models: Path, *calls: list[str], quiet: bool = True, **env: str) -> tuple[list[list[str] | str], str]:
    """One process that calls download once for each list of names: what each gave or raised, and stderr."""
    env = {"HF_ENDPOINT": hub.urls[0], "HF_HOME": str(models.parent / "home"), "NO_PROXY": "*"} | env
    done = hub.process.run(SCRIPT, [str(models), json.dumps(calls), "quiet" if quiet else "loud"], inherited() | env)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def refused(hub: Hub, models: Path, name: str, **env: str) -> str:
    """The message of a call that must fail; it must leave no file in models."""
    ((said,), _) = run(hub, models, [name], **env)
    assert isinstance(said, str)
    assert "\n" not in said
    assert tree(models) == []
    return said.removeprefix("refused: ")


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_known_names_land_in_their_folders(hub, models):
    files = {
        "diffusion_models/wan2.2_ti2v_5B_fp16.safetensors": f"{WAN}:split_files/diffusion_models/",
        "text_encoders/qwen2.5-vl-tokenizer/chat_template.json": "Qwen/Qwen2.5-VL-7B-Instruct:",
        "text_encoders/qwen2.5-vl-tokenizer/tokenizer.json": "Qwen/Qwen2.5-VL-7B-Instruct:",
        "text_encoders/qwen2.5-vl-tokenizer/tokenizer_config.json": "Qwen/Qwen2.5-VL-7B-Instruct:",
        "text_encoders/qwen_2.5_vl_7b.safetensors": f"{QWEN}:split_files/text_encoders/",
        "text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors": f"{QWEN}:split_files/text_encoders/",
        "vae/wan2.2_vae.safetensors": f"{WAN}:split_files/vae/",
    }
    for place, source in files.items():
        hub.files[source + Path(place).name] = f"the bytes of {place}".encode()
    names = ["qwen2.5-vl-7b", "qwen2.5-vl-7b-fp8", "qwen2.5-vl-tokenizer", "wan2.2-ti2v-5b", "wan2.2-vae"]
    ((paths,), err) = run(hub, models, names)
    assert sorted(paths) == [str(models / place) for place in files]
    assert err == ""
    assert tree(models) == list(files)
    for place in files:
        assert (models / place).read_bytes() == f"the bytes of {place}".encode()


def test_any_file_by_repository_and_path(hub, models):
    places = {
        f"{OWN}:fusion.safetensors": "lightbagel/fusion.safetensors",
        f"{OWN}:deep/folder/Config (v1).json": "lightbagel/Config (v1).json",
        f"{OWN}:split_files/loras/thin.safetensors": "loras/thin.safetensors",
        f"{OWN}:vae/a.safetensors": "vae/a.safetensors",
        f"{OWN}:vae/old/b.safetensors": "lightbagel/b.safetensors",
    }
    hub.files = {name: name.encode() for name in places}
    ((paths,), _) = run(hub, models, list(places))
    assert paths == [str(models / place) for place in places.values()]
    assert {name: (models / place).read_bytes() for name, place in places.items()} == hub.files
    assert len(tree(models)) == len(places)


def test_the_token_goes_to_the_hub_and_not_to_the_storage(hub, models):
    hub.files[f"{OWN}:a.safetensors"] = b"a"
    run(hub, models, [f"{OWN}:a.safetensors"], HF_TOKEN="hf_secret")
    assert [(where, token) for where, _, _, _, token in hub.gets()] == [("hub", "Bearer hf_secret"), ("storage", None)]


def test_a_broken_download_goes_on_where_it_stopped(hub, models):
    name, place = f"{OWN}:large.safetensors", models / "lightbagel/large.safetensors"
    hub.files[name] = body = random.Random(0).randbytes(12 << 20)
    hub.cut = 11 << 20  # huggingface_hub writes in pieces of 10 MiB
    ((said,), _) = run(hub, models, [name])
    assert said.startswith(f"refused: could not fetch large.safetensors of {OWN}: ")
    assert "try again" in said
    assert not place.exists()
    (part,) = place.parent.glob("*.part")
    have = part.stat().st_size
    assert 0 < have < len(body)
    hub.cut, hub.error, hub.sent = None, None, 0
    hub.heard.clear()
    ((paths,), _) = run(hub, models, [name])
    assert paths == [str(place)]
    assert [heard[3] for heard in hub.gets()] == [f"bytes={have}-"] * 2
    assert hub.sent == len(body) - have
    assert place.read_bytes() == body
    assert tree(models) == ["lightbagel/large.safetensors"]


def test_a_part_of_an_older_version_is_not_continued(hub, models):
    name, place = f"{OWN}:large.safetensors", models / "lightbagel/large.safetensors"
    hub.files[name] = random.Random(0).randbytes(12 << 20)
    hub.cut = 11 << 20
    run(hub, models, [name])
    assert list(place.parent.glob("*.part"))
    hub.cut, hub.error = None, None
    hub.files[name] = b"a newer version"
    run(hub, models, [name])
    assert place.read_bytes() == b"a newer version"
    assert tree(models) == ["lightbagel/large.safetensors"]


def part_of(place: Path, body: bytes) -> Path:
    """Where `body` is kept until it is whole; the folder is there then."""
    place.parent.mkdir()
    key = hashlib.sha256(hashlib.sha256(body).hexdigest().encode()).hexdigest()[:12]
    return place.with_name(f".{place.name}.{key}.part")


@pytest.mark.parametrize("kind", ["too long", "complete", "wrong"])
def test_odd_parts_mend_themselves(hub, models, kind):
    name, place = f"{OWN}:a.safetensors", models / "lightbagel/a.safetensors"
    hub.files[name] = body = b"the right bytes"
    part_of(place, body).write_bytes({"too long": body + b"x", "complete": body, "wrong": b"THE RIGHT"}[kind])
    first, second = run(hub, models, [name], [name])[0]
    if kind == "wrong":
        assert first == f"refused: a.safetensors of {OWN} arrived damaged and was deleted; fetch it again"
    else:
        assert first == [str(place)]
    assert second == [str(place)]
    assert place.read_bytes() == body
    assert len(hub.gets()) == {"too long": 2, "complete": 0, "wrong": 4}[kind]
    assert tree(models) == ["lightbagel/a.safetensors"]


def test_a_file_that_is_there_is_left_alone_and_said(hub, models):
    name, place = f"{OWN}:vae/a.safetensors", models / "vae/a.safetensors"
    place.parent.mkdir()
    place.write_bytes(b"mine")
    (paths, again), err = run(hub, models, [name], [name, name], quiet=False)
    assert paths == again == [str(place)]
    assert place.read_bytes() == b"mine"
    assert hub.heard == []
    assert err.splitlines() == [f"{place} is already there"] * 2
    (offline,), err = run(hub, models, [name], HF_HUB_OFFLINE="1")
    assert offline == [str(place)]
    assert err == ""


def test_progress_is_shown_unless_quiet(hub, models):
    hub.files = {f"{OWN}:a.safetensors": b"a", f"{OWN}:b.safetensors": b"b"}
    assert run(hub, models, [f"{OWN}:a.safetensors"], quiet=True, TQDM_POSITION="-1")[1] == ""
    assert "b.safetensors: 100%" in run(hub, models, [f"{OWN}:b.safetensors"], quiet=False, TQDM_POSITION="-1")[1]


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_means_offline(hub, models, variable):
    hub.files[f"{OWN}:a.safetensors"] = b"a"
    said = refused(hub, models, f"{OWN}:a.safetensors", **{variable: "1"})
    assert said.startswith(f"HF_HUB_OFFLINE is set (or TRANSFORMERS_OFFLINE), so a.safetensors of {OWN} is not fetched")
    assert f"unset it, or put the file into {models / 'lightbagel'} yourself" in said
    assert hub.heard == []


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (404, "EntryNotFound", "the repository has no such file"),
        (404, "RepoNotFound", "there is no such repository, or it is private"),
        (401, "", "there is no such repository, or it is private"),
        (403, "GatedRepo", "its owner asks for consent first"),
        (403, "", "answered with error 403"),
        (500, "", "answered with error 500; try again later"),
    ],
)
def test_a_refusal_of_the_hub_is_readable(hub, models, status, code, message):
    hub.error = (status, code)
    said = refused(hub, models, f"{OWN}:deep/a.safetensors")
    assert said.startswith(f"could not fetch deep/a.safetensors of {OWN}: ")
    assert message in said
    assert hub.gets() == []


def test_one_missing_file_stops_the_set_before_anything_is_fetched(hub, models):
    hub.files[f"{OWN}:a.safetensors"] = b"a"
    ((said,), _) = run(hub, models, [f"{OWN}:a.safetensors", f"{OWN}:b.safetensors"])
    assert "could not fetch b.safetensors" in said
    assert hub.gets() == []


def test_no_connection_is_readable(hub, models):
    hub.close()
    said = refused(hub, models, "wan2.2-vae")
    assert said.startswith(
        f"could not fetch split_files/vae/wan2.2_vae.safetensors of {WAN}: no connection to {hub.urls[0]}"
    )
    hub.servers = []


def test_a_login_page_is_no_hub(hub, models):
    hub.strange = True
    assert "does this network ask for a login first" in refused(hub, models, f"{OWN}:a.json")


def test_a_disk_too_small_is_said_before_anything_is_fetched(hub, models):
    hub.files = {f"{OWN}:a.safetensors": b"a", f"{OWN}:b.safetensors": b"b"}
    hub.announced = {"X-Linked-Size": str(shutil.disk_usage(models).free * 2 // 3)}  # each of them would fit
    ((said,), _) = run(hub, models, [f"{OWN}:a.safetensors", f"{OWN}:b.safetensors"])
    assert "b.safetensors needs" in said
    assert "GB more than is free" in said
    assert hub.gets() == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_fills_up_is_readable(hub, models):
    hub.files[f"{OWN}:a.safetensors"] = b"a"
    part_of(models / "lightbagel/a.safetensors", b"a").symlink_to("/dev/full")
    ((said,), _) = run(hub, models, [f"{OWN}:a.safetensors"])
    assert said == f"refused: could not fetch a.safetensors of {OWN}: No space left on device"
    assert not (models / "lightbagel/a.safetensors").exists()


def test_trouble_with_the_disk_is_readable(hub, models):
    hub.files[f"{OWN}:vae/a.safetensors"] = b"a"
    (models / "vae").write_text("no folder", "utf-8")
    ((said,), _) = run(hub, models, [f"{OWN}:vae/a.safetensors"])
    assert said == f"refused: could not fetch vae/a.safetensors of {OWN}: File exists: {models / 'vae'}"


def test_two_processes_do_not_write_one_file(hub, models):
    name, place = f"{OWN}:a.safetensors", models / "lightbagel/a.safetensors"
    hub.files[name] = b"a"
    place.parent.mkdir()
    with FileLock(place.with_name(".a.safetensors.lock")):
        ((said,), _) = run(hub, models, [name])
    assert "another process is fetching it" in said
    hub.on_head = lambda: place.write_bytes(b"of the other process")
    ((paths,), _) = run(hub, models, [name])
    assert paths == [str(place)]
    assert place.read_bytes() == b"of the other process"
    assert hub.gets() == []


BAD_NAMES = {
    "wan": "neither OWNER/REPO:PATH/IN/REPO nor one of qwen2.5-vl-7b, ",
    "": "neither",
    "a.safetensors": "neither",
    "repo:a.safetensors": "neither",
    f"{OWN}:": "neither",
    f"{OWN}:/etc/a.json": "neither",
    f"{OWN}:../a.json": "neither",
    f"{OWN}:vae/../../a.json": "neither",
    f"{OWN}:vae/..": "neither",
    f"{OWN}:vae//a.json": "neither",
    f"{OWN}:vae\\a.json": "neither",
    f"{OWN}:C:/a.json": "neither",
    f"{OWN}:.hidden.json": "neither",
    f"{OWN}:a\n.json": "neither",
    f"{OWN}:a.json\n": "neither",
    "../..:a.json": "neither",
    "/someone/a-repo:a.json": "neither",
    "someone/../a-repo:a.json": "neither",
    "https://huggingface.co/someone/a-repo/a.json": "neither",
    "some..one/a-repo:a.json": "neither",
    "someone/a--repo:a.json": "neither",
    f"{OWN}:model.py": "must end in one of .safetensors, ",
    f"{OWN}:model": "must end in one of .safetensors, ",
} | {
    f"{OWN}:a{ending}": f"{ending} files can run code; a .safetensors of it is needed"
    for ending in (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".PT", ".safetensors.pt")
}


def test_bad_names_are_refused_before_any_request(hub, models):
    hub.files = dict.fromkeys(BAD_NAMES, b"!")
    hub.files[f"{OWN}:good.json"] = b"{}"
    said, _ = run(hub, models, *([f"{OWN}:good.json", name] for name in BAD_NAMES))
    for (name, message), refusal in zip(BAD_NAMES.items(), said, strict=True):
        wanted = message.replace(".safetensors.pt files", ".pt files")
        assert str(refusal).startswith("refused: "), (name, refusal)
        assert wanted in refusal, (name, refusal)
    assert tree(models.parent) == []
    assert hub.heard == []


def test_one_place_for_two_files_and_a_missing_folder_are_refused(hub, models):
    hub.files = {f"{OWN}:a.json": b"1", f"{OWN}:b/a.json": b"2"}
    ((said,), _) = run(hub, models, [f"{OWN}:a.json", f"{OWN}:b/a.json"])
    assert f"two of these files would become {models / 'lightbagel/a.json'}" in said
    ((said,), _) = run(hub, models / "none", [f"{OWN}:a.json"])
    assert (
        said == f"refused: there is no folder {models / 'none'}; name ComfyUI's models folder, such as ComfyUI/models"
    )
    assert not (models / "none").exists()
    assert hub.heard == []


def test_only_a_download_loads_the_hub():
    code = "import sys, lightbagel_core, lightbagel_core.__main__, lightbagel_core.files.download as d; d.KNOWN"
    code += "; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
