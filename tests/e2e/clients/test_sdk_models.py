"""The SDK's list shows what the database of a SQLAlchemy backend has, whatever kind of version its models have."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import expect
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from support.browsers.chromium import chromium
from support.processes.hub import API_KEY, HubProcess, token
from support.programs.web_page import serve_pages
from tidings import Emitter
from tidings.contrib.sqlalchemy import autopush

TIMEOUT_MS = 30_000
PAGE = """<!doctype html>
<ul id="counted"></ul><ul id="timed"></ul>
<script src="HUB/tidings.js"></script>
<script>
  const text = async (path) => (await fetch(path)).text();
  const hub = tidings.connect("HUB", { getToken: () => text("/token") });
  for (const name of ["Counted", "Timed"]) {
    const id = name.toLowerCase();
    const load = async () => JSON.parse(await text(`/${id}`));
    hub.collection(name, { channel: `orders:${id}`, load }).subscribe(({ items }) => {
      const rows = items.map((row) => Object.assign(document.createElement("li"), { textContent: row.title }));
      document.querySelector(`#${id}`).replaceChildren(...rows);
    });
  }
</script>"""


class Base(DeclarativeBase):
    def to_dict(self) -> dict[str, object]:
        return {column.key: getattr(self, column.key) for column in sa.inspect(type(self)).column_attrs}


class Counted(Base):
    __tablename__ = "counted"
    __channels__ = "orders:counted"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str | None]
    turn: Mapped[int] = mapped_column()
    updated_at: Mapped[datetime]
    __mapper_args__ = {"version_id_col": turn}  # noqa: RUF012


class Timed(Base):
    __tablename__ = "timed"
    __channels__ = "orders:timed"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str | None]
    updated_at: Mapped[datetime]


def push(hub: HubProcess, key: int, title: str, version: int, kind: str) -> None:
    """Publish a row of `Counted` with another version."""
    data = {"class": "Counted", "model": {"id": key, "title": title}, "op": "updated"}
    hub.publish("orders:counted", "updated_model", data | {"version": version, "version_kind": kind})


@pytest.mark.timeout(120)
def test_lists_follow_counters_and_backends_with_a_wrong_clock(tmp_path: Path) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'shop.db'}", poolclass=sa.NullPool)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all([Counted(id=1, title="Tea", updated_at=now), Timed(id=1, title="Tea", updated_at=now)])

    def rows(model: type[Base]) -> Callable[[], str]:
        def page() -> str:
            with Session(engine) as session:
                return json.dumps([row.to_dict() for row in session.scalars(sa.select(model))], default=str)

        return page

    files: dict[str, Callable[[], str]] = {
        "/token": lambda: token("7", "orders:*"),
        "/counted": rows(Counted),
        "/timed": rows(Timed),
    }
    maker = sessionmaker(engine)
    with serve_pages(files) as origin, chromium() as browser:
        hub = HubProcess(tmp_path, extra=f'origins = ["{origin}"]\n').start()
        try:
            files["/"] = lambda: PAGE.replace("HUB", hub.url)
            page = browser.new_page()
            warnings: list[str] = []
            page.on("console", lambda message: warnings.append(message.text) if message.type == "warning" else None)
            page.goto(origin)
            counted, timed = page.locator("#counted li"), page.locator("#timed li")
            for shown in (counted, timed):
                expect(shown).to_have_text(["Tea"], timeout=TIMEOUT_MS)
            page.wait_for_function("() => hub.channel('orders:timed').state === 'subscribed'")
            with Emitter(hub.url, api_key=API_KEY) as emitter:
                autopush(maker, emitter)
                with maker.begin() as session:
                    session.get_one(Counted, 1).title = "Green tea"
                    # A backend whose clock is behind.
                    late = session.get_one(Timed, 1)
                    late.title, late.updated_at = "Mint tea", now - timedelta(seconds=60)
                    session.add(Timed(id=2, updated_at=now))
                expect(counted).to_have_text(["Green tea"], timeout=TIMEOUT_MS)
                expect(timed).to_have_text(["Mint tea", ""], timeout=TIMEOUT_MS)
            # An old push, one of another row, and one of an unlike kind.
            push(hub, 1, "Old tea", 1, "field:turn")
            push(hub, 2, "Oolong", 1, "given")
            expect(counted).to_have_text(["Green tea", "Oolong"], timeout=TIMEOUT_MS)
            assert warnings == []
            push(hub, 1, "Last tea", 1, "given")
            expect(counted).to_have_text(["Last tea", "Oolong"], timeout=TIMEOUT_MS)
            assert [text for text in warnings if "versions of Counted cannot be compared" in text] == warnings != []
        finally:
            hub.stop()
