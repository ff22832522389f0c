"""From plans to samples: what the frozen VLM and VAE make of pictures and words, of many samples at once.

Each picture is encoded once, however many samples it is in; samples of one example share what they have in common, so
that packing computes it once. Two forms: with the VLM's states, for training without it; and for a VLM that runs
beside the DiT, with what it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from PIL import Image
from torch import Tensor

from ...config import LightBagelConfig
from ...images import resized, to_pixels
from ...model.forward import CleanImage, Content, EncodedSegment, segment_of, und_states
from ...model.packing import pack
from ...model.sequence import ImageSegment, Segment
from ...model.understanding import Understanding, VitImage
from ...model.vae import encode
from .latents import KeptLatents
from .samples import Plan, Sample, VitPicture

VAE_PIXELS = 8 * 128 * 128  # of a call of the VAE, unless one picture has more; on a CPU more at once are slower
VIT_PIXELS = 16 * 532 * 532  # of a call of the ViT
READ_SAMPLES, READ_TOKENS = 16, 2048  # that the VLM reads at once, unless one example has more; tokens are und ones
T = TypeVar("T")
_Latents = dict[int, Tensor]  # by the identity of their picture in memory


class Encoder:
    """
    Args:
        und, vae: both on their devices. config: says how pictures are sized.
        latents: where latents are kept for good; None: nowhere.
        need: has the weights of "understanding" or of "vae" ready, where they are not both there.
    """

    def __init__(
        self,
        und: Understanding,
        vae: AutoencoderKLWan,
        config: LightBagelConfig,
        latents: KeptLatents | None = None,
        need: Callable[[str], object] = lambda component: None,
    ) -> None:
        self.und, self.vae, self.config, self.latents, self.need = und, vae, config, latents, need
        self.patch = int(config.generation["patch_size"][-1])

    def read(self, examples: Sequence[Sequence[Plan]], keep: Sequence[bool] | None = None) -> list[list[Sample]]:
        """The samples of each example with the VLM's states, bfloat16, and latents on the CPU.

        Args:
            examples: the plans of each. keep: of each, whether its latents are kept for good; default: none.

        Raises:
            ValueError: a text holds words that the model does not know.
        """
        with _without_autocast(self.und.device), torch.no_grad():
            live = self._samples(examples, keep, self._seen)
            self.need("understanding")
            return [samples for group in _groups(live) for samples in self._read(group)]

    def live(self, examples: Sequence[Sequence[Plan]], keep: Sequence[bool] | None = None) -> list[list[Sample]]:
        """The same with what the VLM will read: token ids, pictures for the ViT, latents; on the device. The target is
        None.
        """
        with _without_autocast(self.und.device), torch.no_grad():
            return self._samples(examples, keep, self._unseen)

    def _seen(self, pictures: Sequence[Image.Image]) -> list[VitImage]:
        self.need("understanding")
        return self.und.vit_images(pictures)

    def _unseen(self, pictures: Sequence[Image.Image]) -> list[VitPicture]:
        stride = self.config.vit_image.stride
        return [VitPicture(picture, picture.height // stride, picture.width // stride) for picture in pictures]

    def _samples(
        self, examples: Sequence[Sequence[Plan]], keep: Sequence[bool] | None, see: Callable[[Any], list[Any]]
    ) -> list[list[Sample]]:
        keep = [False] * len(examples) if keep is None else keep
        latents = self._latents(examples, keep)
        seen = _distinct(p for plans in examples for plan in plans for kind, p in plan.parts if kind == "vit")
        sized = [resized(picture, self.config.vit_image) for picture in seen.values()]
        vit = dict(zip(seen, _in_calls(see, sized, VIT_PIXELS), strict=True))
        clean = {key: CleanImage(x) for key, x in latents.items()}
        return [[self._sample(plan, clean, vit, latents) for plan in plans] for plans in examples]

    def _sample(self, plan: Plan, clean: dict[int, CleanImage], vit: dict[int, Any], latents: _Latents) -> Sample:
        contents: list[Content | VitPicture] = []
        for kind, what in plan.parts:
            if isinstance(what, str):
                contents.append(tuple(self.und.text_ids(what)))
            else:
                contents.append(clean[id(what)] if kind == "clean" else vit[id(what)])
        target = latents[id(plan.target)]
        return Sample(self._segments(contents, target), [*contents, None], target, plan.edit)

    def _segments(self, contents: Sequence[Content | VitPicture], target: Tensor) -> tuple[Segment, ...]:
        rows, cols = (side // self.patch for side in target.shape[-2:])
        segments = [
            ImageSegment("vit", content.rows, content.cols)
            if isinstance(content, VitPicture)
            else segment_of(content, self.patch)
            for content in contents
        ]
        return (*segments, ImageSegment("noised", rows, cols))

    def _latents(self, examples: Sequence[Sequence[Plan]], keep: Sequence[bool]) -> _Latents:
        """The latents of all pictures that a DiT will see, by their identity in memory."""
        found: _Latents = {}
        kept: set[int] = set()
        wanted: dict[int, Image.Image] = {}
        for plans, keeps in zip(examples, keep, strict=True):
            pictures = [p for plan in plans for kind, p in plan.parts if kind == "clean"] + [p.target for p in plans]
            for key, picture in _distinct(pictures).items():
                if keeps and self.latents is not None:
                    kept.add(key)
                    if (known := self.latents.find(picture)) is not None:
                        found[key] = known.to(self.und.device)
                        continue
                wanted[key] = picture
        by_size: dict[tuple[int, int], list[tuple[int, Image.Image]]] = {}
        for key, picture in wanted.items():
            sized = resized(picture, self.config.vae_image)
            by_size.setdefault(sized.size, []).append((key, sized))
        if by_size:
            self.need("vae")
        for same in by_size.values():
            made = _in_calls(self._encoded, [sized for _, sized in same], VAE_PIXELS)
            for (key, _), latents in zip(same, made, strict=True):
                found[key] = latents
                if key in kept and self.latents is not None:
                    found[key] = self.latents.keep(wanted[key], latents)
        return found

    def _encoded(self, pictures: Sequence[Image.Image]) -> Tensor:
        return encode(self.vae, torch.stack([to_pixels(picture) for picture in pictures]).to(self.und.device))

    def _read(self, examples: Sequence[Sequence[Sample]]) -> list[list[Sample]]:
        """Samples of some examples, read by the VLM in one go."""
        samples = [sample for some in examples for sample in some]
        tokens = pack([sample.layout for sample in samples], [sample.contents for sample in samples])
        states = torch.stack([state.bfloat16().cpu() for state in und_states(self.und, tokens)])
        own = iter(tokens.und)
        return [self._encoded_segments(some, states, own) for some in examples]

    def _encoded_segments(self, samples: Sequence[Sample], states: Tensor, own: Iterator[Tensor]) -> list[Sample]:
        known: dict[Hashable, EncodedSegment] = {}
        held: dict[int, Tensor] = {}

        def on_cpu(latents: Tensor) -> Tensor:
            return held.setdefault(id(latents), latents.cpu())

        found = []
        for sample in samples:
            *contents, _ = sample.contents
            read = states[:, next(own)].split([segment.und_tokens for segment in sample.segments], dim=1)
            key: Hashable = None
            encoded = []
            for content, part in zip(contents, read, strict=False):
                key = (key, content)
                latents = on_cpu(content.latents) if isinstance(content, CleanImage) else None
                encoded.append(known.setdefault(key, EncodedSegment(part, latents)))
            encoded.append(EncodedSegment(read[-1]))
            found.append(Sample(sample.segments, encoded, on_cpu(sample.target), sample.edit))
        return found


def _distinct(pictures: Iterable[Image.Image | str]) -> dict[int, Image.Image]:
    return {id(picture): picture for picture in pictures if isinstance(picture, Image.Image)}


def _in_calls(
    call: Callable[[Sequence[Image.Image]], Iterable[T]], pictures: Sequence[Image.Image], pixels: int
) -> list[T]:
    """What a function gives of each picture, asked for as many at once as have so many pixels."""
    found: list[T] = []
    group: list[Image.Image] = []
    for picture in pictures:
        if group and sum(p.width * p.height for p in [*group, picture]) > pixels:
            found += call(group)
            group = []
        group.append(picture)
    return found + (list(call(group)) if group else [])


def _groups(examples: Sequence[Sequence[Sample]]) -> Iterator[list[Sequence[Sample]]]:
    """Examples in groups of at most `READ_SAMPLES` samples and `READ_TOKENS` und tokens."""
    group: list[Sequence[Sample]] = []
    count = tokens = 0
    for samples in examples:
        own = sum(segment.und_tokens for sample in samples for segment in sample.segments)
        if group and (count + len(samples) > READ_SAMPLES or tokens + own > READ_TOKENS):
            yield group
            group, count, tokens = [], 0, 0
        group.append(samples)
        count, tokens = count + len(samples), tokens + own
    if group:
        yield group


def _without_autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, enabled=False)
