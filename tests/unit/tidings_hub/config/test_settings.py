from __future__ import annotations

import json
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from support.vectors import FOLDER
from tidings.errors import BadConfig, Forbidden, UnknownNamespace
from tidings.tokens import Claims, issue
from tidings_hub.config.ingress import FlaskSocketio, Ingress, QueueSource
from tidings_hub.config.load import load
from tidings_hub.config.render import as_markdown, as_toml
from tidings_hub.config.settings import Settings
from tidings_hub.core.access import Subscribe
from tidings_hub.metrics import FIELDS
from tidings_hub.node.limits import broker_limits, engine_limits, engine_options

SECRET = "n7Qe2VYcB5sK0xTfM8rL1uJ9dWzHgA3p"
API_KEY = "Vb3kQ8wLz5Xr2NcT"
ROOT = FOLDER.parent.parent

pytestmark = pytest.mark.usefixtures("nowhere")


def error_message(env: dict[str, str] | None = None, **arguments: Any) -> str:
    with pytest.raises(BadConfig) as error:
        load(env=env, **arguments).settings.check_serving()
    message = str(error.value)
    assert "\n" not in message
    return message


def test_file_of_a_windows_editor_is_read(nowhere: Path) -> None:
    file = nowhere / "hub.toml"
    file.write_bytes(b'\xef\xbb\xbfport = 8001\r\nhost = "127.0.0.2"\r\n')
    settings = load(file=file, env={}).settings
    assert (settings.port, settings.host) == (8001, "127.0.0.2")


@pytest.mark.parametrize("variable", ["TIDINGS_SECRET", "TIDINGS_RELAY_SECRET", "TIDINGS_API_KEYS"])
@pytest.mark.parametrize("quoted", [f'"{SECRET}"', f"'{SECRET}'", f"""'["{SECRET}"]'"""])
def test_secret_in_quotes_is_rejected(variable: str, quoted: str) -> None:
    """`docker run --env-file` keeps them. Backends that read the secret elsewhere have it without quotes."""
    assert "it is in quotes" in error_message({variable: quoted})
    load(env={variable: f'{SECRET}"'})


def test_later_sources_win(nowhere: Path) -> None:
    file = nowhere / "hub.toml"
    file.write_text('port = 1\nhost = "127.0.0.2"\nhandlers = 5\n')
    loaded = load(file=file, env={"TIDINGS_PORT": "2", "TIDINGS_HOST": "127.0.0.3", "OTHER": "x"}, flags={"port": 3})
    assert (loaded.settings.port, loaded.settings.host, loaded.settings.handlers) == (3, "127.0.0.3", 5)
    assert loaded.origin == {"port": "flag", "host": "environment", "handlers": "file"}
    assert loaded.settings.max_batch == 100


def test_settings_file_is_found_by_name_variable_and_flag(nowhere: Path) -> None:
    assert load(env={}).file is None
    (nowhere / "tidings.toml").write_text("port = 7\n")
    assert load(env={}).settings.port == 7
    (nowhere / "other.toml").write_text("port = 8\n")
    assert load(env={"TIDINGS_CONFIG": "other.toml"}).settings.port == 8
    assert load(file=nowhere / "tidings.toml", env={"TIDINGS_CONFIG": "other.toml"}).settings.port == 7


def test_unknown_name_is_rejected_with_the_most_similar_one(nowhere: Path) -> None:
    assert "did you mean ping_interval_s?" in error_message({"TIDINGS_PING_INTERVAL": "1"})
    assert "did you mean port?" in error_message({}, flags={"prot": 1})
    for text, hint in (
        ("orgins = []", "did you mean origins?"),
        ("[namespaces.orders]\nhistry = 1", "did you mean history?"),
        ('[ingress.main]\nurl = "amqp://h"\nprefech = 1', "did you mean prefetch?"),
        ('[[keys]]\nkid = "a"\nsecrt = "x"', "did you mean secret?"),
        ("wholly_different = 1", "unknown setting wholly_different"),
    ):
        (nowhere / "tidings.toml").write_text(text)
        assert hint in error_message({})


