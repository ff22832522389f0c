"""How the nano was made: its world, its three training stages, and the checker that scores it."""
