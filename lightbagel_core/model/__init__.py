"""The paper: what LightBagel computes, and nothing else. Read in this order:

sequence       segments to token order, positions, and who sees whom
fusion         the multimodal self-attention that LightBagel adds
understanding  the VLM, read layer by layer
generation     the DiT, laid open after every block
forward        VLM, DiT and fusion as one model: the context first, then a velocity
packing        samples that begin alike, each token once
unsized        the VLM's states before a target's size is known
attention      which kernels compute it
vae            pictures to latents and back

docs/model.md says the same in words. Imports torch, transformers and diffusers; of ours only config.py.
"""