def test_variable_in_lower_case_is_rejected() -> None:
    assert "TIDINGS_PORT" in error_message({"TIDINGS_port": "1"})


def test_variables_of_commands_are_not_settings() -> None:
    names = ("TIDINGS_URL", "TIDINGS_API_KEY", "TIDINGS_TOKEN")
    assert load(env=dict.fromkeys(names, "x")).origin == {}


def test_environment_variables_contain_lists_and_tables() -> None:
    settings = load(
        env={
            "TIDINGS_ORIGINS": "https://a.example, https://b.example",
            "TIDINGS_API_KEYS": json.dumps([API_KEY]),
            "TIDINGS_NAMESPACES": '{"orders": {"history": 5}}',
            "TIDINGS_TRUSTED_PROXIES": "10.0.0.0/8",
            "TIDINGS_DEV": "false",
        }
    ).settings
    assert settings.origins == ("https://a.example", "https://b.example")
    assert settings.api_keys[0].get_secret_value() == API_KEY
    assert settings.namespaces["orders"].history == 5
    assert "not JSON" in error_message({"TIDINGS_NAMESPACES": "{"})


@pytest.mark.parametrize(
    "text",
    ["port = ", "port = 70000", 'port = "x"', "= 1", "port = 1\nport = 2", "keys = 7", "namespaces = []", "\x00"],
)
def test_malformed_file_is_rejected(nowhere: Path, text: str) -> None:
    (nowhere / "tidings.toml").write_text(text)
    assert error_message({})


def test_unreadable_file_is_rejected(nowhere: Path) -> None:
    assert "none.toml" in error_message({}, file=nowhere / "none.toml")
    assert error_message({}, file=nowhere)
    (nowhere / "latin.toml").write_bytes(b'host = "\xff"')
    assert error_message({}, file=nowhere / "latin.toml")


