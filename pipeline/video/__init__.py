"""A camera's drives: folders of pictures and .seq files, cut as PredNet cuts them, and stored."""
