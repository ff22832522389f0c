"""What is measured and not tested. Every command runs on the CPU with the nano, a CUDA device gets the real size.

| table in the documents | command: `python -m benchmarks.…` |
| --- | --- |
| converting: time and memory beside a plain copy | `load convert` |
| opening the 7B + 5B model: weights, mapped, own memory | `load open --real` |
| what a precision costs | `quality precision` |
| which card: weights and what lives beside them | `memory` |
| a step over a plain Wan's, with the operations predicted | `step --threads 1`, `step --threads 2` |
| naive over ours, text to image and edit | `run generate --threads 1`, `run edit --threads 1`; 2 |
| a step in ComfyUI over the command line's, what the pack adds | `step --comfyui PATH --sizes 128 256 512` |
| what compiling gives | `step --compile` beside `step` |
| fewer, cheaper steps | `quality steps` |
| the same in ComfyUI, EasyCache | `quality easycache --comfyui PATH` |
| describing beside the stock processor and model | `run describe --counts 1 8` |
| drawing a bench: pictures a second, what the bench adds | `benches --threads 1` |
| a step before and after a change | `step --against TREE [--comfyui PATH]` |
| how often the reader of the nano's pictures errs | `reader` |

What pictures come out right of the nano is `lightbagel bench run nano`. Times are compared as ratios
taken in turns (A, B, A, B) in one run. Operations are counted in flops.py; the core's inside is used in core.py alone.
"""
