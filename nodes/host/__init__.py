"""LightBagel's model behind ComfyUI's sockets. Imported when a node first runs, with transformers and diffusers."""
