"""LoRA files: how other people's are read, what they add, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from format_files import lora, wan_original
from safetensors.torch import save_file

from lightbagel_core.config import NANO
from lightbagel_core.files import tensor_files
from lightbagel_core.files.checkpoint import weights, with_added
from lightbagel_core.files.formats import open_model
from lightbagel_core.files.key_maps import original_layer_name
from lightbagel_core.files.lora import about, merged, with_loras, written_name
from lightbagel_core.files.precision import Precision, dtypes
from lightbagel_core.files.tensor_files import read

LAYERS = {"generation": "blocks.1.attn1.to_q.weight", "fusion": "layers.2.gen_out.weight"}
RANK = 4


def halves(component: str, alpha: float | None = None) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """(down, up and alpha of a LoRA of one layer, what it adds at strength 1)."""
    shape = open_model(NANO, need=[component]).components[component][LAYERS[component]].shape
    torch.manual_seed(0)
    down, up = torch.randn(RANK, shape[1]), torch.randn(shape[0], RANK)
    made = {"lora_A.weight": down, "lora_B.weight": up}
    if alpha is not None:
        made["alpha"] = torch.tensor(alpha)
    return made, (1.0 if alpha is None else alpha / RANK) * (up @ down)


def file_of(folder: Path, layer: str, parts: dict[str, torch.Tensor], **metadata: str) -> Path:
    path = folder / "lora.safetensors"
    save_file({f"{layer}.{end}": tensor.contiguous() for end, tensor in parts.items()}, path, metadata or None)
    return path


def weight(component: str, loras: dict[Path, float], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    tensors = open_model(NANO, need=[component], loras=loras).components[component]
    kinds = dtypes(component, tensors, Precision.of(dtype, torch.device("cpu")))
    return dict(weights(tensors, kinds, torch.device("cpu")))[LAYERS[component]]


@pytest.mark.parametrize(
    ("component", "layer"),
    [
        ("generation", "diffusion_model.blocks.1.self_attn.q"),
        ("generation", "blocks.1.self_attn.q"),
        ("generation", "transformer.blocks.1.attn1.to_q"),
        ("generation", "lora_unet_blocks_1_self_attn_q"),
        ("generation", "lora_unet__blocks_1_self_attn_q"),
        ("fusion", "diffusion_model.lightbagel.layers.2.gen_out"),
    ],
)
def test_a_lora_is_found_under_every_name_and_adds_its_product(component: str, layer: str, tmp_path: Path) -> None:
    parts, product = halves(component, alpha=2.0)
    found = weight(component, {file_of(tmp_path, layer, parts): 0.5})
    torch.testing.assert_close(found, weight(component, {}) + 0.5 * product)


def test_kohyas_halves_are_read_and_without_alpha_the_product_counts_once(tmp_path: Path) -> None:
    parts, product = halves("generation")
    theirs = {"lora_down.weight": parts["lora_A.weight"], "lora_up.weight": parts["lora_B.weight"]}
    found = weight("generation", {file_of(tmp_path, "lora_unet_blocks_1_self_attn_q", theirs): 1.0})
    torch.testing.assert_close(found, weight("generation", {}) + product)


def test_written_names_are_those_that_wan_and_comfyui_use() -> None:
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    ours = [n for n, t in open_model(NANO).components["generation"].items() if n.endswith("weight") and t.shape[1:]]
    originals = {
        written_name("generation", n).removeprefix("diffusion_model.") + ".weight": i for i, n in enumerate(ours)
    }
    back = convert_wan_transformer_to_diffusers({name: torch.tensor(i) for name, i in originals.items()})
    assert {name: ours[int(i)] for name, i in back.items()} == {name: name for name in ours}


def test_at_strength_0_the_weights_are_those_of_the_files(tmp_path: Path) -> None:
    parts, _ = halves("fusion")
    path = file_of(tmp_path, "diffusion_model.lightbagel.layers.2.gen_out", parts)
    assert torch.equal(weight("fusion", {path: 0.0}), weight("fusion", {}))
    # Not even 0 is added: a float8 matrix would be made float8 anew.
    assert not any(stored.added for stored in open_model(NANO, loras={path: 0.0}).components["fusion"].values())


def test_several_loras_add_up(tmp_path: Path) -> None:
    parts, product = halves("fusion")
    (tmp_path / "other").mkdir()
    paths = [file_of(f, "diffusion_model.lightbagel.layers.2.gen_out", parts) for f in (tmp_path, tmp_path / "other")]
    found = weight("fusion", {paths[0]: 1.0, paths[1]: -0.25})
    torch.testing.assert_close(found, weight("fusion", {}) + 0.75 * product)


def test_a_float8_matrix_is_widened_before_and_narrowed_after(tmp_path: Path) -> None:
    parts, product = halves("generation")
    tensors = open_model(NANO, need=["generation"]).components["generation"]
    loras = {file_of(tmp_path, "diffusion_model.blocks.1.self_attn.q", parts): 1.0}
    added = with_loras({"generation": tensors}, loras)["generation"]
    kinds = dtypes("generation", added, Precision(torch.bfloat16, True))
    found = dict(weights(added, kinds, torch.device("cpu")))
    name = LAYERS["generation"]
    assert found[name].dtype == torch.float8_e4m3fn
    expected = read(tensors[name]).float() + product
    error = found[name].float() * found[f"{name}_scale"] - expected
    assert error.norm() < 0.04 * expected.norm()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda parts: {"diffusion_model.blocks.99.self_attn.q": parts}, "another model.*no diffusion_model.blocks.99"),
        (lambda parts: {"lora_unet_mid_block_attentions_0": parts}, "another model"),
        (lambda parts: {"diffusion_model.blocks.1.ffn.2": parts}, r"another model.*blocks.1.ffn.net.2.weight.*it has"),
        (lambda parts: {"diffusion_model.blocks.1.self_attn.q": {"lora_A.weight": parts["lora_A.weight"]}}, "one half"),
        (lambda parts: {"diffusion_model.blocks.1.self_attn.q": {**parts, "dora_scale": torch.ones(3)}}, "dora_scale"),
        (
            lambda parts: {"diffusion_model.blocks.1.self_attn.q": parts, "transformer.blocks.1.attn1.to_q": parts},
            "twice, under two names",
        ),
        (
            lambda parts: {"blocks.1.self_attn.q": {name: half.to(torch.int8) for name, half in parts.items()}},
            "whole numbers",
        ),
        (lambda parts: {"blocks.1.self_attn.q": {"diff": torch.ones(3)}}, r"attn1.to_q.weight of.*it has \[3\]"),
        (lambda parts: {"blocks.1.self_attn.q": {**parts, "diff": torch.ones(3)}}, "to_q.weight twice"),
        (lambda parts: {"lightbagel.layers.1.und_norm": {"diff_b": torch.ones(3)}}, "no lightbagel.layers.1.und_norm"),
        (lambda parts: {"blocks.1.self_attn.norm_q": parts}, r"norm_q.weight of.*which is \[\d+\], it has"),
        (lambda parts: {}, "is empty"),
    ],
)
def test_what_does_not_fit_is_refused(change, said: str, tmp_path: Path) -> None:
    parts, _ = halves("generation")
    made = {f"{layer}.{end}": x.clone() for layer, ends in change(parts).items() for end, x in ends.items()}
    save_file(made, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=said):
        open_model(NANO, loras={tmp_path / "lora.safetensors": 1.0})


def test_a_lora_of_another_model_says_which_it_was_trained_on(tmp_path: Path) -> None:
    parts, _ = halves("generation")
    said = json.dumps({"base": "lightbagel-7b-5b"})
    path = file_of(tmp_path, "diffusion_model.blocks.99.self_attn.q", parts, lightbagel=said)
    assert about(path) == {"base": "lightbagel-7b-5b"}
    for base in ("lightbagel-7b-5b", {"name": "lightbagel-7b-5b", "started_from": "nothing"}):
        file_of(tmp_path, "diffusion_model.blocks.99.self_attn.q", parts, lightbagel=json.dumps({"base": base}))
        with pytest.raises(ValueError, match=r"another model \(lightbagel-7b-5b\)"):
            open_model(NANO, loras={path: 1.0})


def test_what_a_file_holds_for_a_component_that_is_not_wanted_is_left(tmp_path: Path) -> None:
    both = lora(open_model(NANO).components, tmp_path / "both.safetensors")
    opened = open_model(NANO, need=["fusion"], loras={both: 1.0})
    matrices = {name for name, stored in opened.components["fusion"].items() if len(stored.shape) == 2} - {"context"}
    assert {name for name, stored in opened.components["fusion"].items() if stored.added} == matrices


def test_a_lora_of_which_nothing_is_used_is_refused(tmp_path: Path) -> None:
    parts, _ = halves("generation")
    path = file_of(tmp_path, "diffusion_model.blocks.1.self_attn.q", parts)
    for need in (["fusion"], ["understanding"]):
        with pytest.raises(ValueError, match="changes nothing here: it is a LoRA of the generation component"):
            open_model(NANO, need=need, loras={path: 1.0})


def test_a_lora_of_a_fusion_stack_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    """Also where the same file has a part for the DiT, which is there."""
    both = lora(open_model(NANO).components, tmp_path / "both.safetensors")
    base = {name: NANO / f"{name}.safetensors" for name in ("understanding", "generation", "vae")}
    with pytest.raises(ValueError, match=r"this one has no diffusion_model\.lightbagel\.layers"):
        open_model(None, components=base, tokenizer=NANO, config=NANO / "config.json", loras={both: 1.0})


def test_opening_reads_no_matrix_and_loading_reads_each_once(tmp_path: Path, monkeypatch) -> None:
    parts, _ = halves("generation", alpha=2.0)
    path = file_of(tmp_path, "diffusion_model.blocks.1.self_attn.q", parts)
    counted: dict[Path, int] = {}
    mapped = tensor_files._mapped

    def watched(stored, start, count):
        counted[stored.file] = counted.get(stored.file, 0) + count * stored.dtype.itemsize
        return mapped(stored, start, count)

    monkeypatch.setattr(tensor_files, "_mapped", watched)
    tensors = open_model(NANO, loras={path: 1.0}).components["generation"]
    assert counted == {path: 4}  # the alpha
    kinds = dtypes("generation", tensors, Precision.of(torch.float32, torch.device("cpu")))
    dict(weights(tensors, kinds, torch.device("cpu")))
    assert counted[path] == 4 + sum(parts[half].nbytes for half in ("lora_A.weight", "lora_B.weight"))


def test_a_file_that_changed_since_it_was_opened_is_not_read(tmp_path: Path) -> None:
    parts, _ = halves("generation")
    path = file_of(tmp_path, "diffusion_model.blocks.1.self_attn.q", parts)
    stored = open_model(NANO, need=["generation"], loras={path: 1.0}).components["generation"][LAYERS["generation"]]
    save_file({"a.lora_A.weight": torch.ones(1, 1)}, path)
    with pytest.raises(ValueError, match="replaced or changed after it was opened"):
        with_added(stored, read(stored), None)


def test_one_file_under_two_names_is_refused(tmp_path: Path, monkeypatch) -> None:
    parts, _ = halves("generation")
    path = file_of(tmp_path, "diffusion_model.blocks.1.self_attn.q", parts)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="given twice"):
        open_model(NANO, loras={path: 1.0, Path(path.name): 0.5})


def test_differences_of_whole_tensors_are_added_too(tmp_path: Path) -> None:
    """Under the names that ComfyUI's extraction of a LoRA gives them: biases, norms, a convolution, modulations."""
    places = {
        "blocks.1.self_attn.norm_q.diff": "blocks.1.attn1.norm_q.weight",
        "blocks.1.norm3.diff_b": "blocks.1.norm2.bias",
        "blocks.1.ffn.2.diff_b": "blocks.1.ffn.net.2.bias",
        "blocks.1.modulation.diff": "blocks.1.scale_shift_table",
        "head.modulation.diff": "scale_shift_table",
        "head.head.diff": "proj_out.weight",
        "patch_embedding.diff": "patch_embedding.weight",
        "lightbagel.layers.1.und_norm.diff": "layers.1.und_norm.weight",
    }
    components = open_model(NANO).components
    shapes = {name: stored.shape for tensors in components.values() for name, stored in tensors.items()}
    held = {f"diffusion_model.{theirs}": torch.randn(shapes[ours]) for theirs, ours in places.items()}
    save_file(held, tmp_path / "differences.safetensors")
    opened = open_model(NANO, loras={tmp_path / "differences.safetensors": 0.5})
    changed = {n: (c, s) for c in opened.components for n, s in opened.components[c].items() if s.added}
    assert sorted(changed) == sorted(places.values())
    for theirs, ours in places.items():
        component, stored = changed[ours]
        sum_, _ = with_added(stored, read(stored), None)
        torch.testing.assert_close(
            sum_, read(components[component][ours]).float() + 0.5 * held[f"diffusion_model.{theirs}"]
        )


