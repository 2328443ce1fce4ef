from __future__ import annotations

import logging

import pytest

from support.recording_hub import SECRET, Clock
from tidings.errors import TooFast, Unauthorized
from tidings.tokens import issue
from tidings_hub.log import RateLimit
from tidings_hub.services.hub import Hub


class TestAuthentication:
    def test_a_client_without_a_valid_token_is_rejected(self, hub: Hub) -> None:
        for token in (None, "", "x", 7, {}):
            with pytest.raises(Unauthorized):
                hub.authenticator.authenticate(token, "here")
        assert hub.metrics.auth_failures["unauthorized"] == 5

    def test_an_address_with_many_invalid_tokens_is_throttled(self, hub: Hub, clock: Clock) -> None:
        for _ in range(60):
            with pytest.raises(Unauthorized):
                hub.authenticator.authenticate("x", "there")
        with pytest.raises(TooFast):
            hub.authenticator.authenticate("x", "there")
        good = issue("u", key=SECRET, now_s=clock.now_s)
        assert hub.authenticator.authenticate(good, "there").sub == "u"
        with pytest.raises(Unauthorized):
            hub.authenticator.authenticate("x", "elsewhere")
        assert hub.metrics.auth_throttled == 1

    def test_the_log_has_the_reason_once_a_minute(
        self, hub: Hub, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        forged = issue("u", key="f" * 32, kid="k7", now_s=clock.now_s)
        for _ in range(20):
            with pytest.raises(Unauthorized) as caught:
                hub.authenticator.authenticate(forged, "far")
            assert "k7" not in str(caught.value)
        lines = [record.getMessage() for record in caplog.records if record.name == "tidings.tokens"]
        assert lines == ["a token was rejected: its signature does not match the key 'k7'"]

    def test_the_log_names_every_other_reason_as_well(
        self, hub: Hub, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Other tests of this process may have written the same lines within this minute.
        monkeypatch.setattr("tidings_hub.log._LIMIT", RateLimit())
        caplog.set_level(logging.INFO, "tidings.tokens")
        expired = issue("u", key=SECRET, now_s=clock.now_s, expires_in_s=-90)
        for token in (None, expired, None, expired):
            with pytest.raises(Unauthorized):
                hub.authenticator.authenticate(token, "the-log")
        lines = [(record.levelname, record.getMessage().partition(": ")[2]) for record in caplog.records]
        assert lines == [
            ("WARNING", "the client sent none as a text in `auth`, or over /sse in its query or in Authorization"),
            ("INFO", "it expired 90 s ago"),
        ]

    def test_the_log_has_each_reason_that_clients_are_told_in_the_same_words(
        self, hub: Hub, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A scanner's token must not hide for a minute why those of an application are rejected."""
        monkeypatch.setattr("tidings_hub.log._LIMIT", RateLimit())
        wrong = [issue("u", key="w" * 32, kid=kid, now_s=clock.now_s) for kid in ("k1", "k2", None)]
        unsigned = "eyJhbGciOiJub25lIn0.e30.AA"
        messages = set()
        for token in (unsigned, *wrong, "one.two", "x.y.z"):
            with pytest.raises(Unauthorized) as caught:
                hub.authenticator.authenticate(token, "two-texts")
            messages.add(str(caught.value))
        assert len(messages) == 2
        assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
            "the algorithm 'none' is none of HS256, RS256, ES256, EdDSA",
            "its signature does not match the key 'k1'",
            "its signature is wrong",
            "it does not consist of three parts, separated by dots",
            "a part is not canonical base64url",
        ]
