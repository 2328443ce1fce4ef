from __future__ import annotations

import pytest

from support.recording_hub import SECRET, Clock
from tidings.errors import TooFast, Unauthorized
from tidings.tokens import issue
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
