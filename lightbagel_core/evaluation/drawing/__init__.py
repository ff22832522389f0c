"""Draws what a bench asks for: batches, shared among processes, in the layout of its official scorer."""
