"""`GET /api/publications/<id>`: the delivery report of a publication."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus

from flask import Response

from tidings.wire.reports import Report
from tidings_hub.web.response_models import ResponseModel
from tidings_hub.web.responses import json_response
from tidings_hub.web.schemas import CursorText

_RETRY_AFTER_S = "1"


class NodeReportResponse(ResponseModel, title="CountAnswer"):
    """On one node: how many connections the publication was written to, and how many of them acknowledged it."""

    recipients: int
    acks: int


class ReportResponse(ResponseModel, title="ReportAnswer"):
    """Deliveries of a publication so far, in total and per node. `missing`: live nodes that did not reply."""

    id: str
    cursor: CursorText
    channel: str
    recipients: int
    acks: int
    nodes: dict[str, NodeReportResponse]
    missing: list[str]


def report_response(report: Report) -> Response:
    """The response for a report: 200 if it is final, 202 with `Retry-After` if its counts may still grow."""
    response = json_response(ReportResponse.model_validate(asdict(report)))
    if not report.settled:
        response.status_code = HTTPStatus.ACCEPTED
        response.headers["Retry-After"] = _RETRY_AFTER_S
    return response
