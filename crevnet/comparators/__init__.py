"""The networks that CrevNet is measured against: one front, `unroll`, one file each."""
