"""Asks a judge: a model behind an OpenAI-compatible endpoint that grades pictures."""
