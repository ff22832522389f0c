"""What a stage of a training is told, as frozen dataclasses: every key that a config file may have, and its default.

What contradicts itself, or would not be heeded, is refused when a stage is made. `config_file` reads stages from TOML.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import Literal

DRAWS = ("generation", "fusion", "context")  # what a pass of the drawing recipe goes through
READERS = ("understanding", "vae")  # what reads the examples of the drawing recipe
LANGUAGE, DECODER = "nano-vlm-language", "nano-vae-decoder"
# Recipes that train one component, on data of their own.
ALONE = {"nano-vlm": "understanding", LANGUAGE: "understanding", "nano-vae": "vae", DECODER: "vae"}
SHARES = ("dropout.text", "dropout.clean", "dropout.vit", "dropout.empty", "ema.decay", "optimiser.final_lr")
LEAST = {
    "steps": 0,
    "shift": 1e-6,
    "leap": 0,
    "optimiser.lr": 0,
    "optimiser.clip": 0,
    "optimiser.warmup": 0,
    "batch.device_tokens": 1,
    "cache.samples": 1,
    "cache.chunks": 1,
    "cache.renew": 1,
    "lora.generation.rank": 0,
    "lora.fusion.rank": 0,
    "parallel.shard": 0,
    "checkpoints.every": 1,
    "checkpoints.keep": 1,
}

Trained = Literal["fusion", "context", "generation", "understanding", "vae"]
PrecisionName = Literal["float32", "bfloat16-mixed", "bfloat16"]
BaseDtype = Literal["float32", "bfloat16", "float8"]
OptimiserName = Literal["adamw", "adamw-8bit", "sgd"]
ScheduleName = Literal["constant", "cosine"]
RecipeName = Literal["drawing", "nano-vlm", "nano-vlm-language", "nano-vae", "nano-vae-decoder"]


@dataclass(frozen=True)
class Merged:
    """A LoRA file that is merged into the model before training, and how strongly.

    components: those whose part of it counts.
    """

    file: str
    strength: float = 1.0
    components: tuple[Literal["generation", "fusion"], ...] = ("generation", "fusion")


@dataclass(frozen=True)
class Model:
    """Where the model comes from, in the words of the command's own options; paths as strings.

    loras: merged into it for good; to train one further instead, see `Lora.file`.
    fresh: components that begin the run untrained, whatever the files hold; a later stage goes on from the one before.
    config: for a model of another size than the published 7B + 5B; a file, or "nano".
    """

    model: str | None = None
    understanding: str | None = None
    generation: str | None = None
    fusion: str | None = None
    vae: str | None = None
    tokenizer: str | None = None
    config: str | None = None
    loras: tuple[Merged, ...] = ()
    fresh: tuple[Literal["understanding", "generation", "fusion", "vae"], ...] = ()


@dataclass(frozen=True)
class Lora:
    """Adapters of low rank on the linear layers of a component, by PEFT. rank 0: none, unless there is a file.

    targets: the ends of the names of the layers that get one; empty: every linear layer of the blocks.
    file: a LoRA to go on from: the adapters begin with its numbers, and have its rank, alpha and targets; what is said
        of these must agree with it.
    """

    rank: int = 0
    alpha: float | None = None  # default: the rank, so that the adapter counts once
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    file: str | None = None

    @property
    def asked(self) -> bool:
        """Whether there are adapters."""
        return self.rank > 0 or self.file is not None


@dataclass(frozen=True)
class Adapters:
    """LoRA on the DiT and on the fusion stack."""

    generation: Lora = field(default_factory=Lora)
    fusion: Lora = field(default_factory=Lora)

    def by_component(self) -> dict[str, Lora]:
        """Those that are asked for."""
        both = {"generation": self.generation, "fusion": self.fusion}
        return {name: lora for name, lora in both.items() if lora.asked}


@dataclass(frozen=True)
class Optimiser:
    """AdamW as the paper has it (docs/model.md, section 9); "sgd" is for tests of exactness.

    clip: largest norm of all gradients together; 0: never clipped. final_lr: share of lr at the end of a cosine.
    """

    name: OptimiserName = "adamw"
    lr: float = 3e-5
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-15
    weight_decay: float = 0.0
    clip: float = 0.5
    schedule: ScheduleName = "constant"
    warmup: int = 2000
    final_lr: float = 0.0


@dataclass(frozen=True)
class Ema:
    """The average of the trained weights. decay 0: none. warmup: whether it follows faster in the first steps."""

    decay: float = 0.9999
    warmup: bool = True


@dataclass(frozen=True)
class Batch:
    """How much a step holds, over all processes: so many samples, or so many tokens on average; one of the two.

    device_tokens: at most so many tokens go through a device at once; a step takes as many passes as that needs.
    """

    samples: int = 0
    tokens: int = 0
    device_tokens: int = 20480


@dataclass(frozen=True)
class Dropout:
    """Shares of whole segments that are dropped, markers included, each on its own (docs/model.md, section 9).

    empty: the share of dropped texts that become the empty prompt instead.
    """

    text: float = 0.1
    clean: float = 0.1
    vit: float = 0.5
    empty: float = 0.0


@dataclass(frozen=True)
class DataSet:
    """One source of examples and its weight in the mix.

    kind: "world", the nano's own scenes; "folder", pictures with texts beside them; "store", what `lightbagel prepare`
        wrote.
    path: of a folder or store. edits: share of edits among the world's examples; of the others, what the dry run takes
        for granted where it cannot read them.
    chains, pairs, others, thoughts: shares among the world's edits of two turns, of two pictures, of sentences that say
        "the other one", and of those with a thought.
    first: so many of the world's examples are all there are; 0: it has no end.
    source, licence: where it comes from and what may be done with it, in words: the metadata of what comes out says it.
    """

    kind: Literal["world", "folder", "store"] = "world"
    weight: float = 1.0
    path: str | None = None
    edits: float = 0.6
    chains: float = 0.0
    pairs: float = 0.0
    others: float = 0.0
    thoughts: float = 0.0
    first: int = 0
    source: str | None = None
    licence: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Data:
    """sets: the mix; written as [[data.sets]], or by name as [data.sets.NAME], which a stage or an override can change
    in part: data.sets.NAME.path=…

    thoughts: whether an example's thought is a text segment of its own, or in one with its instruction.
    turns: how chains of edits are learned from: "joined" makes one instruction of them, "chain" draws each picture and
    then has it as a source, "mixed" half of each.
    """

    sets: tuple[DataSet, ...] = (DataSet(),)
    turns: Literal["joined", "chain", "mixed"] = "mixed"
    thoughts: Literal["apart", "joined"] = "apart"


@dataclass(frozen=True)
class Cache:
    """What the frozen VLM and VAE give, kept.

    states: "live" has both on the device and computes what a step needs; "rolling" keeps the und states and latents of
    `chunks` times `samples` samples on disk, of which the oldest are replaced every `renew` steps, so that a small card
    never holds VLM and DiT at once. latents: whether the latents of finite sets are kept on disk for good.
    folder: where; default: inside the run's own folder.
    """

    states: Literal["live", "rolling"] = "live"
    samples: int = 512
    chunks: int = 16
    renew: int = 200
    latents: bool = True
    folder: str | None = None


@dataclass(frozen=True)
class Parallel:
    """shard: so many processes share one copy of the weights (FSDP); 1: each has its own (DDP); 0: all share one.

    With more processes than `shard`, copies are kept equal (HSDP).
    """

    shard: int = 1


@dataclass(frozen=True)
class Checkpoints:
    """every: steps from one to the next. keep: so many of the latest stay, and the best."""

    every: int = 500
    keep: int = 2


@dataclass(frozen=True)
class Edit:
    """An edit that validation draws: the picture, a path, or a sentence of the nano's world; and the instruction."""

    source: str
    instruction: str


