"""Parts of the Moving MNIST benchmark: what is typed, read, trained, scored, measured, reported."""
