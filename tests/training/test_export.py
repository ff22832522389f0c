"""What comes out: modules in one dtype, copies as they are stored, adapters as one file, sharded weights whole."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from tiny import make_tiny

from lightbagel_core.files.formats import open_model
from lightbagel_core.training.export import LORA, write_adapters, write_model
from lightbagel_core.training.parallel import start, stop
from lightbagel_core.training.stages import Stage


@pytest.fixture(scope="module")
def tiny():
    return make_tiny()


@pytest.fixture(scope="module")
def stored(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored") / "model"
    tiny.save_pretrained(folder)
    return open_model(folder)


def test_each_component_comes_from_where_it_is_best(tiny, stored, tmp_path):
    trained, parts = {"fusion": tiny.fusion}, stored.components
    earlier = {"vae": parts["vae"]}
    others = {name: parts[name] for name in ("understanding", "generation")}
    write_model(tmp_path / "out", tiny.config, trained, earlier, others, tiny.und.tokenizer, torch.float16, True)
    made = open_model(tmp_path / "out")
    kinds = {part: {stored.dtype for stored in tensors.values()} for part, tensors in made.components.items()}
    assert kinds["fusion"] == kinds["vae"] == {torch.float16}
    assert kinds["understanding"] == kinds["generation"] == {torch.float32}
    written = load_file(tmp_path / "out" / "fusion.safetensors")
    assert all(torch.equal(written[name], w.half()) for name, w in tiny.fusion.state_dict().items())
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_only_the_first_process_writes(tiny, stored, tmp_path):
    write_model(tmp_path / "out", tiny.config, {"fusion": tiny.fusion}, {}, {}, None, torch.float32, False)
    write_adapters(tmp_path / "out", {"generation.a": torch.zeros(2)}, torch.float32, False)
    assert not (tmp_path / "out").exists()


def test_a_sharded_tensor_is_written_whole(tmp_path):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    start(Stage(device="cpu"))
    try:
        whole = torch.arange(12.0).view(4, 3)
        sharded = distribute_tensor(whole, init_device_mesh("cpu", (1,)), [Shard(0)])
        write_adapters(tmp_path, {"fusion.x": sharded}, torch.bfloat16, True)
    finally:
        stop()
    assert torch.equal(load_file(tmp_path / LORA)["fusion.x"], whole.bfloat16())
