"""LightBagel as a library: generate and edit."""

from __future__ import annotations

import json
from pathlib import Path

import oracle
import pytest
import torch
from format_files import lora
from scenes import PICTURE, assert_alike, noise_picture
from scripted import scripted_model

from benchmarks.quality import psnr
from lightbagel_core.config import NANO
from lightbagel_core.files.convert import convert
from lightbagel_core.files.formats import open_model
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.sampling.schedule import schedule

WIDTH, HEIGHT = 96, 64


def test_seeds_generators_and_batches_agree(nano):
    one, other = (nano.generate("a red circle", seed=s, steps=3, progress=False)[0] for s in (5, 6))
    assert one.tobytes() != other.tobytes()
    generator = torch.Generator().manual_seed(5)
    assert nano.generate("a red circle", seed=generator, steps=3, progress=False)[0].tobytes() == one.tobytes()
    batch = nano.generate("a red circle", seed=5, steps=3, num_images=3, progress=False)
    assert len(batch) == 3
    assert_alike(batch[0], one)  # another batch size sums in another order


def test_a_prompt_is_rewritten_by_the_vlm_that_is_loaded(monkeypatch):
    """Its weights are asked for once all was checked."""
    text = "A large red circle stands in the middle of an empty white page."
    model, needed = scripted_model(f"<thinking>What is round?</thinking> {text}"), []
    monkeypatch.setattr(model, "need", lambda *components: needed.append(components))
    heard: list[str] = []
    rewritten = model.rewrite("a red circle", PICTURE.convert("L"), thinking=True, on_text=heard.append)
    assert (rewritten.prompt, rewritten.thinking) == (text, "What is round?")
    assert heard[-1].endswith(text)
    assert needed == [("understanding",)]
    with pytest.raises(ValueError, match="give at least one"):
        model.rewrite("make it blue", task="edit")
    with pytest.raises(ValueError, match="temperature must lie"):
        model.rewrite("make it blue", [PICTURE], "edit", temperature=-1)
    assert len(needed) == 1


def test_the_nano_says_that_it_cannot_rewrite(nano):
    with pytest.raises(ValueError, match="the nano cannot rewrite a prompt"):
        nano.rewrite("a red circle")


def test_an_edit_takes_the_sources_size_and_several_sources(nano):
    wide = PICTURE.resize((96, 64))
    out = nano.edit([wide, PICTURE], "make the circle blue", steps=2, image_guidance=1.5, progress=False)
    assert [p.size for p in out] == [(96, 64)]
    with pytest.raises(ValueError, match="at least one source"):
        nano.edit([], "make the circle blue")


