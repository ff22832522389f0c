"""The adapter in lmms-eval itself: its command runs tasks of the nano's world, and its score is our own count."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import PICTURE

from lightbagel_core.evaluation.suites.truth import picture
from lightbagel_core.model.chat import Talk, answers
from lightbagel_core.world.arrangements import random_scene
from lightbagel_core.world.questions import random_question

pytest.importorskip("lmms_eval", reason="lmms-eval is not installed; .ci/run says what of it this needs")

from lmms_eval.api.instance import Instance
from loguru import logger

from lightbagel_core.evaluation.lmms.model import LightBagel, own_device

ROOT = Path(__file__).resolve().parents[3]
TASKS = ROOT / "tests" / "evaluation" / "lmms" / "task"


def request(messages, generation=None, document=0, kind="generate_until"):
    """A request as lmms-eval makes it of a document of task "t"."""
    arguments = ("context", lambda doc: messages, generation or {}, document, "t", "test")
    return Instance(kind, arguments, 0, {"task": "t", "doc_id": document, "repeats": 1})


def asking(words, *pictures):
    content = [{"type": "image", "url": each} for each in pictures] + [{"type": "text", "text": words}]
    return [{"role": "user", "content": content}]


@pytest.fixture
def adapter():
    made = LightBagel(device="cpu", batch_size="2")
    made.task_dict["t"] = {"test": [{}] * 10}
    return made


def test_answers_come_back_in_the_order_of_the_requests(adapter, nano, monkeypatch):
    """Though those of one length are answered together."""
    batches = []
    answers = adapter._describer.answers
    monkeypatch.setattr(
        adapter._describer,
        "answers",
        lambda talks, length: batches.append((len(talks), length)) or answers(talks, length),
    )
    words = ["describe the image", "what colour is the background?", "how many shapes are there?"]
    requests = [
        request(asking(words[i % 3], PICTURE), {"max_new_tokens": 3 if i % 2 else 24}, document=i) for i in range(6)
    ]
    expected = [nano.describe(PICTURE, words[i % 3], max_new_tokens=3 if i % 2 else 24) for i in range(6)]
    assert len(set(expected)) > 3
    assert adapter.generate_until(requests) == expected
    assert batches == [(2, 24), (1, 24), (2, 3), (1, 3)]


def test_a_question_it_cannot_be_asked_is_empty_and_named(adapter):
    narrow = Image.new("RGB", (900, 100))
    requests = [
        request(asking("who is the president?", PICTURE)),
        request(asking("what colour is the background?", PICTURE), document=1),
        request(asking("describe the image", narrow), document=2),
    ]
    said = []
    sink = logger.add(said.append, level="WARNING", format="{message}")
    answers = adapter.generate_until(requests)
    logger.remove(sink)
    assert [bool(answer) for answer in answers] == [False, True, False]
    (line,) = said
    assert "2 of 3 questions" in line
    assert "t 0: this model does not know: president, who; t 2: an image of 900x100" in line


def test_what_is_not_done_is_said(adapter):
    with pytest.raises(NotImplementedError, match="no likelihoods"):
        adapter.loglikelihood([])
    with pytest.raises(NotImplementedError, match="not in rounds"):
        adapter.generate_until_multi_round([])
    with pytest.raises(NotImplementedError, match=r"t 0: .*'video'"):
        adapter.generate_until([request([{"role": "user", "content": [{"type": "video", "url": "a.mp4"}]}])])
    with pytest.raises(ValueError, match=r"t: this asks for sampled answers \(temperature 0.7\)"):
        adapter.generate_until([request(asking("describe the image", PICTURE), {"temperature": 0.7})])
    agentic = Instance("generate_until", ("context",), 0, {"task": "t", "doc_id": 0, "repeats": 1})
    with pytest.raises(NotImplementedError, match="t is no task of questions and answers"):
        adapter.generate_until([agentic])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"pretrained": "nowhere"}, "no checkpoint folder or file nowhere"),
        ({"model": "nano", "seed": 1}, "model, seed; lightbagel knows pretrained"),
        ({"batch_size": "auto"}, "not 'auto'"),
        ({"batch_size": 0}, "not 0"),
        ({"dtype": "int8"}, "float32.*not 'int8'"),
        ({"offload": "disk"}, "not 'disk'"),
        ({"device": "toaster"}, "device 'toaster' does not work here"),
    ],
)
def test_wrong_arguments(arguments, said):
    with pytest.raises(ValueError, match=said):
        LightBagel(**arguments)


def test_the_arguments_arrive():
    adapter = LightBagel.create_from_arg_string("pretrained=nano,dtype=bfloat16", {"batch_size": "3", "device": "cpu"})
    assert (adapter.batch_size, adapter.device, adapter.rank, adapter.world_size) == (3, torch.device("cpu"), 0, 1)
    adapter._describer.need()
    assert adapter._describer.und.vlm.dtype == torch.bfloat16


def test_the_weights_are_gone_when_a_judge_needs_their_memory(adapter):
    vlm = weakref.ref(adapter._describer.und.vlm)
    adapter.clean()
    assert vlm() is None


def test_each_process_has_its_rank_and_its_card(monkeypatch):
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "1")
    adapter = LightBagel(device="cpu")
    assert (adapter.rank, adapter.world_size, adapter.device.type) == (5, 8, "cpu")
    monkeypatch.setattr(torch, "empty", lambda *_, device: device)
    assert own_device("cuda") == torch.device("cuda:1")
    assert own_device("cuda:3") == torch.device("cuda:3")


# --- lmms-eval's own command -----------------------------------------------------------------------------------------


def write_tasks(folder):
    """The tasks' data in a folder: (question, pictures, answer) of each line by task."""
    rng = np.random.default_rng([14, 2**31])
    lines = {"nano_world": [], "nano_pairs": []}
    scenes = [random_scene(rng) for _ in range(24)]
    for i, scene in enumerate(scenes):
        picture(scene).save(folder / f"{i}.png")
        question, answer = random_question(rng, scene)
        lines["nano_world"].append((question, [i], answer))
    lines["nano_world"].append(("who is the president?", [0], "no"))
    lines["nano_world"].append(("what colour is the background?", [1, 2], scenes[1].background))
    for i in range(6):
        lines["nano_pairs"].append(("* describe the image * and * on the left", [i, i + 6, i + 12], "nothing"))
    for task, rows in lines.items():
        docs = [{"question": q, "pictures": [f"{i}.png" for i in seen], "answer": a} for q, seen, a in rows]
        (folder / f"{task}.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs), "utf-8")
    return lines


def own_answers(nano, folder, lines):
    """What the nano answers to each line of the tasks, one by one; the empty answer where it has no word for it."""

    def seen(index):
        return Image.open(folder / f"{index}.png").convert("RGB")

    def single(question, indices):
        if "president" in question:
            return ""
        return nano.describe([seen(i) for i in indices], question, max_new_tokens=24)

    def between(question, indices):
        first, *words = (part.strip() for part in question.split("*"))
        assert not first
        parts = [part for i, said in zip(indices, words, strict=True) for part in (seen(i), said)]
        (answer,) = answers(nano.und, [Talk([("user", parts)])], 24)
        return answer.split(" on")[0]  # the task's ending

    answered = {"nano_world": single, "nano_pairs": between}
    return {task: [answered[task](q, seen) for q, seen, _ in rows] for task, rows in lines.items()}


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_lmms_evals_score_is_our_own_count(nano, tmp_path, processes):
    if not any(each.name == "lightbagel" for each in entry_points(group="lmms_eval.models")):
        pytest.skip("lightbagel is not installed: lmms-eval finds it by its entry point")
    lines = write_tasks(tmp_path)
    split = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [
        sys.executable, *split, "-m", "lmms_eval", "--model", "lightbagel", "--model_args", "pretrained=nano",
        "--device", "cpu", "--batch_size", "4", "--tasks", "nano_world,nano_pairs", "--include_path", str(TASKS),
        "--output_path", "out", "--log_samples",
    ]  # fmt: skip
    ours = {"PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | ours, capture_output=True, text=True, encoding="utf-8", check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    results = [json.loads(path.read_text("utf-8")) for path in (tmp_path / "out").rglob("*_results.json")]
    assert len(results) == 1, said[-3000:]
    assert f"nano_world {len(lines['nano_world']) - 2}: this model does not know: president, who" in said

    expected = own_answers(nano, tmp_path, lines)
    assert len(set(expected["nano_pairs"])) > 1
    for task, rows in lines.items():
        (samples,) = (tmp_path / "out").rglob(f"*_samples_{task}.jsonl")
        logged = [json.loads(line) for line in samples.read_text("utf-8").splitlines()]
        answers = {each["doc_id"]: each["filtered_resps"] for each in logged}
        assert answers == dict(enumerate(expected[task]))
        right = sum(answer == wanted for answer, (_, _, wanted) in zip(expected[task], rows, strict=True))
        assert results[0]["results"][task]["exact_match,none"] == pytest.approx(right / len(rows))
        if task == "nano_world":
            assert 0 < right < len(rows)
