"""The checker of histories finds every kind of violation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.history import Recorder, check
from tidings.errors import Unavailable
from tidings.receipts import Receipt

CHANNEL = "orders:1"


class Story:
    def __init__(self, path: Path) -> None:
        self.recorder = Recorder(path)

    def publish(self, cursor: str) -> None:
        id = f"id-{cursor}"
        self.recorder.note("backend", "sending", CHANNEL, id=id)
        self.recorder.acked("backend", CHANNEL, id, Receipt(id, cursor))

    def note(self, do: str, cursor: str, *, actor: str = "client", **more: object) -> None:
        self.recorder.note(actor, do, CHANNEL, **{"id": f"id-{cursor}", "cursor": cursor, **more})

    def problems(self, *, is_complete: bool = False) -> list[str]:
        self.recorder.close()
        return check(self.recorder.path, is_complete=is_complete)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    story = Story(tmp_path / "history.jsonl")
    story.note("subscribed", "e.1")
    return story


def test_complete_history_is_accepted(story: Story) -> None:
    for cursor in ("e.2", "e.3"):
        story.publish(cursor)
        story.note("got", cursor)
    story.recorder.acked("backend", CHANNEL, "x", Unavailable())
    assert story.problems() == []


def test_publications_before_the_subscription_are_not_missed(story: Story) -> None:
    story.publish("e.1")
    assert story.problems() == []


def test_publications_after_an_unsubscribe_are_not_missed(story: Story) -> None:
    story.note("left", "e.1")
    story.publish("e.2")
    assert story.problems() == []


@pytest.mark.parametrize("received", [(), ("e.2",), ("e.4",), ("e.2", "e.4")])
def test_missing_publications_are_found(story: Story, received: tuple[str, ...]) -> None:
    for cursor in ("e.2", "e.3", "e.4"):
        story.publish(cursor)
    for cursor in received:
        story.note("got", cursor)
    assert len(story.problems()) == 3 - len(received)


def test_loss_reported_in_its_place_is_accepted(story: Story) -> None:
    for cursor in ("e.2", "e.3", "e.4"):
        story.publish(cursor)
    story.note("got", "e.2")
    story.note("lost", "e.3")
    story.note("got", "e.4")
    assert story.problems() == []


@pytest.mark.parametrize("place", ["before", "after"])
def test_loss_reported_in_another_place_is_a_problem(story: Story, place: str) -> None:
    for cursor in ("e.2", "e.3", "e.4", "e.5"):
        story.publish(cursor)
    if place == "before":
        story.note("lost", "e.1")
    story.note("got", "e.2")
    story.note("got", "e.4")
    if place == "after":
        story.note("lost", "e.4")
    story.note("got", "e.5")
    assert len(story.problems()) == 1


def test_loss_reported_before_the_publish_is_a_problem(story: Story) -> None:
    story.note("lost", "e.1")
    story.publish("e.2")
    assert len(story.problems()) == 1


def test_repeated_publication_is_found(story: Story) -> None:
    story.publish("e.2")
    story.note("got", "e.2")
    story.note("got", "e.2")
    assert "twice" in story.problems()[0]


def test_wrong_order_is_found(story: Story) -> None:
    for cursor in ("e.2", "e.3"):
        story.publish(cursor)
    story.note("got", "e.3")
    story.note("got", "e.2")
    assert "came after" in story.problems()[0]


def test_new_epoch_without_a_reported_loss_is_found(story: Story) -> None:
    for cursor in ("e.2", "f.3"):
        story.publish(cursor)
        story.note("got", cursor)
    assert "epoch" in story.problems()[0]


def test_publication_without_a_receipt_is_missed_if_another_client_received_it(story: Story) -> None:
    story.recorder.note("backend", "sending", CHANNEL, id="id-e.2")
    story.recorder.acked("backend", CHANNEL, "id-e.2", Unavailable())
    story.note("subscribed", "e.1", actor="other")
    story.note("got", "e.2", actor="other")
    assert story.problems(is_complete=True) == [
        "client in orders:1: id-e.2 (e.2) was given to others and never came, and no loss was reported"
    ]


def test_complete_recovery_is_accepted(story: Story) -> None:
    for cursor in ("e.2", "e.3", "e.4"):
        story.publish(cursor)
    story.note("got", "e.2")
    story.note("back", "e.2", since="e.2", recovered=True)
    story.note("got", "e.3")
    story.note("got", "e.4")
    assert story.problems(is_complete=True) == []


def test_incomplete_recovery_reported_as_complete_is_found(story: Story) -> None:
    for cursor in ("e.2", "e.3", "e.4"):
        story.publish(cursor)
    story.note("got", "e.2")
    story.note("back", "e.4", since="e.2", recovered=True)
    story.note("got", "e.4")
    assert story.problems() == [
        "client in orders:1: id-e.3 (e.3) was acknowledged and never came, and e.2 was answered with recovered: true"
    ]


def test_reconnect_without_recovery_is_accepted(story: Story) -> None:
    for cursor in ("e.2", "e.3", "e.4"):
        story.publish(cursor)
    story.note("got", "e.2")
    story.note("back", "e.3", since="e.2", recovered=False)
    story.note("got", "e.4")
    assert story.problems(is_complete=True) == []


def test_missed_publication_after_recovered_false_is_found(story: Story) -> None:
    for cursor in ("e.2", "e.3"):
        story.publish(cursor)
    story.note("back", "e.3", since="e.1", recovered=False)
    story.note("got", "e.3")
    assert story.problems() == ["client in orders:1: e.3 came after recovered: false at e.3"]


@pytest.mark.parametrize("since", ["d.1", None])
def test_recovery_without_a_cursor_of_this_epoch_is_found(story: Story, since: str | None) -> None:
    story.note("back", "e.1", since=since, recovered=True)
    assert len(story.problems()) == 1


def test_two_publications_with_one_cursor_are_found(story: Story) -> None:
    story.publish("e.2")
    story.note("got", "e.2", id="id-other")
    assert "is id-e.2 for others and id-other for client" in story.problems()[0]


def test_publication_with_two_cursors_is_found(story: Story) -> None:
    story.publish("e.2")
    story.note("got", "e.2")
    story.note("got", "e.3", id="id-e.2")
    assert "published twice" in story.problems(is_complete=True)[0]


def test_publication_that_was_never_sent_is_found(story: Story) -> None:
    story.note("got", "e.2")
    assert "was never sent" in story.problems(is_complete=True)[0]


def test_different_orders_of_epochs_are_found(story: Story) -> None:
    story.publish("e.2")
    story.publish("f.3")
    for actor, order in (("client", ("e.2", "f.3")), ("other", ("f.3", "e.2"))):
        story.note("subscribed", "e.1", who=actor)
        for cursor in order:
            story.note("got", cursor, who=actor)
            story.note("lost", cursor, who=actor)
    assert [problem for problem in story.problems() if "for other in orders:1 before it" in problem] != []


def test_lines_of_several_files_are_ordered_by_time(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    lines = [
        (first, {"who": "backend", "do": "sending", "id": "x"}),
        (second, {"who": "client", "do": "subscribed", "cursor": "d.0"}),
        (first, {"who": "backend", "do": "acked", "id": "x", "cursor": "e.1"}),
    ]
    for at, (path, line) in enumerate(lines):
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**line, "channel": CHANNEL, "at": at}) + "\n")
    # Sent before the client subscribed, in an epoch that it never saw.
    assert check(first, second) == []
    assert len(check(second, first)) == 0
    reordered = first.read_text(encoding="utf-8").replace('"at": 0', '"at": 1.5')
    first.write_text(reordered, encoding="utf-8")
    assert len(check(first, second)) == 1