def test_a_guided_edit_is_the_oracles_step_by_step(tiny):
    """Both guidances, renorm, an interval that ends mid-run, a negative prompt, two pictures, two sources."""
    sources, words, negative = [noise_picture(1), noise_picture(2)], "make the circle blue", "a green star"
    seen: list[torch.Tensor] = []
    tiny.edit(
        sources,
        words,
        negative,
        width=WIDTH,
        height=HEIGHT,
        steps=2,
        solver="euler",
        text_guidance=4,
        image_guidance=2,
        guidance_interval=(0.9, 1.0),
        renorm="text_channel",
        seed=3,
        num_images=2,
        on_step=lambda done, total, x: seen.append(x.clone()),
        progress=False,
    )
    pictures = [part for s in sources for part in (tiny.clean(s), tiny.vit(s))]
    full, without_text, text = [*pictures, tiny.text(words)], [*pictures, tiny.text(negative)], [tiny.text(words)]
    x = torch.randn(2, 48, HEIGHT // 16, WIDTH // 16, generator=torch.Generator().manual_seed(3))
    times = schedule(2, 4.0)
    assert times[0] > 0.9 > times[1]
    for i in range(2):
        t, rows = float(times[i]), []
        for one in x.split(1):
            v = oracle.velocity(tiny, full, one, t)
            if i == 0:
                v_neg, v_none = (oracle.velocity(tiny, parts, one, t) for parts in (without_text, text))
                guided = v_neg + 4 * (v - v_neg)
                for r in range(0, HEIGHT // 16, 2):
                    for c in range(0, WIDTH // 16, 2):
                        token = (slice(None), slice(None), slice(r, r + 2), slice(c, c + 2))
                        guided[token] *= min(1.0, float(v[token].norm() / guided[token].norm()))
                v = v_none + 2 * (guided - v_none)
            rows.append(v)
        x = x + (times[i + 1] - times[i]) * torch.cat(rows)
        assert oracle.relative(seen[i], x) < 1e-5


def test_wrong_sizes_are_refused(tiny):
    with pytest.raises(ValueError, match="whole tokens of 32"):
        tiny.encode([[tiny.text("a red circle")]], 100, 64)
    context = tiny.encode([[tiny.text("a red circle")]], 96, 64)
    for shape in ((2, 48, 4, 6), (1, 48, 4, 4)):
        with pytest.raises(ValueError, match="do not fit a context"):
            tiny.velocity(torch.zeros(shape), 0.5, context)
    for size in ({"width": 0}, {"height": -4}):
        with pytest.raises(ValueError, match="each side"):
            tiny.generate("a red circle", **size)
    with pytest.warns(UserWarning, match="100x64 rounded to 96x64"):
        assert tiny.size(100, 64) == (96, 64)


# --- LoRAs -----------------------------------------------------------------------------------------------------------

RUN = {"steps": 3, "seed": 5, "progress": False}


@pytest.fixture(scope="module")
def styles(tmp_path_factory) -> list[Path]:
    """Two LoRAs of the nano, each of its DiT and its fusion stack."""
    components = open_model(NANO).components
    folder = tmp_path_factory.mktemp("loras")
    return [lora(components, folder / f"style{seed}.safetensors", seed, lightbagel="{}") for seed in (0, 1)]


def drawn(loras: dict[Path, float] | None, dtype: torch.dtype | None = None):
    model = LightBagel.from_pretrained("nano", "cpu", dtype, loras=loras)
    return model.generate("a red circle", **RUN)[0]


def test_pictures_of_a_merged_model_are_those_of_its_loras(styles, tmp_path):
    loras = {styles[0]: 0.8, styles[1]: 0.3}
    applied = LightBagel.from_pretrained("nano", "cpu", loras={str(file): x for file, x in loras.items()})
    assert applied.loras == {"style0.safetensors": 0.8, "style1.safetensors": 0.3}
    convert(open_model(NANO, loras=loras), tmp_path / "merged", torch.float32, progress=False)
    merged, base = LightBagel.from_pretrained(tmp_path / "merged", "cpu"), LightBagel.from_pretrained("nano", "cpu")
    for work in (
        lambda model: model.generate("a red circle", **RUN)[0],
        lambda model: model.edit(PICTURE, "make the circle blue", **RUN)[0],
    ):
        picture = work(applied)
        assert psnr(work(merged), picture) > 60
        assert psnr(work(base), picture) < 30
    assert merged.loras == {}
    assert applied.describe(PICTURE) == base.describe(PICTURE)


def test_loras_add_up_and_0_is_nothing(nano, styles):
    base = nano.generate("a red circle", **RUN)[0]
    assert drawn({styles[0]: 0.0}).tobytes() == base.tobytes()
    one, other, both = drawn({styles[0]: 0.5}), drawn({styles[1]: 0.5}), drawn({styles[0]: 0.5, styles[1]: 0.5})
    assert max(psnr(both, one), psnr(both, other), psnr(one, other)) < 40
    assert psnr(both, drawn({styles[1]: 0.5, styles[0]: 0.5})) > 60


def test_a_model_with_loras_opens_in_float8(styles):
    """The sum is made float8, not the summands: so it is as far from float32 as without LoRAs."""
    assert psnr(drawn({styles[0]: 0.5}, torch.float8_e4m3fn), drawn({styles[0]: 0.5})) > 25
    assert psnr(drawn(None, torch.float8_e4m3fn), drawn({styles[0]: 0.5})) < 25


def test_a_saved_model_has_its_loras_in_it_and_says_so(styles, tmp_path):
    model = LightBagel.from_pretrained("nano", "cpu", loras={styles[0]: 0.5})
    model.save_pretrained(tmp_path / "saved")
    opened = LightBagel.from_pretrained(tmp_path / "saved", "cpu")
    assert opened.generate("a red circle", **RUN)[0].tobytes() == model.generate("a red circle", **RUN)[0].tobytes()
    (said,) = json.loads((tmp_path / "saved" / "config.json").read_text("utf-8"))["metadata"]["loras"]
    assert (said["name"], said["strength"]) == ("style0.safetensors", 0.5)
    assert "loras" not in model.config.metadata


def test_a_prompt_longer_than_the_vlm_has_positions_for_is_refused(nano):
    with pytest.raises(ValueError, match=r"needs 52\d positions, and the VLM has 512: use a shorter text"):
        nano.generate("a red circle and " * 128 + "a star", steps=1, progress=False)
