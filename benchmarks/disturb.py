"""What is done to pictures of the nano's world before they are read, and figures that are none of its shapes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from lightbagel_core.world.scenes import PALETTE, SIZE, Colour, Scene, coverage, render

Rng = np.random.Generator
Drawing = Callable[[Scene, Rng], np.ndarray]  # the picture of a scene, float32 [128, 128, 3] in 0 to 255
Change = Callable[[np.ndarray, Rng], np.ndarray]  # from such a picture to such a picture


def shades(rng: Rng, most: int) -> dict[str, Colour]:
    """The palette with every channel of every colour moved by up to `most` of 255."""
    moved = {name: np.array(colour) + rng.integers(-most, most + 1, 3) for name, colour in PALETTE.items()}
    return {name: tuple(int(v) for v in colour.clip(0, 255)) for name, colour in moved.items()}


def drawn(scene: Scene, rng: Rng, shade: int = 0, half: bool = False) -> np.ndarray:
    """A scene in shades moved by up to `shade`, and with `half` each thing half a pixel further right, down or both."""
    palette = shades(rng, shade) if shade else PALETTE
    if not half:
        return render(scene, palette).astype(np.float32)
    picture = np.full((SIZE, SIZE, 3), palette[scene.background], np.float32)
    for thing in scene.things:
        cover = coverage(thing, [(0, 0.5), (0.5, 0), (0.5, 0.5)][int(rng.integers(3))])[..., None]
        picture += cover * (np.array(palette[thing.colour], np.float32) - picture)
    return picture


def blur(sigma: float) -> Change:
    return lambda picture, _: ndimage.gaussian_filter(picture, (sigma, sigma, 0), mode="nearest")


def noise(sigma: float) -> Change:
    return lambda picture, rng: picture + rng.normal(0, sigma, picture.shape)


def brightness(most: float) -> Change:
    return lambda picture, rng: picture + rng.uniform(-most, most)


def contrast(most: float) -> Change:
    """Away from the middle of the range, or towards it."""
    return lambda picture, rng: 127.5 + (picture - 127.5) * rng.uniform(1 - most, 1 + most)


def _image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(as_bytes(picture))


def as_bytes(picture: np.ndarray) -> np.ndarray:
    return np.rint(picture).clip(0, 255).astype(np.uint8)


def jpeg(quality: int) -> Change:
    def change(picture: np.ndarray, _: Rng) -> np.ndarray:
        file = io.BytesIO()
        _image(picture).save(file, "jpeg", quality=quality)
        return np.asarray(Image.open(file), np.float32)

    return change


def resized(side: int) -> Change:
    """To `side` pixels and back, bicubic."""

    def change(picture: np.ndarray, _: Rng) -> np.ndarray:
        small = _image(picture).resize((side, side), Image.Resampling.BICUBIC)
        return np.asarray(small.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32)

    return change


def moved(scene: Scene, rng: Rng, most: int = 3) -> Scene:
    """A scene with all its things moved together by 1 to `most` pixels, in x or y or both."""
    dx, dy = 0, 0
    while not (dx or dy):
        dx, dy = (int(v) for v in rng.integers(-most, most + 1, 2))
    return replace(scene, things=tuple(replace(t, dx=t.dx + dx, dy=t.dy + dy) for t in scene.things))


def disturbed(scene: Scene, rng: Rng, changes: Sequence[Change] = (), shade: int = 0, half: bool = False) -> np.ndarray:
    """The disturbed picture of a scene, uint8 [128, 128, 3]."""
    picture = drawn(scene, rng, shade, half)
    for change in changes:
        picture = change(picture, rng)
    return as_bytes(picture)


def _polygon(points: Sequence[tuple[float, float]]) -> np.ndarray:
    """A polygon about the origin, in pixels, as coverage of the middle of a picture."""
    canvas = Image.new("L", (SIZE * 8, SIZE * 8), 0)
    ImageDraw.Draw(canvas).polygon([((64.5 + x) * 8, (64.5 + y) * 8) for x, y in points], fill=255)
    return np.asarray(canvas.reduce(8), np.float32) / 255


def _round(a: float, b: float, start: float = 0, end: float = 360) -> np.ndarray:
    angles = np.radians(np.linspace(start, end, 90))
    return _polygon([(a * float(np.cos(t)), b * float(np.sin(t))) for t in angles])


def _regular(corners: int, radius: float, inner: float = 1) -> np.ndarray:
    """A regular polygon, with `inner` below 1 a star, that stands on its base."""
    angles = -np.pi / 2 + np.arange(2 * corners) * np.pi / corners
    radii = np.where(
        np.arange(2 * corners) % 2 == 0, radius, radius * (inner if inner < 1 else np.cos(np.pi / corners))
    )
    return _polygon([(r * float(np.cos(t)), r * float(np.sin(t))) for r, t in zip(radii, angles, strict=True)])


def strange(size: int) -> dict[str, np.ndarray]:
    """Figures that a person would call none of the world's shapes, by name; `size` is a circle's radius in pixels."""
    r = float(size)
    rows = np.arange(SIZE)
    bar, cross = r / 3, _polygon([(-r, -r / 3), (r, -r / 3), (r, r / 3), (-r, r / 3)])
    return {
        "triangle on its tip": _regular(3, 1.25 * r)[::-1],
        "pentagon": _regular(5, 1.15 * r),
        "cross": np.maximum(cross, cross.T),
        "ring": np.clip(_round(r, r) - _round(0.55 * r, 0.55 * r), 0, 1),
        "half circle": _round(r, r, 0, 180),
        "ellipse": _round(1.25 * r, 0.75 * r),
        "bar": _polygon([(-1.2 * r, -bar), (1.2 * r, -bar), (1.2 * r, bar), (-1.2 * r, bar)]),
        "rectangle": _polygon([(-1.1 * r, -0.7 * r), (1.1 * r, -0.7 * r), (1.1 * r, 0.7 * r), (-1.1 * r, 0.7 * r)]),
        "diamond": _regular(4, 1.2 * r),
        "four-pointed star": _regular(4, 1.2 * r, 0.45),
        "three quarters of a circle": np.where(np.logical_and.outer(rows < 64, rows < 64), 0, 1) * _round(r, r),
    }
