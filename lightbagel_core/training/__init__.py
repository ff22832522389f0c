"""Training, on torch's own engines, from one process to many; docs/trainer.md says how it works.

In reading order: `stages` and `config_file` (what a run is told), `running` and `one_stage` (stages in order, one of
them), `assembly` (what a stage works on), `trainer` (the loop), `drawing_recipe` and `loss` (the paper's), `data/`
(examples, batches, caches), `loading` and `parallel` (sharded weights, engines), `checkpoints`, `validation`.
`planning/` is the dry run: what all that would need. `nano/` holds what only the nano needs: its numbers, and the
recipes of its VLM and VAE.
"""
