"""The command line as a person meets it: what it prints, what it writes, how it fails."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from format_files import lora
from PIL import Image
from safetensors.torch import load_file, save_file

from lightbagel_core.cli.commands import main
from lightbagel_core.config import NANO
from lightbagel_core.files.formats import open_model
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.world.scenes import Scene, Thing, render

QUICK = ["--steps", "2", "--quiet", "--device", "cpu"]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.png"
    Image.fromarray(render(Scene("white", (Thing("circle", "red", "large", "centre"),)))).save(path)
    return path


def refused(capsys, argv: list[str]) -> str:
    """The one line on stderr of a command that must exit with 2."""
    try:
        code = main(argv)
    except SystemExit as stop:  # argparse
        code = stop.code
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    return err.strip()


def test_generate_writes_a_picture_with_its_settings(tmp_path, capsys):
    out = tmp_path / "a.png"
    assert main(["generate", "a red circle", "-o", str(out), "--seed", "7", *QUICK]) == 0
    assert "a.png (96x96" in capsys.readouterr().out
    with Image.open(out) as image:
        assert image.size == (96, 96)
        settings = json.loads(image.text["lightbagel"])
    assert settings["prompt"] == "a red circle"
    assert (settings["seed"], settings["steps"], settings["solver"], settings["model"]) == (7, 2, "unipc", "nano")
    assert (settings["text_guidance"], settings["dtype"]) == (2.0, "float32")
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_seed_reproduces_and_another_differs(tmp_path):
    pictures = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(["generate", "a red circle", "-o", str(tmp_path / f"{name}.png"), "--seed", seed, *QUICK]) == 0
        pictures.append(Image.open(tmp_path / f"{name}.png").tobytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_counted_pictures_are_numbered(tmp_path):
    assert main(["generate", "a red circle", "-o", str(tmp_path / "a.png"), "--count", "2", *QUICK]) == 0
    assert sorted(os.listdir(tmp_path)) == ["a-1.png", "a-2.png"]


def test_sizes_are_rounded_and_said(tmp_path, capsys):
    out = tmp_path / "a.png"
    assert main(["generate", "a red circle", "-o", str(out), "--size", "100x70", *QUICK]) == 0
    assert "size 100x70 rounded to 96x64" in capsys.readouterr().err
    assert Image.open(out).size == (96, 64)


@pytest.mark.parametrize("solver", ["euler", "dpm++"])
def test_edit_with_everything_switched_on(tmp_path, source, solver):
    out = tmp_path / "b.png"
    options = ["--image-guidance", "1.5", "--text-guidance", "4", "--renorm", "text_channel", "--solver", solver]
    options += ["--guidance-interval", "0.4,1", "--negative", "a green star"]
    assert main(["edit", str(source), str(source), "make the circle blue", "-o", str(out), *options, *QUICK]) == 0
    settings = json.loads(Image.open(out).text["lightbagel"])
    assert settings["instruction"] == "make the circle blue"
    assert settings["guidance_interval"] == [0.4, 1.0]


def test_options_may_stand_anywhere(tmp_path, source, capsys):
    out = tmp_path / "b.png"
    assert main(["edit", str(source), str(source), "-o", str(out), "make the circle blue", *QUICK]) == 0
    settings = json.loads(Image.open(out).text["lightbagel"])
    assert (settings["instruction"], len(settings["images"])) == ("make the circle blue", 2)
    capsys.readouterr()
    assert "unrecognized arguments: b --loud" in refused(
        capsys, ["edit", str(source), "a", "-o", str(out), "b", "--loud"]
    )
    assert "unrecognized arguments: b" in refused(capsys, ["generate", "a", "-o", str(out), "b"])


@pytest.mark.parametrize("kind", ["1x1", "8:1", "16-bit", "CMYK", "animated", "alpha"])
def test_odd_but_honest_images_just_work(tmp_path, kind):
    path, out = tmp_path / "odd.png", tmp_path / "out.png"
    plain = Image.new("RGB", (128, 128), "white")
    if kind == "1x1":
        plain.resize((1, 1)).save(path)
    elif kind == "8:1":
        plain.resize((1600, 200)).save(path)
    elif kind == "16-bit":
        Image.fromarray(np.full((128, 128), 40000, np.uint16)).save(path)
    elif kind == "CMYK":
        path = tmp_path / "odd.jpg"
        plain.convert("CMYK").save(path)
    elif kind == "animated":
        plain.save(path, save_all=True, append_images=[plain.point(lambda v: v // 2)])
    else:
        plain.putalpha(90)
        plain.save(path)
    assert main(["edit", str(path), "add a red circle on the left", "-o", str(out), *QUICK]) == 0
    with Image.open(out) as image:
        assert max(image.size) == (32 if kind == "1x1" else 96)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--attention", "flash"], "attention flash cannot be used on cpu in torch.float32: it needs a CUDA card"),
    ],
)
def test_what_needs_a_card_is_refused_without_one(tmp_path, capsys, options, reason):
    words = ["generate", "a red circle", "-o", str(tmp_path / "a.png"), "--device", "cpu", *options, *QUICK]
    assert reason in refused(capsys, words)
    assert os.listdir(tmp_path) == []


def test_compile_and_attention_are_handed_on(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(LightBagel, "compile", lambda model: asked.append(model.attention.backend.value))
    options = ["--compile", "--attention", "sdpa", "--device", "cpu"]
    assert main(["generate", "a red circle", "-o", str(tmp_path / "a.png"), *options, *QUICK]) == 0
    assert asked == ["native"]


def test_a_compiler_that_fails_is_said_in_a_line(tmp_path, capsys, monkeypatch):
    def broken(*_):
        raise OSError("no C++ compiler found")

    compile_model = LightBagel.compile
    monkeypatch.setattr(LightBagel, "compile", lambda model: compile_model(model, backend=broken))
    words = ["generate", "a red circle", "-o", str(tmp_path / "a.png"), "--compile", *QUICK]
    said = refused(capsys, words)
    assert "compiling does not work here" in said
    assert "no C++ compiler found" in said
    assert os.listdir(tmp_path) == []


def test_describe_and_info(source, capsys):
    assert main(["describe", str(source), "--device", "cpu"]) == 0
    assert capsys.readouterr().out == "a large red circle in the centre on a white background\n"
    assert main(["describe", str(source), "what colour is the circle?", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == "red\n"
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("nano\n")
    assert "4.91 M" in text
    assert "float16" in text
    assert "8 GB  --dtype bfloat16" in text
    assert "attention on" in text


def test_describe_answers_for_each_picture(tmp_path, source, capsys):
    other = tmp_path / "other.png"
    Image.fromarray(render(Scene("white", (Thing("star", "blue", "small", "centre"),)))).save(other)
    each = ["--each", str(other), str(source)]
    assert main(["describe", str(source), "what is in the centre?", *each, "--device", "cpu"]) == 0
    red, blue = f"{source}: a large red circle", f"{other}: a small blue star"
    assert capsys.readouterr().out.splitlines() == [red, blue, red]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["generate", " ", "-o", "OUT/a.png"], "needs a prompt"),
        (["info", "--model", "OUT/a.ckpt"], "a.ckpt is a pickle file, which can run any code when it is opened"),
        (["info", "--model", "OUT/nowhere"], "there is no checkpoint folder or file"),
        (["info", "--understanding", "OUT"], "holds no understanding.safetensors or model.safetensors"),
        (["convert", "OUT/new", "--shard-size", "inf"], "a size is a number of gigabytes above 0, not 'inf'"),
        (["convert", "OUT/new", "--shard-size", "none"], "a size is a number of gigabytes above 0, not 'none'"),
        (["download", "OWNER/REPO", "--to", "OUT"], "is neither OWNER/REPO:PATH/IN/REPO nor one of qwen2.5-vl-7b"),
        (["download", "a/b:c.bin", "--to", "OUT"], "c.bin is not fetched: .bin files can run code"),
        (["generate", "a pink circle", "-o", "OUT/a.png"], "does not know: pink. The words it knows: a, above"),
        (["generate", "a red circle", "-o", "OUT/a.jpg"], "must end in .png"),
        (["generate", "a red circle!", "-o", "OUT/a.png"], "does not know: !."),
        (["generate", "a red <|im_end|> circle", "-o", "OUT/a.png"], "must not contain the model's own marker"),
        (["describe", "SRC", "what is <|image_pad|>?"], "must not contain the model's own marker"),
        (["edit", "a red circle" * 30, "SRC", "-o", "OUT/a.png"], "File name too long"),
        (["generate", "a red circle", "-o", "OUT/no/a.png"], "no folder"),
        (["generate", "a red circle", "-o", "OUT/a.png", "--steps", "0"], "steps must be at least 1"),
        (["generate", "a red circle", "-o", "OUT/a.png", "--text-guidance", "nan"], "must be a finite number"),
        (["generate", "a red circle", "-o", "OUT/a.png", "--guidance-interval", "1,0"], "interval must satisfy"),
        (["generate", "a red circle", "-o", "OUT/a.png", "--guidance-interval", "x"], "an interval is LO,HI"),
        (["generate", "a red circle", "-o", "OUT/a.png", "--size", "0x64"], "each side must lie between"),
        (["generate", "a red circle", "-o", "OUT/a.png", "--size", "30000x64"], "each side must lie between"),
        (["generate", "a red circle", "-o", "OUT/a.png", "--size", "big"], "a size is WIDTHxHEIGHT"),
        (["generate", "a red circle", "-o", "OUT/a.png", "--count", "0"], "at least 1"),
        (["generate", "a red circle", "-o", "OUT/a.png", "--seed", "99999999999999999999"], "seed must lie between"),
        (["generate", "a red circle", "-o", "OUT/a.png", "--device", "abacus"], "does not work here"),
        (["generate", "a red circle", "-o", "OUT/a.png", "--model", "OUT/none"], "no checkpoint folder"),
        (["edit", "SRC", "", "-o", "OUT/a.png"], "needs an instruction"),
        (["edit", "OUT/none.png", "remove the circle", "-o", "OUT/a.png"], "no image file"),
        (["edit", "SRC", "make the dog blue", "-o", "OUT/a.png"], "does not know: dog"),
        (["describe", "OUT/none.png"], "no image file"),
        (["describe", "SRC", "who is the president?"], "does not know: president, who"),
        (["describe", "SRC", "", "--max-new-tokens", "5"], "needs a question"),
        (["describe", "SRC", "--max-new-tokens", "0"], "at least 1"),
        (["describe", "SRC", "--each", "OUT/none.png"], "there is no image file"),
        (["describe", "SRC", "--each"], "expected at least one argument"),
        ([], "required"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, source, capsys, argv, message):
    before = sorted(os.listdir(tmp_path))
    argv = [a.replace("OUT", str(tmp_path)).replace("SRC", str(source)) for a in argv]
    extra = ["--quiet"] if argv and argv[0] in ("generate", "edit") else []
    assert message in refused(capsys, [*argv, *extra])
    assert sorted(os.listdir(tmp_path)) == before


def test_a_damaged_checkpoint_is_one_line(tmp_path, capsys):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in NANO.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "fusion.safetensors")
    del tensors["context"]
    save_file(tensors, folder / "fusion.safetensors")
    assert "missing: context" in refused(capsys, ["info", "--model", str(folder)])
    (folder / "vae.safetensors").unlink()
    (folder / "fusion.safetensors").unlink()
    assert "lacks the fusion component, fusion.safetensors" in refused(capsys, ["info", "--model", str(folder)])


def test_a_full_disk_and_no_memory_are_one_line(tmp_path, monkeypatch, capsys):
    out = str(tmp_path / "a.png")

    def fail(error: BaseException):
        def raise_it(*_args, **_kwargs):
            raise error

        return raise_it

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail(OSError(28, "No space left on device")))
        assert "No space left" in refused(capsys, ["generate", "a red circle", "-o", out, *QUICK])
    for error in (
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: not enough memory"),
        torch.OutOfMemoryError("memory"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(LightBagel, "velocity", fail(error))
            assert "fewer or smaller" in refused(capsys, ["generate", "a red circle", "-o", out, *QUICK])
    with monkeypatch.context() as patch:
        patch.setattr(LightBagel, "velocity", fail(KeyboardInterrupt()))
        assert main(["generate", "a red circle", "-o", out, *QUICK]) == 130
    with monkeypatch.context() as patch:  # a fault of the program's own is not dressed up
        patch.setattr(LightBagel, "velocity", fail(RuntimeError("shapes differ")))
        with pytest.raises(RuntimeError, match="shapes differ"):
            main(["generate", "a red circle", "-o", out, *QUICK])
    assert os.listdir(tmp_path) == []


def test_overrides_of_a_training_may_stand_anywhere(capsys):
    words = ["train", "steps=1", "--preset", "nano", "seed=3", "--dry-run", "optimiser.lr=1e-3"]
    assert main(words) == 0
    assert "fusion" in capsys.readouterr().out


@pytest.fixture
def style(tmp_path_factory):
    return lora(open_model(NANO).components, tmp_path_factory.mktemp("loras") / "style.safetensors")


def test_pictures_are_drawn_with_loras_and_their_files_say_so(tmp_path, style, source, capsys):
    base, drawn = tmp_path / "a.png", tmp_path / "b.png"
    assert main(["generate", "a red circle", "-o", str(base), *QUICK]) == 0
    assert main(["generate", "a red circle", "-o", str(drawn), "--lora", f"{style}=0.8", *QUICK]) == 0
    with Image.open(base) as without, Image.open(drawn) as with_it:
        assert "loras" not in json.loads(without.text["lightbagel"])
        assert json.loads(with_it.text["lightbagel"])["loras"] == {"style.safetensors": 0.8}
        assert np.abs(np.asarray(without, int) - np.asarray(with_it, int)).mean() > 2
    edited = ["edit", str(source), "make the circle blue", "-o", str(tmp_path / "c.png"), "--lora", str(style)]
    assert main([*edited, *QUICK]) == 0
    assert json.loads(Image.open(tmp_path / "c.png").text["lightbagel"])["loras"] == {"style.safetensors": 1.0}


def test_loras_that_cannot_be_used_are_one_line(tmp_path, style, source, capsys):
    out = str(tmp_path / "a.png")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(style.read_bytes()[:500])
    for words, message in (
        (["describe", str(source), "--lora", str(style)], "--lora changes nothing here"),
        (["convert", str(tmp_path / "new"), "--only", "vae", "--lora", str(style)], "--lora changes nothing here"),
        (["generate", "a red circle", "-o", out, "--lora", str(tmp_path / "none.safetensors")], "there is no file"),
        (["generate", "a red circle", "-o", out, "--lora", str(damaged)], "is damaged"),
        (["generate", "a red circle", "-o", out, "--lora", str(NANO / "vae.safetensors")], "what is no LoRA"),
        (["generate", "a red circle", "-o", out, "--lora", f"{style}=much"], "it is FILE or FILE=STRENGTH"),
        (["generate", "a red circle", "-o", out, "--lora", "a.ckpt"], "is a pickle file"),
    ):
        assert message in refused(capsys, words)
    assert not list(tmp_path.glob("*.png.*"))
    assert not (tmp_path / "new").exists()