@pytest.mark.parametrize(
    "settings",
    [
        {"port": -1},
        {"ping_interval_s": float("nan")},
        {"ping_interval_s": float("inf")},
        {"max_connections": 0},
        {"broker": "mysql://x"},
        {"broker": ""},
        {"broker": "redis+clusters://x"},
        {"prefix": ""},
        {"prefix": "a b"},
        {"node_id": "a b"},
        {"origins": ["shop.example"]},
        {"origins": ["null"]},
        {"trusted_proxies": ["10.0.0.1/8"]},
        {"trusted_proxies": ["everyone"]},
        {"namespaces": {"a b": {}}},
        {"ingress": {"a b": {"url": "amqp://h"}}},
        {"ingress": {"a": {}}},
        {"ingress": {"a": {"url": "redis://h"}}},
        {"ingress": {"a": {"url": "amqp://h/?que=x"}}},
        {"ingress": {"a": {"url": "amqp://h", "queue": "a b"}}},
        {"ingress": {"a": {"url": "amqp://h", "queue": "x", "dead_queue": "x"}}},
        {"ingress": {"a": {"url": "amqp://h", "prefetch": 0}}},
        {"ingress": {"a": {"url": "amqp://u:change-me@h"}}},
        {"namespaces": {"": {}}},
        {"namespaces": {"canary": {}}},
        {"namespaces": {"user": {"subscribe": "public"}}},
        {"namespaces": {"a": {"subscribe": "everybody"}}},
        {"keys": [{"kid": "a", "secret": SECRET}, {"kid": "a", "secret": SECRET[::-1]}]},
        {"keys": [{"kid": "a"}]},
        {"keys": [{"kid": "a", "secret": SECRET, "secret_env": "X"}]},
        {"keys": [{"algorithm": "RS256", "secret": SECRET}]},
        {"keys": [{"algorithm": "HS512", "secret": SECRET}]},
        {"keys": [{"algorithm": "HS256", "public_key": "x"}]},
        {"jwks": [{"url": "https://id.example/"}]},
        {"jwks": [{"issuer": "x"}]},
        {"jwks": [{"issuer": "x", "url": "https://id.example/", "file": "y"}]},
    ],
    ids=lambda settings: ascii(settings)[:60],
)
def test_value_out_of_bounds_is_rejected(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Settings(**settings)


PLACEHOLDERS = [
    "change-me-change-me-change-me-change-me",
    "CHANGEME" * 5,
    "your-256-bit-secret-your-256-bit-secret",
    "this-is-an-example-secret-of-32-bytes!",
    "x" * 40,
    "0" * 64,
    "placeholder-placeholder-placeholder",
    "insecure-insecure-insecure-insecure",
]


@pytest.mark.parametrize("secret", ["", "short", SECRET[:31], *PLACEHOLDERS])
def test_weak_or_placeholder_secret_is_rejected(secret: str) -> None:
    assert "secret" in error_message({"TIDINGS_SECRET": secret})
    message = error_message({"TIDINGS_KEYS": json.dumps([{"secret_env": "TIDINGS_KEY_A"}]), "TIDINGS_KEY_A": secret})
    assert secret[:12] not in message or not secret


@pytest.mark.parametrize("key", ["", "123456789012345", "change-me-change-me", "a" * 20])
def test_weak_api_key_is_rejected(key: str) -> None:
    assert error_message({"TIDINGS_API_KEYS": json.dumps([key])})


def test_broker_with_a_placeholder_password_is_rejected() -> None:
    broker = "redis://tidings:change-me-to-what-openssl-rand-hex-24-prints@redis:6379/0"
    message = error_message({"TIDINGS_BROKER": broker})
    assert "placeholder" in message
    assert "prints@" not in message
    assert Settings(broker=broker, dev=True).broker == broker
    assert Settings(broker="redis://tidings:4be1cf3b1ab0f3a7@change-me:6379/0").broker


def test_random_secrets_are_accepted() -> None:
    import base64
    import secrets

    for _ in range(200):
        for secret in (
            secrets.token_urlsafe(32),
            base64.b64encode(secrets.token_bytes(32)).decode(),
            secrets.token_hex(16),
        ):
            assert Settings(secret=secret).has_keys


def test_keys_are_read_from_the_entry_a_file_and_the_environment(nowhere: Path) -> None:
    (nowhere / "key").write_text(SECRET + "\n")
    settings = load(
        env={
            "TIDINGS_KEYS": json.dumps(
                [
                    {"kid": "f", "secret_file": "key"},
                    {"kid": "e", "secret_env": "TIDINGS_KEY_E"},
                    {"kid": "s", "secret": SECRET},
                ]
            ),
            "TIDINGS_KEY_E": SECRET,
            "TIDINGS_AUDIENCE": "hub",
        }
    ).settings
    keys = settings.key_set(env={"TIDINGS_KEY_E": SECRET})
    assert keys is not None
    for kid in ("f", "e", "s"):
        assert keys.verify(issue("ann", key=SECRET, kid=kid, audience="hub", now_s=1e9), now_s=1e9).sub == "ann"
    with pytest.raises(BadConfig, match="TIDINGS_KEY_E"):
        settings.key_set(env={})
    (nowhere / "key").unlink()
    with pytest.raises(BadConfig, match="key"):
        settings.key_set(env={"TIDINGS_KEY_E": SECRET})


@pytest.mark.parametrize(
    ("issuers", "handlers", "waiting_max"), [(1, 256, 16), (8, 256, 16), (16, 256, 8), (2, 8, 2), (9, 8, 1), (0, 1, 1)]
)
def test_waits_for_keys_take_at_most_half_of_the_handlers(issuers: int, handlers: int, waiting_max: int) -> None:
    jwks = [{"issuer": f"i{number}", "url": "https://id.example/"} for number in range(issuers)]
    settings = Settings.model_validate({"jwks": jwks, "handlers": handlers})
    assert settings.waiting_max_per_issuer == waiting_max


def test_serving_without_a_key_is_rejected_with_the_command_that_generates_one() -> None:
    message = error_message({})
    assert "openssl rand" in message
    assert "--dev" in message
    Settings(secret=SECRET).check_serving()
    Settings(dev=True).check_serving()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "hub.example", "", "localhost.evil.example"])
