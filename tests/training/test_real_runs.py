"""`lightbagel train` itself on the nano: killed at every tenth of its steps, and gone on with by other numbers of
processes.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import forked
import pytest
import ranks
import torch
from runs import CONFIG
from safetensors.torch import load_file

from lightbagel_core.training.journal import FILE, read
from lightbagel_core.training.running import MODEL

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
STEPS, EVERY = 30, 3
RATE = 0.5  # of SGD: so large that the difference of two float32 weights says the gradient to six digits


@pytest.fixture
def config(tmp_path) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(CONFIG, "utf-8")
    return file


TRAIN = """
import sys
from lightbagel_core.__main__ import main
sys.exit(main(["train", *sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def begin():
    """Begins `lightbagel train` with a config, an output folder and more words."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"}
    with forked.parent("import lightbagel_core.training.running, lightbagel_core.cli.commands", environment) as parent:
        yield lambda config, out, *words: parent.start(TRAIN, [str(config), "--out", str(out), *words], environment)


def ended(process: forked.Child) -> None:
    """Waits for a run that comes to its end."""
    said = process.wait()
    assert said.returncode == 0, said.stderr


def reached(out: Path, step: int, process: forked.Child) -> None:
    """Waits until the record has a step."""
    record = out / "train" / FILE
    while not record.is_file() or f'"kind": "step", "step": {step},'.encode() not in record.read_bytes():
        assert process.alive(), process.wait().stderr
        time.sleep(0.002)


def losses(out: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in read(out / "train" / FILE).of("step")]


def test_a_kill_at_every_tenth_changes_nothing(begin, config, tmp_path):
    """One run that is killed nine times ends in the very weights of one that is not, and its record is as whole."""
    asked = (f"steps={STEPS}", f"checkpoints.every={EVERY}", "output=trained", "output_dtype=float32")
    ended(begin(config, tmp_path / "unbroken", *asked))
    out = tmp_path / "out"
    for tenth in range(1, 10):
        process = begin(config, out, *asked, *["--resume"] * (tenth > 1))
        reached(out, tenth * STEPS // 10, process)
        process.kill()
        assert process.wait().returncode == -signal.SIGKILL
        assert not (out / MODEL).exists()
    ended(begin(config, out, *asked, "--resume"))
    found, expected = (load_file(folder / MODEL / "fusion.safetensors") for folder in (out, tmp_path / "unbroken"))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert losses(out) == losses(tmp_path / "unbroken")


def test_a_request_to_stop_has_a_status_of_its_own_and_a_checkpoint(begin, config, tmp_path):
    process = begin(config, tmp_path / "out", "steps=1000000", "checkpoints.every=1000000")
    reached(tmp_path / "out", 3, process)
    os.kill(process.pid, signal.SIGTERM)
    said = process.wait()
    assert said.returncode == 3, said.stderr
    assert "--resume goes on" in said.stderr
    (checkpoint,) = (tmp_path / "out" / "train" / "checkpoints").iterdir()
    assert int(checkpoint.name.removeprefix("step-")) >= 3


def weights(out: Path, step: int) -> dict[str, torch.Tensor]:
    """The trained weights of a checkpoint."""
    files = (out / "train" / "checkpoints" / f"step-{step:08}").glob("*.safetensors")
    held = {name: tensor for file in files for name, tensor in load_file(file).items()}
    return {name: tensor for name, tensor in held.items() if name.startswith("weight.")}


def test_one_process_two_and_one_again_are_as_one(config, tmp_path):
    """The same batches, and in the first step on another number the same gradient to 4e-5."""
    asked = ["optimiser.name=sgd", f"optimiser.lr={RATE}", "optimiser.warmup=0", "ema.decay=0", "output=trained"]
    asked += ["batch.samples=5", "checkpoints.every=1", "checkpoints.keep=9"]

    def train(size: int, out: Path, steps: int, *words: str) -> None:
        said = ["train", str(config), *asked, f"steps={steps}", "--out", str(out), *words]
        ranks.run(size, [("lightbagel", {"words": said})])

    out, unbroken = tmp_path / "out", tmp_path / "unbroken"
    train(1, unbroken, 6)
    train(1, out, 2)
    train(2, out, 4, "--resume")
    train(1, out, 6, "--resume")
    found, expected = (list(read(folder / "train" / FILE).of("step")) for folder in (out, unbroken))
    assert [line["step"] for line in found] == [1, 2, 3, 4, 5, 6]
    for name in ("loss", "gradient_norm", "draw", "edit"):
        assert [line.get(name) for line in found] == pytest.approx([line.get(name) for line in expected], rel=1e-5)
    starts = [(line["step"], line["processes"]) for line in read(out / "train" / FILE).of("start")]
    assert starts == [(0, 1), (2, 2), (4, 1)]
    for step in range(1, 6):
        before, after = ([weights(folder, at) for folder in (out, unbroken)] for at in (step, step + 1))
        for name, weight in before[1].items():
            gradients = [(before[i][name] - after[i][name]) / RATE for i in range(2)]
            rounding = 2**-22 * weight.abs().max() / RATE
            difference = (gradients[0] - gradients[1]).abs().max()
            near = 4e-5 if step <= 2 else 1e-4  # after the first step on another number weights differ by rounding too
            assert difference <= near * gradients[1].abs().max() + rounding, (step, name)
