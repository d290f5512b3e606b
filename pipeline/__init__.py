"""Cities, days and frames: from release files and GPS points to windows, scores and maps.

This package never imports torch or Prefect.
"""
