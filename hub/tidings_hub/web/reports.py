"""`GET /api/publications/<id>`: what became of a publication, and whether anything is still expected."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus

from flask import Response

from tidings.wire.reports import Report
from tidings_hub.web.models import Answered
from tidings_hub.web.responses import json_answer
from tidings_hub.web.schemas import CursorText

_AGAIN_S = "1"


class CountAnswer(Answered):
    """On one node: connections that it was written to, and how many of them acknowledged it."""

    recipients: int
    acks: int


class ReportAnswer(Answered):
    """What became of a publication so far, on all nodes and on each; `missing` live and did not answer."""

    id: str
    cursor: CursorText
    channel: str
    recipients: int
    acks: int
    nodes: dict[str, CountAnswer]
    missing: list[str]


def report_answer(report: Report) -> Response:
    """The report: 200, or 202 while something is still expected; then asking again is worth while."""
    answer = json_answer(ReportAnswer.model_validate(asdict(report)))
    if not report.settled:
        answer.status_code = HTTPStatus.ACCEPTED
        answer.headers["Retry-After"] = _AGAIN_S
    return answer
