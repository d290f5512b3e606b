"""A detection head on the features of a CrevNet that learns no more."""
