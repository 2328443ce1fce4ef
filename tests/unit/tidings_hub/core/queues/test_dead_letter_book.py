from __future__ import annotations

from tidings.errors import BadPacket
from tidings_hub.core.queues.dead_letter_book import LETTER_BYTES, DeadLetterBook, Letter


def letter(key: str, delivery: str | None = None, *, body: bytes = b"x") -> Letter[str]:
    return Letter(key, key, body, BadPacket("no"), delivery or key)


def book_with(*keys: str, remembered_max: int = 10) -> DeadLetterBook[str]:
    book: DeadLetterBook[str] = DeadLetterBook(remembered_max=remembered_max)
    for key in keys:
        book.add(letter(key), redelivered=False)
    return book


def taken(book: DeadLetterBook[str], *, count_max: int = 10, bytes_max: int = 1000) -> list[Letter[str]]:
    return book.take(count_max=count_max, bytes_max=bytes_max)


def confirmed(book: DeadLetterBook[str]) -> list[str | None]:
    return [letter.delivery for letter in book.pop_confirmed()]


def test_letters_are_sent_in_order_and_acknowledged_once_confirmed() -> None:
    book = book_with("a", "b", "c")
    letters = taken(book, count_max=2)
    assert [letter.key for letter in letters] == ["a", "b"]
    assert [letter.key for letter in taken(book)] == ["c"]
    assert (taken(book), confirmed(book), len(book)) == ([], [], 3)
    book.confirm(letters)
    assert (confirmed(book), confirmed(book), len(book)) == (["a", "b"], [], 1)


def test_letters_that_could_not_be_sent_are_sent_again_in_order() -> None:
    book = book_with("a", "b", "c")
    book.put_back(taken(book, count_max=2))
    assert [letter.key for letter in taken(book)] == ["a", "b", "c"]


def test_one_large_letter_is_sent_alone() -> None:
    book: DeadLetterBook[str] = DeadLetterBook(remembered_max=1)
    for key in ("a", "b", "c"):
        book.add(letter(key, body=b"x" * 600), redelivered=False)
    assert book.waiting_bytes == 3 * (600 + LETTER_BYTES)
    assert [letter.key for letter in taken(book, bytes_max=500)] == ["a"]
    assert [letter.key for letter in taken(book, bytes_max=1200)] == ["b", "c"]
    book.put_back([])
    book.confirm([letter("b", body=b"x" * 600)])
    assert book.waiting_bytes == 2 * (600 + LETTER_BYTES)


def test_redelivery_replaces_the_delivery_of_a_waiting_letter() -> None:
    book = book_with("a")
    letters = taken(book)
    book.forget_deliveries()
    book.add(letter("a", "again"), redelivered=True)
    assert len(book) == 1
    book.confirm(letters)
    assert confirmed(book) == ["again"]


def test_letters_that_are_not_on_their_way_leave_with_the_connection_that_delivered_them() -> None:
    book = book_with("a", "b", "c")
    sent = taken(book, count_max=2)
    book.forget_deliveries()
    assert (len(book), book.waiting_bytes) == (2, 2 * (1 + LETTER_BYTES))
    book.add(letter("a", "again"), redelivered=True)
    # The dead-letter queue is full. The message of b may be another node's by now.
    book.put_back(sent)
    assert [waiting.delivery for waiting in taken(book)] == ["again"]
    book.add(letter("c", "again"), redelivered=True)
    assert len(book) == 2


def test_redelivery_of_a_confirmed_letter_is_only_acknowledged() -> None:
    book = book_with("a")
    book.confirm(taken(book))
    book.forget_deliveries()
    assert confirmed(book) == [None]
    book.add(letter("a", "again"), redelivered=True)
    assert (len(book), taken(book), confirmed(book)) == (0, [], ["again"])


def test_equal_messages_are_letters_of_their_own() -> None:
    book = book_with("a", "a", "a")
    assert len(taken(book)) == 3
    book.forget_deliveries()
    for number in (1, 2):
        book.add(letter("a", f"again {number}"), redelivered=True)
    book.add(letter("a", "new"), redelivered=False)
    assert len(book) == 4
    book.confirm([*book._open.values()])
    assert confirmed(book) == ["again 1", "again 2", None, "new"]


def test_only_so_many_keys_are_remembered() -> None:
    book = book_with("a", "b", "c", remembered_max=2)
    book.confirm(taken(book))
    book.pop_confirmed()
    for key in ("a", "b", "c"):
        book.add(letter(key), redelivered=True)
    assert (len(book), confirmed(book)) == (1, ["b", "c"])


def test_keys_of_many_equal_messages_stay_short() -> None:
    book = book_with(*["a"] * 1000)
    assert max(len(waiting.key) for waiting in taken(book, count_max=1000)) <= len("a+1000")


def test_redelivery_of_an_equal_message_is_not_taken_for_that_of_a_confirmed_one() -> None:
    book = book_with("a")
    letters = taken(book)
    book.forget_deliveries()
    book.confirm(letters)
    book.add(letter("a", "new"), redelivered=False)
    assert confirmed(book) == [None]
    book.add(letter("a", "again"), redelivered=True)
    assert (len(book), confirmed(book)) == (1, ["again"])