def test_dev_is_rejected_outside_loopback(host: str) -> None:
    assert "loopback" in error_message({"TIDINGS_DEV": "1", "TIDINGS_HOST": host})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_dev_on_loopback_is_an_insecure_option_with_open_rules(host: str) -> None:
    settings = Settings(dev=True, host=host)
    assert any("anonymous" in option for option in settings.insecure_options())
    assert settings.broker_rules()["*"].subscribe is Subscribe.PUBLIC
    settings.access().check_publish(Claims(sub="x"), "anything:1")
    with pytest.raises(Forbidden):
        settings.access().check_subscribe(Claims(sub="x", channels=("*",)), "user:y")


def test_mapped_address_of_a_proxy_is_one_of_ipv4() -> None:
    """As the log of a hub that listens on `::` shows it."""
    networks = Settings(trusted_proxies=("::ffff:10.0.0.7", "::ffff:10.1.0.0/112", "fc00::/7")).proxy_networks()
    assert [str(network) for network in networks] == ["10.0.0.7/32", "10.1.0.0/16", "fc00::/7"]


def test_every_unsafe_option_is_listed() -> None:
    assert Settings().insecure_options() == []
    assert "any page" in Settings(origins=("*",)).insecure_options()[0]
    for network in ("0.0.0.0/0", "::/0", "128.0.0.0/1", "::ffff:0:0/96"):
        for host in ("0.0.0.0", "127.0.0.1"):
            proxies = ("10.0.0.0/8", network)
            (text,) = Settings(host=host, trusted_proxies=proxies).insecure_options()
            assert text.startswith(f"trusted_proxies: {network} trusts forwarded headers from any address")
    assert Settings(host="0.0.0.0", trusted_proxies=("10.0.0.0/8", "fc00::/7")).insecure_options() == []


def test_defaults_are_safe() -> None:
    settings = Settings()
    assert settings.host == "127.0.0.1"
    assert not settings.dev
    assert settings.key_set() is None
    assert list(settings.rules()) == ["user"]
    assert "*" not in settings.broker_rules()
    with pytest.raises(UnknownNamespace):
        settings.access().check_subscribe(Claims(sub="x", channels=("*",)), "orders:1")


def test_node_id_is_random_by_default() -> None:
    names = {Settings().node_id for _ in range(10)} | {Settings(node_id="").node_id for _ in range(10)}
    assert len(names) > 15
    assert Settings(node_id="n1").node_id == "n1"


def test_settings_are_immutable() -> None:
    with pytest.raises(ValueError):
        Settings().port = 1  # type: ignore[misc]


def test_ingress_is_read_from_the_environment() -> None:
    settings = load(env={"TIDINGS_INGRESS": '{"main": {"url": "amqp://u:pw@h/shop?queue=x"}}'}).settings
    source = settings.ingress.queues["main"]
    assert (str(source.address()), source.address().queue) == ("amqp://h:5672/shop", "x")
    assert source.dead_letter_queue_name("x") == "x.dead"
    named = QueueSource(url="amqp://h/?queue=x", queue="y", dead_queue="z")
    assert (named.address().queue, named.dead_letter_queue_name("y")) == ("y", "z")
    settings = Settings(dev=True, ingress=Ingress.model_validate({"main": {"url": "kombu+nosuch://h"}}))
    with pytest.raises(BadConfig, match="no transport"):
        settings.check_serving()


