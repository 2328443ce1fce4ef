from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tidings.errors import BadConfig
from tidings_hub.config.load import load
from tidings_hub.config.web_push import WebPush


def web_push(**fields: Any) -> WebPush:
    return WebPush(**({"vapid_key_file": "vapid.pem", "contact": "mailto:ops@shop.example"} | fields))


def test_web_push_is_off_by_default() -> None:
    assert not WebPush().is_enabled
    assert web_push().is_enabled


@pytest.mark.parametrize(
    "contact",
    [
        "mailto:ops@shop.example",
        "mailto:a.b+c@sub.shop.example",
        "https://shop.example",
        "https://shop.example/contact",
    ],
)
def test_real_contacts_are_accepted(contact: str) -> None:
    assert web_push(contact=contact).contact == contact


@pytest.mark.parametrize(
    "contact",
    [
        *(
            "ops@shop.example",
            "mailto:ops",
            "mailto:@shop.example",
            "mailto:<ops@shop.example>",
            "mailto: ops@x.example",
        ),
        *("mailto:ops@localhost", "mailto:ops@10.0.0.1", "mailto:ops@db.internal", "mailto:ops@host.local"),
        *(
            "http://shop.example",
            "https://localhost/x",
            "https://127.0.0.1",
            "https://[::1]/",
            "https://user@shop.example",
        ),
        *("https://shöp.example", "https://", "tel:123"),
    ],
)
def test_contact_that_push_services_refuse_is_an_error(contact: str) -> None:
    with pytest.raises(ValidationError, match="contact"):
        web_push(contact=contact)


@pytest.mark.parametrize("fields", [{"contact": ""}, {"vapid_key_file": ""}])
def test_key_and_contact_belong_together(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="both vapid_key_file and contact"):
        web_push(**fields)


@pytest.mark.parametrize("hosts", [[], ["https://push.example"], ["*"], ["*.*.example"], ["push example"], [""]])
def test_hosts_are_names(hosts: list[str]) -> None:
    with pytest.raises(ValidationError, match="hosts"):
        web_push(hosts=hosts)


def test_table_is_read_and_a_misspelled_name_has_a_suggestion(tmp_path: Path) -> None:
    file = tmp_path / "tidings.toml"
    text = '[notifications.web_push]\nvapid_key_file = "v.pem"\ncontact = "mailto:ops@shop.example"\n'
    file.write_text(text + "subscriptions_max = 3\n")
    assert load(file=file, env={}).settings.notifications.web_push.subscriptions_max == 3
    file.write_text(text + "subscription_max = 3\n")
    with pytest.raises(BadConfig, match=r"web_push\.subscription_max.*did you mean subscriptions_max"):
        load(file=file, env={})
