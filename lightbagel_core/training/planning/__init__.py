"""What a training would need, from shapes alone: `dry_run` is the door.

To read in this order: `tokens` and `portions` (what a step holds), `needs` and `activations` (bytes), `operations`,
`stage_plan` (one stage's plan of all these), `fit` (what would make it fit a card), `plan_table`.
"""
