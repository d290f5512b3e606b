"""`t4c VERB [CONFIG]`: starts at once; what a verb needs is imported when it runs."""

from __future__ import annotations

import os

from flows import data_verbs, look_verbs, model_verbs, serving_verbs
from flows.command import app

__all__ = ["app", "data_verbs", "look_verbs", "main", "model_verbs", "serving_verbs"]


def main() -> None:
    """Run the command line."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's threads rest where cores are few
    app()
