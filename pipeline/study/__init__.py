"""A blind study: can a person tell what came from what was forecast? Section 3.1 of the paper."""
