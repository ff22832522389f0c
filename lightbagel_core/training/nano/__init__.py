"""The nano: its world, and the three recipes that make it. python -m lightbagel_core.training.nano --out DIR"""
