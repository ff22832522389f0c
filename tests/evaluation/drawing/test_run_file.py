"""What a run's folder says of itself, and that two runs do not mix in it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from filelock import FileLock
from format_files import lora

from lightbagel_core.config import NANO
from lightbagel_core.evaluation.bench import Files
from lightbagel_core.evaluation.drawing import run_file
from lightbagel_core.evaluation.drawing.presets import Drawing
from lightbagel_core.evaluation.drawing.run_file import SCRATCH, check_drawn, claim, prompts_hash
from lightbagel_core.evaluation.scores import RUN_FILE as FILE
from lightbagel_core.files.formats import open_model
from lightbagel_core.files.tensor_files import sha256
from lightbagel_core.pipeline import LightBagel

DRAWING = Drawing(samples=4, batch=4, asked={"steps": 3, "guidance_interval": (0.4, 1.0)})


@pytest.fixture
def files(tmp_path):
    (tmp_path / "prompts.jsonl").write_text("{}", "utf-8")
    return Files(tmp_path / "prompts.jsonl", tmp_path / "out")


def recorded(files):
    return json.loads((files.out / FILE).read_text("utf-8"))


def test_it_records_model_hashes_settings_and_versions(nano, files):
    claim(files.out, nano, "geneval", files, DRAWING)
    record = recorded(files)
    made = record["made_with"]
    assert made["bench"] == "geneval"
    assert made["prompts"] == sha256(files.prompts)
    assert made["settings"]["asked"] == {"seed": 0, "steps": 3, "guidance_interval": [0.4, 1.0]}
    assert made["model"]["files"]["vae.safetensors"]["sha256"] == sha256(NANO / "vae.safetensors")
    assert made["model"]["defaults"]["steps"] == nano.config.defaults.steps
    (on,) = record["done_on"]
    assert {"lightbagel", "python", "torch", "transformers", "diffusers"} <= set(on["versions"])
    assert (on["device"], on["compiled"], on["offload"]) == ("cpu", False, None)


def test_the_same_run_again_changes_nothing_and_reads_no_weights(nano, files, monkeypatch):
    claim(files.out, nano, "geneval", files, DRAWING)
    before = (files.out / FILE).read_bytes()
    read = []
    monkeypatch.setattr(run_file, "sha256", lambda file: read.append(file.name) or sha256(file))
    claim(files.out, nano, "geneval", files, DRAWING)
    assert (files.out / FILE).read_bytes() == before
    assert read == ["prompts.jsonl"]


def test_another_run_is_refused_and_the_difference_named(nano, files):
    claim(files.out, nano, "geneval", files, DRAWING)
    with pytest.raises(ValueError, match=r"pictures of another run \(settings.asked.steps: 3 and 4\): choose another"):
        claim(files.out, nano, "geneval", files, Drawing(4, 4, {**DRAWING.asked, "steps": 4}))
    with pytest.raises(ValueError, match=r"another run \(settings.history: None and 1\)"):
        claim(files.out, nano, "geneval", files, replace(DRAWING, history=1))
    files.prompts.write_text("{ }", "utf-8")
    with pytest.raises(ValueError, match=r"another run \(prompts: "):
        claim(files.out, nano, "geneval", files, DRAWING)


def test_other_weights_are_another_run(nano, files):
    claim(files.out, nano, "geneval", files, DRAWING)
    record = recorded(files)
    record["made_with"]["model"]["files"]["vae.safetensors"] = {"stamp": [1, 2], "sha256": "0"}
    (files.out / FILE).write_text(json.dumps(record), "utf-8")
    with pytest.raises(ValueError, match=r"model.files.vae.safetensors.sha256: 0 and "):
        claim(files.out, nano, "geneval", files, DRAWING)


def test_other_loras_and_other_strengths_are_another_run(nano, files, tmp_path):
    style = lora(open_model(NANO).components, tmp_path / "style.safetensors")
    half, whole = (LightBagel.from_pretrained("nano", "cpu", loras={style: x}) for x in (0.5, 1.0))
    claim(files.out, half, "geneval", files, DRAWING)
    model = recorded(files)["made_with"]["model"]
    assert model["loras"] == {"style.safetensors": 0.5}
    assert model["files"]["style.safetensors"]["sha256"] == sha256(style)
    claim(files.out, half, "geneval", files, DRAWING)
    with pytest.raises(ValueError, match=r"\(model\.loras\.style\.safetensors: 0\.5 and 1\.0\)"):
        claim(files.out, whole, "geneval", files, DRAWING)
    with pytest.raises(ValueError, match=r"model\.loras: .* and None"):
        claim(files.out, nano, "geneval", files, DRAWING)
    lora(open_model(NANO).components, style, seed=1)
    other = LightBagel.from_pretrained("nano", "cpu", loras={style: 0.5})
    with pytest.raises(ValueError, match=r"model\.files\.style\.safetensors\.sha256"):
        claim(files.out, other, "geneval", files, DRAWING)


def test_a_damaged_run_file_is_a_sentence(nano, files):
    files.out.mkdir()
    model = {"files": {"a": {"stamp": [1, 2]}}}
    for damaged in (
        "{",
        "[]",
        '{"made_with": 5}',
        json.dumps({"made_with": {"model": model}, "done_on": []}),
        "[" * 9999,
    ):
        (files.out / FILE).write_text(damaged, "utf-8")
        with pytest.raises(ValueError, match=r"run\.json is damaged.* choose another folder"):
            claim(files.out, nano, "geneval", files, DRAWING)


def test_a_folder_that_cannot_be_made_is_a_sentence(nano, files):
    files.out.write_text("a file", "utf-8")
    with pytest.raises(ValueError, match="could not make the folder"):
        claim(files.out, nano, "geneval", files, DRAWING)


def test_a_folders_checksum_is_that_of_its_names_and_contents(tmp_path):
    (tmp_path / "a.txt").write_text("one", "utf-8")
    (tmp_path / "b.txt").write_text("two", "utf-8")
    out = tmp_path / "out"
    before = prompts_hash(tmp_path, out)
    out.mkdir()
    (out / "picture.png").write_bytes(b"drawn")
    assert prompts_hash(tmp_path, out) == before
    (tmp_path / "b.txt").rename(tmp_path / "c.txt")
    assert prompts_hash(tmp_path, out) != before


def test_prompts_may_lie_below_the_pictures_folder(tmp_path):
    prompts = tmp_path / "out" / "prompts"
    prompts.mkdir(parents=True)
    (prompts / "a.txt").write_text("one", "utf-8")
    before = prompts_hash(prompts, tmp_path / "out")
    (prompts / SCRATCH).mkdir()
    (prompts / SCRATCH / "half").write_bytes(b"left by a kill")
    assert prompts_hash(prompts, tmp_path / "out") == before
    (prompts / "a.txt").write_text("two", "utf-8")
    assert prompts_hash(prompts, tmp_path / "out") != before


def test_processes_that_begin_together_wait_for_each_other(nano, files):
    (files.out / SCRATCH).mkdir(parents=True)
    with ThreadPoolExecutor(1) as other:
        with FileLock(files.out / SCRATCH / "run.lock"):
            claiming = other.submit(claim, files.out, nano, "geneval", files, DRAWING)
            with pytest.raises(TimeoutError):
                claiming.result(timeout=0.3)
            assert not (files.out / FILE).exists()
        claiming.result(timeout=30)
    assert (files.out / FILE).exists()


def test_every_way_a_folder_was_drawn_is_kept(nano, files, monkeypatch):
    claim(files.out, nano, "geneval", files, DRAWING)
    monkeypatch.setattr(run_file.torch, "get_num_threads", lambda: 99)
    for _ in range(2):
        claim(files.out, nano, "geneval", files, DRAWING)
    assert [on["threads"] for on in recorded(files)["done_on"]][1:] == [99]


def test_another_folder_of_sources_is_another_run(nano, files, tmp_path):
    one, other = (replace(files, images=tmp_path / name) for name in ("one", "other"))
    claim(files.out, nano, "imgedit", one, DRAWING)
    claim(files.out, nano, "imgedit", replace(one, images=tmp_path / "moved" / "one"), DRAWING)
    with pytest.raises(ValueError, match=r"another run \(images: one and other\)"):
        claim(files.out, nano, "imgedit", other, DRAWING)


def test_pictures_are_scored_as_what_they_are(nano, files):
    with pytest.raises(ValueError, match=r"there is no folder .* with pictures"):
        check_drawn(files.out, "geneval", files)
    files.out.mkdir()
    check_drawn(files.out, "geneval", files)  # drawn by something else
    claim(files.out, nano, "geneval", files, DRAWING)
    check_drawn(files.out, "geneval", files)
    with pytest.raises(ValueError, match="holds the pictures of geneval, not of imgedit"):
        check_drawn(files.out, "imgedit", files)
    files.prompts.write_text("{ }", "utf-8")
    with pytest.raises(ValueError, match="were drawn from other prompts"):
        check_drawn(files.out, "geneval", files)
