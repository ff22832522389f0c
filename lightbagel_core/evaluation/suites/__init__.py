"""The nano's own benches, in the layouts of the official ones; what is right is read off the pixels."""
