"""Clips, whatever they come from: every source looks the same to training and scoring."""

from pipeline.sources.clips import Clip, ClipSource
from pipeline.sources.traffic import TrafficSource, windows_dataset

__all__ = ["Clip", "ClipSource", "TrafficSource", "windows_dataset"]
