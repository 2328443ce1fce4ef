"""Error bodies of HTTP responses."""

from __future__ import annotations

import json

from tidings.codes import CODES
from tidings_hub.engine.protocols.error_body import api_error_json, error_json


def test_body_has_the_name_and_the_advice_of_the_code() -> None:
    assert json.loads(error_json("draining")) == {"code": "draining", "message": CODES["draining"].advice}


def test_api_body_has_the_same_in_error() -> None:
    assert json.loads(api_error_json("draining")) == {"error": json.loads(error_json("draining"))}
