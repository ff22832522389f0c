"""The settings that every node has which asks the VLM for words."""

from __future__ import annotations

from comfy_api.latest import io


def max_length_input(default: int, tooltip: str = "Tokens of the answer, at most.") -> io.Int.Input:
    return io.Int.Input("max_length", default=default, min=1, max=32768, tooltip=tooltip)


def sampling_mode_input() -> io.DynamicCombo.Input:
    """Whether words are chosen by chance, and how: as ComfyUI's own Generate Text has it, but off by default."""
    return io.DynamicCombo.Input(
        "sampling_mode",
        display_name="Sampling Mode",
        tooltip="Off: always the likeliest word. On: chosen by chance, with these settings.",
        options=[
            io.DynamicCombo.Option("off", []),
            io.DynamicCombo.Option(
                "on",
                [
                    io.Float.Input(
                        "temperature",
                        default=0.7,
                        min=0.01,
                        max=2.0,
                        step=0.01,
                        tooltip="Higher: more surprising words.",
                    ),
                    io.Int.Input(
                        "top_k",
                        default=64,
                        min=0,
                        max=1000,
                        tooltip="Choose among this many likeliest words; 0: among all.",
                    ),
                    io.Float.Input(
                        "top_p",
                        default=0.95,
                        min=0.0,
                        max=1.0,
                        step=0.01,
                        tooltip="Choose among the likeliest words that together reach this probability.",
                    ),
                    io.Float.Input(
                        "min_p",
                        default=0.05,
                        min=0.0,
                        max=1.0,
                        step=0.01,
                        tooltip="Leave out words less likely than this part of the likeliest one.",
                    ),
                    io.Float.Input(
                        "repetition_penalty",
                        default=1.05,
                        min=0.01,
                        max=5.0,
                        step=0.01,
                        tooltip="Above 1: words already said become less likely.",
                    ),
                    io.Int.Input(
                        "seed",
                        default=0,
                        min=0,
                        max=0xFFFFFFFFFFFFFFFF,
                        tooltip="The same seed gives the same answer.",
                    ),
                ],
            ),
        ],
    )