def test_secrets_are_masked_everywhere(nowhere: Path) -> None:
    file = nowhere / "tidings.toml"
    file.write_text(
        f'secret = "{SECRET}"\napi_keys = ["{API_KEY}"]\nbroker = "redis://ann:{SECRET}@h:1/0"\n'
        f'[[keys]]\nkid = "k"\nsecret = "{SECRET}"\n[namespaces.orders]\nhistory = 3\n'
        f'[ingress.main]\nurl = "amqp://ann:{SECRET}@h/shop"\n'
    )
    loaded = load(env={})
    for text in (as_toml(loaded), repr(loaded), str(loaded.settings), repr(loaded.settings.keys)):
        assert SECRET not in text
        assert API_KEY not in text
    file.write_text(f'secret = "{SECRET}"\nport = "{SECRET}"\nprefix = "{SECRET} "\nnode_id = "a b {SECRET}"\n')
    assert SECRET not in error_message({})


def test_print_config_is_toml_with_the_origin_of_each_setting(nowhere: Path) -> None:
    (nowhere / "tidings.toml").write_text(
        'port = 9\n[namespaces.orders]\nsubscribe = "public"\n[ingress.main]\nurl = "amqp://ann:pw@h/shop"\n'
    )
    text = as_toml(load(env={"TIDINGS_HOST": "::1", "TIDINGS_ORIGINS": "https://a.example"}, flags={"max_batch": 7}))
    parsed = tomllib.loads(text)
    assert (parsed["port"], parsed["host"], parsed["max_batch"], parsed["origins"]) == (
        9,
        "::1",
        7,
        ["https://a.example"],
    )
    assert parsed["namespaces"]["orders"]["subscribe"] == "public"
    assert parsed["ingress"]["main"]["url"] == "amqp://ann:***@h/shop"
    for line in (
        "port = 9  # file",
        'host = "::1"  # environment',
        "max_batch = 7  # flag",
        "backlog = 4096  # default",
    ):
        assert line in text.splitlines()
    assert set(parsed) | {"secret", "relay_secret", "namespaces"} == set(Settings.model_fields)


def test_documentation_matches_the_models() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == as_markdown(), "run `make docs`"


def test_every_policy_has_a_metric() -> None:
    without_metric = [
        name
        for name, field in Settings.model_fields.items()
        if isinstance(extra := field.json_schema_extra, dict) and extra.get("policy") and not extra.get("metric")
    ]
    assert without_metric == []


def test_every_limit_of_engine_and_broker_is_a_setting() -> None:
    """If every numeric setting differs from its default, then every limit differs from its default too."""
    changed: dict[str, Any] = {"trusted_proxies": ("10.0.0.0/8",), "origins": ("*",)}
    for name, field in Settings.model_fields.items():
        if type(field.default) in (int, float):
            changed[name] = field.default + 7
    changed["publication_max_bytes"] += 13
    changed["commands_without_epoch"] = False
    settings = Settings(**changed)
    for limits, defaults in (
        (engine_limits(settings), engine_limits(Settings())),
        (broker_limits(settings), broker_limits(Settings())),
        (engine_options(settings), engine_options(Settings())),
    ):
        unchanged = [
            field.name for field in fields(limits) if getattr(limits, field.name) == getattr(defaults, field.name)
        ]
        assert unchanged == []


AT_LEAST_TWO_PUBLICATIONS = (
    *("link_max_bytes", "held_max_bytes", "repair_max_bytes", "recovery_max_bytes", "publish_burst_bytes"),
)


@pytest.mark.parametrize("name", AT_LEAST_TWO_PUBLICATIONS)
def test_limit_below_two_publications_is_rejected(name: str) -> None:
    enough = dict.fromkeys(AT_LEAST_TWO_PUBLICATIONS, 33_554_432)
    Settings(publication_max_bytes=16_777_216, **enough)
    with pytest.raises(ValueError, match=name):
        Settings(publication_max_bytes=16_777_216, **{**enough, name: 33_554_431})


