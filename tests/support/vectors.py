"""The golden examples in tests/vectors, which the JavaScript tests read as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "vectors"


def examples(name: str) -> Any:
    """Load one file of examples."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
