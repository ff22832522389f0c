"""Graphs by chance, from what the server says of its nodes: mostly sound ones, with a few things in them gone wrong."""

from __future__ import annotations

import math
import random
from typing import Any

Graph = dict[str, dict[str, Any]]
OURS = (
    "LightBagelLoader",
    "LightBagelApplyFusion",
    "LightBagelTextEncode",
    "LightBagelGenerate",
    "LightBagelEdit",
    "LightBagelDescribe",
    "LightBagelRewritePrompt",
)
# What a graph is about: nodes of ours, and stock ones that are given what ours make.
ABOUT = (*OURS[2:] * 3, *OURS[:2], "KSampler", "SamplerCustomAdvanced", "VAEDecode", "VAEEncode", "TextGenerate")
# Where a socket's things come from: the first needs least, and is taken where a graph is deep enough already.
SOURCES: dict[str, tuple[tuple[str, int], ...]] = {
    "MODEL": (("LightBagelLoader", 0), ("LightBagelApplyFusion", 0), ("ModelSamplingSD3", 0)),
    "CLIP": (("LightBagelLoader", 1), ("CLIPSetLastLayer", 0)),
    "VAE": (("LightBagelLoader", 2), ("LightBagelLoader", 2), ("LightBagelLoader", 2), ("VAELoader", 0)),
    "CONDITIONING": (
        ("LightBagelTextEncode", 0),
        ("CLIPTextEncode", 0),
        ("ConditioningCombine", 0),
        ("ConditioningConcat", 0),
        ("ConditioningAverage", 0),
        ("ConditioningZeroOut", 0),
        ("ConditioningSetTimestepRange", 0),
        ("ReferenceLatent", 0),
    ),
    "IMAGE": (("EmptyImage", 0), ("LightBagelGenerate", 0), ("VAEDecode", 0), ("ImageBatch", 0)),
    "MASK": (("SolidMask", 0), ("InvertMask", 0)),
    "LATENT": (
        ("Wan22ImageToVideoLatent", 0),
        ("LightBagelGenerate", 1),
        ("EmptyLatentImage", 0),
        ("VAEEncode", 0),
        ("SetLatentNoiseMask", 0),
    ),
    "GUIDER": (("CFGGuider", 0), ("BasicGuider", 0), ("DualCFGGuider", 0)),
    "SAMPLER": (("KSamplerSelect", 0),),
    "SIGMAS": (("BasicScheduler", 0),),
    "NOISE": (("RandomNoise", 0), ("DisableNoise", 0)),
}
SPOILT = "spoilt"  # the title of a node that was given what its inputs do not take
HEAVY = {"MODEL", "CLIP", "VAE"}  # one loader is mostly enough
DEEP = 3
# Of what costs time only small numbers are asked for: (least, most).
SMALL = {
    "steps": (1, 3),
    "width": (32, 96),
    "height": (32, 96),
    "batch_size": (1, 2),
    "length": (1, 1),
    "max_length": (1, 8),
    "cfg": (1, 8),
    "step": (1, 3),
}
WORDS = (
    "a large red circle left of a small blue square on a white background",
    "a small green star",
    "remove the square",
    "describe the image",
    "what colour is the circle?",
)
STRANGE_WORDS = (
    "",
    " \n\t ",
    "a cat",
    "(red:1.3) circle",
    "{red|blue} circle",
    "红色的圆",
    "an e\u0301toile 🌟 \u202eright to left",
    "\x00",
    "a \ud800 circle",
    "<|im_end|>",
    "<|image_pad|> a circle",
    "a large red circle " * 200,
    "'); DROP TABLE nodes; --",
    "../../etc/passwd",
    "nan",
)
STRANGE_NUMBERS: tuple[Any, ...] = (
    math.nan,
    "nan",
    math.inf,
    -math.inf,
    -1,
    0,
    -0.0,
    5e-324,
    1e308,
    2**63,
    2**64,
    2**70,
    -(2**70),
    1.5,
    "7",
    "seven",
    "",
    True,
)
STRANGE_VALUES: tuple[Any, ...] = (
    None,
    "",
    [],
    {},
    [1, 2, 3],
    ["9999", 0],
    {"__value__": []},
    {"__value__": list(range(2000))},
    {"__value__": {"a": [None]}},
    ["🌟", "x"],
)


