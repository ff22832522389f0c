"""The VLM as a language model: prompts rewritten, thoughts, plans."""
