"""The dry run counts, and opening makes, the dtypes of one table."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lightbagel_core.files.precision import Precision
from lightbagel_core.training.precisions import BASES, trained_precision
from lightbagel_core.training.stages import Optimiser, Stage

CPU = torch.device("cpu")


def test_a_base_is_opened_as_inference_opens_it():
    for name, dtype in {"float32": torch.float32, "bfloat16": torch.bfloat16, "float8": torch.float8_e4m3fn}.items():
        assert BASES[name] == Precision.of(dtype, CPU)


@pytest.mark.parametrize(
    ("precision", "base", "dtype"),
    [
        ("bfloat16-mixed", "float8", torch.float32),
        ("float32", "float32", torch.float32),
        ("bfloat16", "bfloat16", torch.bfloat16),
    ],
)
def test_what_is_trained_is_never_float8(precision, base, dtype):
    stage = replace(Stage(optimiser=Optimiser("sgd"), base="bfloat16"), precision=precision, base=base)
    assert trained_precision(stage) == Precision(dtype, False)