class Maker:
    """Makes graphs: each from the next numbers of one stream of chance."""

    def __init__(self, info: dict[str, Any], seed: int) -> None:
        self.info, self.chance = info, random.Random(seed)

    def graph(self) -> Graph:
        """A graph about one node that ends in what shows a thing of any kind."""
        graph: Graph = {}
        about = self.node(graph, self.chance.choice([kind for kind in ABOUT if kind in self.info]), 0)
        slot = self.chance.randrange(max(1, len(self.info[graph[about]["class_type"]]["output"])))
        graph["shown"] = {"class_type": "PreviewAny", "inputs": {"source": [about, slot]}}
        for _ in range(self.chance.choices((0, 1, 2, 6), (30, 40, 20, 10))[0]):
            self.spoil(graph)
        return graph

    def node(self, graph: Graph, kind: str, depth: int) -> str:
        """Adds a node with sound inputs and all it needs; its name."""
        inputs: dict[str, Any] = {}
        for group in ("required", "optional"):
            for name, spec in self.info[kind]["input"].get(group, {}).items():
                if group == "required" or self.chance.random() < (0.05 if kind == "LightBagelLoader" else 0.4):
                    inputs |= self.sound(graph, name, spec[0], spec[1] if len(spec) > 1 else {}, depth)
        made = str(len(graph) + 1)
        graph[made] = {"class_type": kind, "inputs": inputs}
        return made

    def sound(self, graph: Graph, name: str, kind: Any, options: dict[str, Any], depth: int) -> dict[str, Any]:
        """One input's value, or several where an input grows or brings others with it."""
        if kind == "COMFY_AUTOGROW_V3":
            template = options["template"]
            count = self.chance.choice((template["min"], 1, 1, 2))
            (inner,) = (s for group in template["input"].values() for s in group.values())
            names = [f"{name}.{template['prefix']}{i}" for i in range(count)]
            return {each: v for n in names for each, v in self.sound(graph, n, inner[0], {}, depth).items()}
        if kind == "COMFY_DYNAMICCOMBO_V3":
            chosen = self.chance.choice(options["options"])
            values = {name: chosen["key"]}
            for group in chosen["inputs"].values():
                for inner, spec in group.items():
                    values |= self.sound(graph, f"{name}.{inner}", spec[0], spec[1], depth)
            return values
        if isinstance(kind, str) and kind in SOURCES:
            return {name: self.link(graph, kind, depth)}
        return {name: self.value(name.split(".")[-1], kind, options)}

    def link(self, graph: Graph, kind: str, depth: int) -> list[Any]:
        there = [
            [node, slot]
            for node, body in graph.items()
            for slot, made in enumerate(self.info[body["class_type"]]["output"])
            if made == kind
        ]
        if there and self.chance.random() < (0.95 if kind in HEAVY else 0.7):
            return self.chance.choice(there)
        sources = [source for source in SOURCES[kind] if source[0] in self.info]
        source, slot = sources[0] if depth >= DEEP else self.chance.choice(sources)
        return [self.node(graph, source, depth + 1), slot]

    def value(self, name: str, kind: Any, options: dict[str, Any]) -> Any:
        """A value that the node takes, now and then the very least or most of it."""
        if name == "weight_dtype" and self.chance.random() < 0.8:
            return options["default"]  # as in most graphs, whose loader then need not run again
        if isinstance(kind, list) or kind == "COMBO":
            return self.chance.choice(kind if isinstance(kind, list) else options["options"])
        if kind == "STRING":
            return self.chance.choice(WORDS)
        if kind == "BOOLEAN":
            return self.chance.random() < 0.5
        if kind not in ("INT", "FLOAT"):
            return options.get("default")
        least, most = SMALL.get(name, (options.get("min", 0), options.get("max", 1)))
        if self.chance.random() < 0.1:
            return self.chance.choice((least, most))
        if kind == "FLOAT":
            return self.chance.choice((options.get("default", least), round(self.chance.uniform(least, most), 3)))
        step = options.get("step", 1)
        return least + step * self.chance.randrange((most - least) // step + 1)

    def spoil(self, graph: Graph) -> None:
        """Makes one thing in a graph go wrong, or at least unusual."""
        node = graph[self.chance.choice([name for name in graph if name != "shown"])]
        inputs = node["inputs"]
        if not inputs:
            return
        node["_meta"] = {"title": SPOILT}
        name = self.chance.choice(list(inputs))
        how = self.chance.randrange(10)
        if how < 4:
            inputs[name] = self.strange(inputs[name])
        elif how < 7:
            odd = str(len(graph) + 1)
            graph[odd] = {
                "class_type": "OddThing",
                "inputs": {
                    "kind": self.chance.choice(self.info["OddThing"]["input"]["required"]["kind"][1]["options"])
                },
            }
            inputs[name] = [odd, 0]
        elif how < 8:
            inputs[name] = [self.chance.choice(list(graph)), self.chance.choice((0, 1, 2, 7, -1))]
        elif how < 9:
            del inputs[name]
        else:
            inputs[self.chance.choice((name + "x", "images.image99", "images", "", "🌟"))] = inputs[name]

    def strange(self, value: Any) -> Any:
        """Another value in the place of a link, a word, a number."""
        if self.chance.random() < 0.2:
            return self.chance.choice(STRANGE_VALUES)
        if isinstance(value, str):
            return self.chance.choice(STRANGE_WORDS)
        return self.chance.choice(STRANGE_NUMBERS)
