"""The nano: its numbers, and the recipes of its VLM and VAE. The rest of it is trained as of any other model."""
