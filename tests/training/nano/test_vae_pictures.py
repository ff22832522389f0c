"""Pictures as the nano's VAE learns from them."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from lightbagel_core.evaluation.suites.truth import read_picture
from lightbagel_core.training.nano import vae_pictures as vae
from lightbagel_core.training.nano.shape import SIDE, picture
from lightbagel_core.world.arrangements import gap, random_scene
from lightbagel_core.world.scenes import JITTER, Scene


def test_pixels_are_colours_from_minus_one_to_one():
    picture = np.array([[[0, 255, 51], [255, 0, 204]]], np.uint8)
    pixels = vae.to_pixels(picture[None])
    assert pixels.shape == (1, 3, 1, 2)
    torch.testing.assert_close(pixels[0, :, 0].T, torch.tensor([[-1.0, 1.0, -0.6], [1.0, -1.0, 0.6]]))


def test_whole_pictures_are_the_nanos():
    whole = vae.pictures(np.random.default_rng(0), 20)
    assert whole.shape == (20, SIDE, SIDE, 3)
    assert whole.dtype == np.uint8
    seen = [read_picture(Image.fromarray(picture)) for picture in whole]
    rng = np.random.default_rng(0)
    assert [scene.attributes for scene in seen] == [random_scene(rng).attributes for _ in range(20)]


def test_a_crop_is_part_of_its_scenes_picture():
    rng = np.random.default_rng(1)
    for _ in range(10):
        scene, cut = vae.crop(rng)
        windows = np.lib.stride_tricks.sliding_window_view(np.asarray(picture(scene)), cut.shape)
        assert (windows == cut).all(axis=(-1, -2, -3)).any()


def test_what_is_drawn_together_is_the_same_but_for_two_places_that_it_may_have():
    rng = np.random.default_rng(3)
    nearer = 0
    for _ in range(200):
        scene = random_scene(rng)
        near = vae.drawn_together(rng, scene)
        assert near.attributes == scene.attributes
        assert all(max(abs(t.dx), abs(t.dy)) <= JITTER for t in near.things)
        moved = [(a, b) for a, b in zip(scene.things, near.things, strict=True) if a != b]
        assert len(moved) <= 2
        if len(moved) == 2:
            assert gap(*(b for _, b in moved)) <= gap(*(a for a, _ in moved))
            assert gap(*(b for _, b in moved)) >= 1
            nearer += 1
    assert nearer > 25
    alone = Scene("white", tuple(t for t in scene.things if t.place != "centre"))
    assert vae.drawn_together(rng, alone) == alone


def test_crops_are_of_scenes_and_of_one_size():
    rng = np.random.default_rng(0)
    cut = np.stack([vae.crop(rng)[1] for _ in range(40)])
    assert cut.shape == (40, vae.CROP, vae.CROP, 3)
    assert cut.dtype == np.uint8
    plain = np.array([len(np.unique(crop.reshape(-1, 3), axis=0)) == 1 for crop in cut])
    assert plain.mean() < 0.25  # most are around a shape
