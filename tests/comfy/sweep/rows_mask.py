"""What is expected of nodes that make and change masks, which are pixels to every model."""

from __future__ import annotations

import torch
from helpers import SIDE, source, tensor

from .expect import foreign, gives, needs, row
from .world import gradient

HALF = SIDE // 2


def cropped(world, inputs):
    return inputs["mask"][:, 8:72, 16:80]


def rgba(world):
    return torch.cat([tensor(source()), world.part("MASK")[..., None]], -1)


def composed(world, inputs):
    left = inputs["mask"][..., None]
    return inputs["source"] * left + inputs["destination"] * (1 - left)


def grown(world, inputs):
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, :, : HALF + 4] = 1
    return mask


def feathered(world, inputs):
    mask = inputs["mask"].clone()
    mask[:, :, :4] *= torch.tensor([0.25, 0.5, 0.75, 1.0])
    return mask


def padded(world, inputs):
    picture = torch.full((1, SIDE, SIDE + 32, 3), 0.5)
    picture[:, :, 32:] = inputs["image"]
    return picture


FACE = "a face or object detector"

ROWS = [
    row("InvertMask", gives("1 less the mask", lambda w, i: 1 - i["mask"]), mask=gradient),
    row("CropMask", gives("the slice", cropped), x=16, y=8, width=64, height=64, mask=gradient),
    row("ThresholdMask", gives("1 above the value", lambda w, i: (i["mask"] > 0.3).float()), mask=gradient, value=0.3),
    row("SolidMask", gives("one value", lambda w, i: torch.full((1, SIDE, SIDE), 0.4)), value=0.4),
    row("GrowMask", gives("four pixels more", grown), expand=4),
    row("FeatherMask", gives("a ramp of four pixels", feathered), left=4),
    row("MaskComposite", gives("the product", lambda w, i: i["destination"] * i["source"]), source=gradient,
        operation="multiply"),
    row("MaskToImage", gives("the mask as grey", lambda w, i: i["mask"][..., None].expand(-1, -1, -1, 3)),
        mask=gradient),
    row("ImageToMask", gives("the red channel", lambda w, i: i["image"][..., 0])),
    row("ImageColorToMask", gives(
        "1 where the picture is blue", lambda w, i: (
            (i["image"] * 255).round() == torch.tensor([0.0, 0.0, 255.0])).all(-1).float()), color=255),
    row("BatchMasksNode", gives("a batch of both", lambda w, i: torch.cat([w.part("MASK"), gradient(w)])),
        masks=lambda w: {"mask_0": w.part("MASK"), "mask_1": gradient(w)}),
    row("MaskPreview", needs("nothing: it shows the mask and changes nothing")),
    row("JoinImageWithAlpha", gives("the picture and 1 less the mask", lambda w, i: torch.cat(
        [i["image"], 1 - i["alpha"][..., None]], -1))),
    row("SplitImageWithAlpha", gives("the picture", lambda w, i: tensor(source())), image=rgba),
    row("ImageCompositeMasked", gives("the one inside the mask, the other outside", composed), destination=lambda w: (
        tensor(source("green"))), source=lambda w: tensor(source()), mask=lambda w: w.part("MASK")),
    row("PorterDuffImageComposite", gives("the source where its mask is 0", lambda w, i: (
        i["source"] * (1 - i["source_alpha"][..., None]))),
        mode="SRC"),
    row("ImagePadForOutpaint", gives("grey on the left", padded), left=32, feathering=0),
    row("VOIDQuadmaskPreprocess", foreign("VOID")),
    row("TripoSplatPreprocessImage", foreign("TripoSplat"), size=SIDE),
    row("GenerateTracks", foreign("Wan Move"), num_frames=1),
    row("WanMoveTracksFromCoords", foreign("Wan Move")),
    row("LoadImage", needs("a file, and gives a MASK that is no model's")),
    row("LoadImageMask", needs("a file, and gives a MASK that is no model's")),
    row("LoadImageOutput", needs("a file, and gives a MASK that is no model's")),
    row("Painter", needs("a drawing of the page's")),
    row("MediaPipeFaceMask", needs(FACE)),
    row("RemoveBackground", needs("a background remover")),
    row("SAM3_TrackToMask", needs(FACE)),
    row("SCAIL2ColoredMask", needs(FACE)),
    row("Load3D", needs("a 3D file")),
    row("RenderSplat", needs("a splat")),
    row("WanDancerPadKeyframes", needs("a recording")),
    row("WanDancerPadKeyframesList", needs("a recording")),
]  # fmt: skip
