"""lmms-eval's way to `describe`: the VLM under the understanding benches."""
