"""What is done already, and of what: files that say which things they were made of."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def digest(*facts: Any) -> str:
    """Return a checksum of plain values."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def read_kept(path: Path, key: str) -> dict[str, Any] | None:
    """Return a kept file of a key; none where it is missing, damaged or of another one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("key") == key else None
