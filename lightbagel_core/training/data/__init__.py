"""What is learned from: examples, the mix of their sets, and the samples that the model sees of them."""
