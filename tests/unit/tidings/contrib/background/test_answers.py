from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tidings.contrib.background.answers import (
    accepted,
    prefers_async,
    refusal,
    response_of,
    state_of,
    stored_headers,
)
from tidings.contrib.background.job import Failure, Job, JobState, StoredResponse
from tidings.errors import Full, NotFound, TidingsError, TooFast, TooLarge, Unauthorized, Unavailable

JOB = Job("7f", "ann", "shop.report", "/tidings/jobs/7f", state=JobState.RUNNING, progress=0.4, message="rendering")


def header(response: StoredResponse, name: str) -> str | None:
    return dict(response.headers).get(name)


def test_job_that_has_not_ended_is_202_with_its_progress() -> None:
    for response in (accepted(JOB), response_of(JOB), state_of(JOB)):
        assert response.status == 202
        assert header(response, "Location") == "/tidings/jobs/7f"
        assert header(response, "Retry-After") == "1"
        assert header(response, "Tidings-Job") == "running"
        assert json.loads(response.body) == {
            "id": "7f",
            "location": "/tidings/jobs/7f",
            "state": "running",
            "progress": 0.4,
            "message": "rendering",
        }


def test_applied_preference_is_confirmed() -> None:
    assert header(accepted(JOB, applied=True), "Preference-Applied") == "respond-async"
    assert header(accepted(JOB), "Preference-Applied") is None


def test_ended_job_is_the_response_of_its_view() -> None:
    headers = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Cache-Control", "max-age=9")]
    own = StoredResponse(303, headers, b"body")
    response = response_of(replace(JOB, state=JobState.DONE, response=own))
    assert response == StoredResponse(303, [*headers, ("Tidings-Job", "done")], b"body")
    assert state_of(replace(JOB, state=JobState.DONE, response=own)).status == 200


def test_response_of_a_view_is_not_cached_unless_it_says_so() -> None:
    response = response_of(replace(JOB, state=JobState.DONE, response=StoredResponse(204, [], b"")))
    assert header(response, "Cache-Control") == "no-store"


def test_failed_job_is_500_with_the_id_of_the_log() -> None:
    failed = replace(JOB, state=JobState.FAILED, failure=Failure("internal", "It failed.", "5f3a"))
    response = response_of(failed)
    assert response.status == 500
    assert json.loads(response.body) == {"code": "internal", "message": "It failed.", "error_id": "5f3a"}


def test_cancelled_job_is_gone() -> None:
    response = response_of(replace(JOB, state=JobState.CANCELLED))
    assert (response.status, json.loads(response.body)["code"]) == (410, "cancelled")


@pytest.mark.parametrize(
    ("error", "status", "can_retry"),
    [
        (Unauthorized(), 401, False),
        (NotFound(), 404, False),
        (TooLarge(), 413, False),
        (TooFast(), 429, True),
        (Full(), 503, True),
        (Unavailable(), 503, True),
    ],
)
def test_refusals_have_a_status_and_say_when_to_try_again(error: TidingsError, status: int, can_retry: bool) -> None:
    response = refusal(error)
    assert response.status == status
    assert (header(response, "Retry-After") is not None) == can_retry
    assert json.loads(response.body) == error.to_wire()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("respond-async", True),
        ("Respond-Async, wait=10", True),
        ("return=minimal, respond-async; x=1", True),
        ("wait=10", False),
        ("respond-async=", False),
        ("x-respond-async", False),
        ("", False),
        (None, False),
    ],
)
def test_preference_is_recognized(value: str | None, expected: bool) -> None:
    assert prefers_async(value) == expected


def test_headers_of_the_connection_are_not_stored() -> None:
    headers = [("Content-Type", "text/csv"), ("Content-Length", "3"), ("connection", "close"), ("Date", "now")]
    assert stored_headers(headers) == [("Content-Type", "text/csv")]
