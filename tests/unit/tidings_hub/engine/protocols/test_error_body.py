"""Error bodies of HTTP responses."""

from __future__ import annotations

import json

from tidings.codes import CODES
from tidings_hub.engine.protocols.error_body import error_json


def test_body_has_the_name_and_the_advice_of_the_code() -> None:
    assert json.loads(error_json("draining")) == {"code": "draining", "message": CODES["draining"].advice}
