"""A config describes a model completely, refuses what contradicts itself, and survives JSON."""

from __future__ import annotations

import json

from lightbagel_core.config import PUBLISHED, LightBagelConfig
from lightbagel_core.files.formats import read_config


def test_config_round_trips_through_json():
    config = read_config(PUBLISHED)
    assert LightBagelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
