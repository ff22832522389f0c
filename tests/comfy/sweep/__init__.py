"""Every stock node with a socket of ours in its natural place on the nano: what is expected of it, and what it does."""