def test_every_tensor_of_the_dit_is_found_under_its_original_name() -> None:
    """As `format_files` writes the names out by hand."""
    for name in open_model(NANO, need=["generation"]).components["generation"]:
        layer = name.removesuffix(".weight").removesuffix(".bias")
        assert original_layer_name(layer) + name[len(layer) :] == wan_original(name)


def test_what_is_merged_says_where_it_comes_from(tmp_path: Path) -> None:
    parts, _ = halves("fusion")
    layer = "diffusion_model.lightbagel.layers.2.gen_out"
    plain = {"name": "a.safetensors", "sha256": "12ab", "strength": 0.5}
    assert merged(file_of(tmp_path, layer, parts), 0.5, "a.safetensors", "12ab") == plain
    said = {"component": "fusion", "rank": RANK}
    path = file_of(tmp_path, layer, parts, lightbagel=json.dumps(said))
    assert merged(path, 0.5, "a.safetensors", "12ab") == {**plain, "says": said}


@pytest.mark.parametrize("strength", [float("nan"), float("inf")])
def test_a_strength_that_is_no_number_is_refused(strength: float, tmp_path: Path) -> None:
    parts, _ = halves("generation")
    path = file_of(tmp_path, "diffusion_model.blocks.1.self_attn.q", parts)
    with pytest.raises(ValueError, match="no number"):
        open_model(NANO, loras={path: strength})