@dataclass(frozen=True)
class Validation:
    """every: steps from one to the next; 0: never. prompts, edits: what is drawn, always with the same noise.

    held_out: samples of the mix that are never trained on, whose loss is measured at fixed times and noise; the best
    checkpoint is the one where it is least. suites: items of each class of the nano's suites, scored at the end and
    every `suites_every` steps; 0: none.
    """

    every: int = 0
    prompts: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()
    held_out: int = 0
    suites: int = 0
    suites_every: int = 0
    tracker: Literal["none", "trackio", "wandb"] = "none"


@dataclass(frozen=True)
class Stage:
    """One stage of a training, everything said.

    train: what is trained whole. fusion_layers: of the fusion stack's layers only these; none named: all. The others
        stay as they begin, and a fresh one adds nothing.
    shift: of the training times. compile: the blocks, by torch.compile.
    checkpointing: activations inside a block are computed again in the backward pass.
    base: the dtype of what stays frozen. leap: a loss above so many times its recent median stops the run; 0: never.
    output: whether the finished folder holds the whole model, LoRAs merged, or what was trained alone, in output_dtype;
        what was not trained is copied as it is stored. LoRAs come out as files of their own either way.
    output_from: the weights after the last step, or those of the checkpoint whose held-out loss is the least.
    """

    name: str = "train"
    steps: int = 1000
    seed: int = 1
    recipe: RecipeName = "drawing"
    train: tuple[Trained, ...] = ("fusion", "context")
    fusion_layers: tuple[int, ...] = ()
    shift: float = 4.0
    precision: PrecisionName = "bfloat16-mixed"
    base: BaseDtype = "bfloat16"
    checkpointing: bool = True
    compile: bool = False
    output: Literal["whole", "trained"] = "whole"
    output_dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    output_from: Literal["last", "best"] = "last"
    leap: float = 10.0
    device: str | None = None
    model: Model = field(default_factory=Model)
    lora: Adapters = field(default_factory=Adapters)
    optimiser: Optimiser = field(default_factory=Optimiser)
    ema: Ema = field(default_factory=Ema)
    batch: Batch = field(default_factory=lambda: Batch(samples=64))
    dropout: Dropout = field(default_factory=Dropout)
    data: Data = field(default_factory=Data)
    cache: Cache = field(default_factory=Cache)
    parallel: Parallel = field(default_factory=Parallel)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    validation: Validation = field(default_factory=Validation)

    def __post_init__(self) -> None:
        """Raises ValueError for what contradicts itself or cannot be."""
        if (self.batch.samples > 0) == (self.batch.tokens > 0):
            raise ValueError("batch needs either samples or tokens, the one or the other")
        if not (self.train or self.lora.by_component()):
            raise ValueError('nothing would be trained: name modules with "train", or a rank with "lora"')
        for name in SHARES:
            if not 0 <= attrgetter(name)(self) <= 1:
                raise ValueError(f"{name} is a share in 0..1, not {attrgetter(name)(self)}")
        for name, least in LEAST.items():
            if not attrgetter(name)(self) >= least:
                raise ValueError(f"{name} must be at least {least:g}, not {attrgetter(name)(self)}")
        if not self.data.sets or not all(s.weight > 0 for s in self.data.sets):
            raise ValueError("data.sets needs at least one set, each with a weight above 0")
        if self.fusion_layers and "fusion" not in self.train:
            raise ValueError('fusion_layers says which layers of the fusion stack are trained: name "fusion" in train')
        for s in self.data.sets:
            if (s.kind == "world") != (s.path is None):
                no_path = f"has no path, so not {s.path!r}; a folder and a store have one"
                needs = no_path if s.kind == "world" else "needs a path"
                raise ValueError(f"the {s.kind} {s.name or ''}".rstrip() + f" among data.sets {needs}")
        self._check_loras()
        self._check_recipe()
        self._check_precision()
        if self.output_from == "best" and not (self.validation.held_out and self.validation.every):
            raise ValueError(
                'output_from = "best" goes by the held-out loss: set validation.held_out and validation.every above 0'
            )

    def _check_loras(self) -> None:
        """Refuses LoRAs that would change nothing, or count twice."""
        for module, lora in self.lora.by_component().items():
            if module in self.train:
                raise ValueError(f"{module} is trained whole already; its LoRA would change nothing more")
            if lora.file is not None and module in self.model.fresh:
                raise ValueError(f"lora.{module}.file is a LoRA of a trained {module}, but here that begins fresh")
            if any(lora.file == merged.file and module in merged.components for merged in self.model.loras):
                raise ValueError(f"lora.{module}.file is among model.loras too, and would count twice: {lora.file}")
        files = [merged.file for merged in self.model.loras]
        if twice := sorted({file for file in files if files.count(file) > 1}):
            raise ValueError(f"model.loras names {', '.join(twice)} twice: say it once, with the sum of the strengths")

    def _check_recipe(self) -> None:
        """Refuses what the recipe would not heed."""
        only = ALONE.get(self.recipe)
        if only is None:
            if "vae" in self.train:
                raise ValueError('the recipe drawing leaves the VAE as it is: take "vae" out of train')
            if "understanding" in self.train and self.cache.states == "rolling":
                raise ValueError('a VLM that is trained reads anew in each step: set cache.states = "live"')
            return
        if self.train != (only,):
            raise ValueError(f'the recipe {self.recipe} trains that component alone: train = ["{only}"]')
        unheeded = {
            "lora": self.lora != Adapters(),
            "data": self.data != Data(),
            "dropout": self.dropout != Dropout(),
            "validation.held_out": self.validation.held_out > 0,
        }
        for key, said in unheeded.items():
            if said:
                raise ValueError(
                    f"the stage {self.name} heeds no {key}: the recipe {self.recipe} makes its own lessons; "
                    f"say it for another stage alone, as stages.NAME.{key}"
                )

    def _check_precision(self) -> None:
        """Refuses dtypes in which small steps are lost, or that meet in no product."""
        if self.precision == "bfloat16" and self.optimiser.name == "adamw":
            raise ValueError(
                'precision = "bfloat16" would round the small steps of adamw away: set optimiser.name = "adamw-8bit", '
                'which rounds at random, or precision = "bfloat16-mixed"'
            )
        frozen = [module for module in DRAWS if module not in self.train]
        if self.recipe != "drawing" or not frozen or self.precision == "bfloat16-mixed":
            return
        fitting = ("float32",) if self.precision == "float32" else ("bfloat16", "float8")
        if self.base not in fitting:
            raise ValueError(
                f'{", ".join(frozen)} would stay in base = "{self.base}", which precision = "{self.precision}" cannot '
                f'be computed with: set base = "{fitting[0]}", or precision = "bfloat16-mixed"'
            )

    @property
    def unshareable(self) -> str:
        """Why several processes cannot share the weights, and what to do; "" where they can."""
        if self.base == "float8":
            return (
                'base = "float8" needs each process to hold its own copy: set parallel.shard = 1, or base = "bfloat16"'
            )
        if self.precision == "bfloat16" and {"generation", "fusion"} & set(self.train):
            return (
                'precision = "bfloat16" keeps norms and the like in float32; only weights of one dtype can be shared: '
                'set parallel.shard = 1, or precision = "bfloat16-mixed"'
            )
        return ""