def test_every_setting_is_documented_and_counted() -> None:
    text = as_markdown()
    for name, field in Settings.model_fields.items():
        assert f"| `{name}` |" in text
        assert field.description
        extra = field.json_schema_extra or {}
        assert isinstance(extra, dict)
        metric = str(extra.get("metric") or "")
        assert not metric or metric in FIELDS, f"{name} names the metric {metric}, which does not exist"
        if isinstance(field.default, float):
            assert name.endswith("_s"), f"{name} needs its unit in its name"


@pytest.mark.parametrize("advertise", ["10.0.0.5", ":8000", "host:", "host:99999", "host:x"])
def test_advertised_address_needs_a_host_and_a_port(advertise: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        Settings(advertise=advertise)
    with pytest.raises(ValueError, match="every address"):
        Settings(advertise="0.0.0.0:8000")
    assert Settings(advertise="[::1]:8000").advertise == "[::1]:8000"


def test_relay_secrets_start_with_the_one_that_signs() -> None:
    other = SECRET[::-1]
    assert Settings().relay_secrets() == []
    assert Settings(secret=SECRET).relay_secrets() == [SECRET]
    two_secrets = Settings(secret=SECRET, keys=[{"kid": "a", "secret_env": "A"}])
    assert two_secrets.relay_secrets(env={"A": other}) == [SECRET, other]
    assert Settings(secret=SECRET, relay_secret=other).relay_secrets() == [other]


def test_relay_needs_a_secret_and_workers_need_redis() -> None:
    with pytest.raises(BadConfig, match="relay_secret"):
        Settings(dev=True, advertise="10.0.0.5:8000").check_serving()

    with pytest.raises(BadConfig, match="workers need Redis"):
        Settings(secret=SECRET, workers=2).check_serving()
    Settings(secret=SECRET, workers=2, advertise="10.0.0.5:8000", broker="redis://127.0.0.1").check_serving()


def test_serving_needs_an_address_of_the_notification_service() -> None:
    options = {"database": "sqlite:///n.db", "listen": "127.0.0.1:0"}
    with pytest.raises(BadConfig, match="name a port"):
        Settings(dev=True, notifications=options).check_serving()
    Settings(dev=True, notifications=options | {"url": "http://127.0.0.1:8010"}).check_serving()


PUSHER = f'[ingress.pusher]\napp_id = "42"\nkey = "k"\nsecret = "{SECRET}"\n'


def test_compatibility_formats_are_off_unless_they_are_named(nowhere: Path) -> None:
    assert load(env={}).settings.ingress.pusher is None
    (nowhere / "tidings.toml").write_text(PUSHER + 'prefixes = { "private-" = "orders:" }\n')
    loaded = load(env={})
    assert loaded.settings.ingress.pusher is not None
    assert loaded.settings.ingress.pusher.credentials().secret == SECRET
    text = as_toml(loaded)
    table = tomllib.loads(text)["ingress"]["pusher"]
    assert table == {
        "namespace": "pusher",
        "prefixes": {"private-": "orders:"},
        "app_id": "42",
        "key": "k",
        "secret": "***",
    }
    assert SECRET not in text + repr(loaded.settings)


def test_true_enables_a_format_with_its_defaults(nowhere: Path) -> None:
    (nowhere / "tidings.toml").write_text("[ingress]\nsocketio_emitter = true\nflask_socketio = false\n")
    ingress = load(env={}).settings.ingress
    assert list(ingress.pubsub_sources()) == ["socketio_emitter"]
    assert ingress.socketio_emitter is not None
    assert ingress.socketio_emitter.channels().patterns()[0] == b"socket.io#/#*"


@pytest.mark.parametrize(
    ("broker", "url", "is_valid"),
    [
        ("memory://", "", False),
        ("redis+cluster://h:1", "", False),
        ("redis://h:1", "", True),
        ("redis+sentinel://h:1/s", "", True),
        ("memory://", "redis://h:1", True),
        ("redis+cluster://h:1", "rediss://h:1", True),
    ],
)
def test_pubsub_format_needs_a_single_redis(broker: str, url: str, is_valid: bool) -> None:
    ingress = Ingress(flask_socketio=FlaskSocketio(url=url))
    settings = Settings(dev=True, broker=broker, ingress=ingress)
    if is_valid:
        settings.check_serving()
    else:
        with pytest.raises(BadConfig, match="flask_socketio needs a single Redis"):
            settings.check_serving()


def test_password_in_the_url_of_a_format_is_masked(nowhere: Path) -> None:
    (nowhere / "tidings.toml").write_text(f'[ingress.flask_socketio]\nurl = "redis://ann:{SECRET}@h:1/0"\n')
    loaded = load(env={})
    assert SECRET not in as_toml(loaded) + repr(loaded.settings)


def test_format_is_read_from_the_environment() -> None:
    table = json.dumps({"pusher": {"app_id": "42", "key": "k", "secret": SECRET}})
    pusher = load(env={"TIDINGS_INGRESS": table}).settings.ingress.pusher
    assert pusher is not None
    assert pusher.app_id == "42"


def test_wrong_settings_of_a_format_are_rejected(nowhere: Path) -> None:
    for text, expected in (
        ('[ingress.pusher]\napp_id = "42"\n', "needs app_id"),
        (PUSHER.replace(SECRET, "short"), "fewer than 16 bytes"),
        (PUSHER.replace(SECRET, "change-me-change-me"), "placeholder"),
        (PUSHER.replace('"42"', '"4/2"'), "needs app_id"),
        (PUSHER + 'namespce = "x"\n', "did you mean namespace?"),
        (PUSHER + 'namespace = "a b"\n', "a namespace is"),
        (PUSHER + 'prefixes = { "" = "x:" }\n', "empty prefix"),
        (PUSHER.replace("pusher", "pushr"), "did you mean pusher?"),
        ('[ingress.socketio_emitter]\nkey = "a*"\n', "key is"),
        ('[ingress.socketio_emitter]\nnsp = "/[ab]"\n', "key is"),
        ('[ingress.socketio_emitter]\nkye = "a"\n', "did you mean key?"),
        ("[ingress.flask_socketio]\nchannels = []\n", "at least one channel"),
        ('[ingress.flask_socketio]\nchannels = ["a?"]\n', "at least one channel"),
    ):
        (nowhere / "tidings.toml").write_text(text)
        message = error_message({})
        assert expected in message
        assert SECRET not in message


@pytest.mark.parametrize(
    "settings",
    [
        {"broker": "redis://h/0?client_nam=x"},
        {"broker": "redis+sentinel://h/main?sentinel_pasword=x"},
        {"broker": "rediss+cluster://h?ssl_ca_cert=x"},
        {"ingress": {"flask_socketio": {"url": "redis://h?ssl_ca_certs=/x"}}},
        {"ingress": {"shop": {"url": "amqp://h?queu=x"}}},
    ],
    ids=repr,
)
def test_wrong_option_of_a_url_is_an_error_of_the_settings(settings: dict[str, Any]) -> None:
    with pytest.raises((BadConfig, ValueError), match="unknown option"):
        Settings.model_validate({"secret": SECRET, **settings}).check_serving()


@pytest.mark.parametrize(
    "settings",
    [
        *({"broker": url} for url in ("redis://a..b", "redis+cluster://a..b", "redis+sentinel://a..b/main")),
        {"ingress": {"flask_socketio": {"url": "redis://a..b"}}},
        {"ingress": {"shop": {"url": "amqp://a..b"}}},
        {"hooks": {"events": ["connect"], "url": "https://a..b/", "secret": SECRET}},
    ],
    ids=repr,
)
def test_host_that_cannot_exist_is_an_error_of_the_settings(settings: dict[str, Any]) -> None:
    with pytest.raises((BadConfig, ValueError)):
        Settings.model_validate({"secret": SECRET, **settings}).check_serving()
