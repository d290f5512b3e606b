"""KITTI objects: labels and detections as text, and average precision by the official rules."""
