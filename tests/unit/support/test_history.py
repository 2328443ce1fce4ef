"""The checker of histories finds every kind of broken promise."""

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

    def note(self, do: str, cursor: str, *, who: str = "client", **more: object) -> None:
        self.recorder.note(who, do, CHANNEL, **{"id": f"id-{cursor}", "cursor": cursor, **more})

    def told(self, *, whole: bool = False) -> list[str]:
        self.recorder.close()
        return check(self.recorder.path, is_complete=whole)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    story = Story(tmp_path / "history.jsonl")
    story.note("subscribed", "e.1")
    return story


def test_a_good_one(story: Story) -> None:
    for cursor in ("e.2", "e.3"):
        story.publish(cursor)
        story.note("got", cursor)
    story.recorder.acked("backend", CHANNEL, "x", Unavailable())
    assert story.told() == []


def test_what_was_there_before_need_not_come(story: Story) -> None:
    story.publish("e.1")
    assert story.told() == []


def test_what_comes_after_leaving_need_not_come(story: Story) -> None:
    story.note("left", "e.1")
    story.publish("e.2")
    assert story.told() == []


@pytest.mark.parametrize("got", [(), ("e.2",), ("e.4",), ("e.2", "e.4")])
def test_missing(story: Story, got: tuple[str, ...]) -> None:
    for cursor in ("e.2", "e.3", "e.4"):
        story.publish(cursor)
    for cursor in got:
        story.note("got", cursor)
    assert len(story.told()) == 3 - len(got)


def test_missing_but_told_in_its_place(story: Story) -> None:
    for cursor in ("e.2", "e.3", "e.4"):
        story.publish(cursor)
    story.note("got", "e.2")
    story.note("lost", "e.3")
    story.note("got", "e.4")
    assert story.told() == []


@pytest.mark.parametrize("place", ["before", "after"])
def test_told_in_another_place_does_not_count(story: Story, place: str) -> None:
    for cursor in ("e.2", "e.3", "e.4", "e.5"):
        story.publish(cursor)
    if place == "before":
        story.note("lost", "e.1")
    story.note("got", "e.2")
    story.note("got", "e.4")
    if place == "after":
        story.note("lost", "e.4")
    story.note("got", "e.5")
    assert len(story.told()) == 1


def test_told_before_it_was_even_sent_does_not_count(story: Story) -> None:
    story.note("lost", "e.1")
    story.publish("e.2")
    assert len(story.told()) == 1


def test_twice(story: Story) -> None:
    story.publish("e.2")
    story.note("got", "e.2")
    story.note("got", "e.2")
    assert "twice" in story.told()[0]


def test_out_of_order(story: Story) -> None:
    for cursor in ("e.2", "e.3"):
        story.publish(cursor)
    story.note("got", "e.3")
    story.note("got", "e.2")
    assert "came after" in story.told()[0]


def test_a_new_epoch_must_be_told(story: Story) -> None:
    for cursor in ("e.2", "f.3"):
        story.publish(cursor)
        story.note("got", cursor)
    assert "epoch" in story.told()[0]


def test_what_one_got_all_must_get_even_without_a_receipt(story: Story) -> None:
    story.recorder.note("backend", "sending", CHANNEL, id="id-e.2")
    story.recorder.acked("backend", CHANNEL, "id-e.2", Unavailable())
    story.note("subscribed", "e.1", who="other")
    story.note("got", "e.2", who="other")
    assert story.told(whole=True) == [
        "client in orders:1: id-e.2 (e.2) was given to others and never came, and no loss was reported"
    ]


def test_a_return_that_recovered(story: Story) -> None:
    for cursor in ("e.2", "e.3", "e.4"):
        story.publish(cursor)
    story.note("got", "e.2")
    story.note("back", "e.2", since="e.2", recovered=True)
    story.note("got", "e.3")
    story.note("got", "e.4")
    assert story.told(whole=True) == []


def test_a_return_that_said_recovered_and_was_not(story: Story) -> None:
    for cursor in ("e.2", "e.3", "e.4"):
        story.publish(cursor)
    story.note("got", "e.2")
    story.note("back", "e.4", since="e.2", recovered=True)
    story.note("got", "e.4")
    assert story.told() == [
        "client in orders:1: id-e.3 (e.3) was acknowledged and never came, and e.2 was answered with recovered: true"
    ]


def test_a_return_that_did_not_recover(story: Story) -> None:
    for cursor in ("e.2", "e.3", "e.4"):
        story.publish(cursor)
    story.note("got", "e.2")
    story.note("back", "e.3", since="e.2", recovered=False)
    story.note("got", "e.4")
    assert story.told(whole=True) == []


def test_a_part_after_recovered_false(story: Story) -> None:
    for cursor in ("e.2", "e.3"):
        story.publish(cursor)
    story.note("back", "e.3", since="e.1", recovered=False)
    story.note("got", "e.3")
    assert story.told() == ["client in orders:1: e.3 came after recovered: false at e.3"]


@pytest.mark.parametrize("since", ["d.1", None])
def test_recovered_from_where_nothing_can_be(story: Story, since: str | None) -> None:
    story.note("back", "e.1", since=since, recovered=True)
    assert len(story.told()) == 1


def test_one_number_for_two_publications(story: Story) -> None:
    story.publish("e.2")
    story.note("got", "e.2", id="id-other")
    assert "is id-e.2 for others and id-other for client" in story.told()[0]


def test_one_publication_with_two_numbers(story: Story) -> None:
    story.publish("e.2")
    story.note("got", "e.2")
    story.note("got", "e.3", id="id-e.2")
    assert "published twice" in story.told(whole=True)[0]


def test_one_that_was_never_sent(story: Story) -> None:
    story.note("got", "e.2")
    assert "was never sent" in story.told(whole=True)[0]


def test_epochs_in_another_order_for_another(story: Story) -> None:
    story.publish("e.2")
    story.publish("f.3")
    for who, order in (("client", ("e.2", "f.3")), ("other", ("f.3", "e.2"))):
        story.note("subscribed", "e.1", who=who)
        for cursor in order:
            story.note("got", cursor, who=who)
            story.note("lost", cursor, who=who)
    assert [problem for problem in story.told() if "for other in orders:1 before it" in problem] != []


def test_several_files_are_read_by_their_time(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    lines = [
        (first, {"who": "backend", "do": "sending", "id": "x"}),
        (second, {"who": "client", "do": "subscribed", "cursor": "d.0"}),
        (first, {"who": "backend", "do": "acked", "id": "x", "cursor": "e.1"}),
    ]
    for at, (path, line) in enumerate(lines):
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**line, "channel": CHANNEL, "at": at}) + "\n")
    # Sent before the client came, in an epoch that it never saw.
    assert check(first, second) == []
    assert len(check(second, first)) == 0
    reordered = first.read_text(encoding="utf-8").replace('"at": 0', '"at": 1.5')
    first.write_text(reordered, encoding="utf-8")
    assert len(check(first, second)) == 1
