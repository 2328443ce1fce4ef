"""Which rejected messages wait for the dead-letter queue, and which are there already.

A message is acknowledged only after the dead-letter queue has it. Until then the queue may deliver it again, after its
connection broke. The book recognizes it by its key, so that each message is dead-lettered once:

    add ──▶ waiting ── take ──▶ sent ── confirm ──▶ confirmed ── pop_confirmed ──▶ (acknowledged)
               ▲                  │
               └──── put_back ────┘

Only a letter that is on its way outlives the connection that delivered its message: the dead-letter queue may get it.
The others leave the book. The queue delivers their messages again, perhaps to another node.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tidings.errors import TidingsError

M = TypeVar("M")
# An allowance for what a letter uses besides its body: objects of kombu and py-amqp, and its headers.
LETTER_BYTES = 4_096
# Not in a key, which is hexadecimal. A number follows that makes the keys of equal messages different.
_NUMBER_MARK = "+"


@dataclass(slots=True)
class Letter(Generic[M]):
    """A rejected message. `delivery`: what to acknowledge; None after the connection it arrived on has broken.

    `carried_bytes`: how much of the body the letter has, from its beginning; None: all.
    """

    key: str
    id: str
    body: bytes
    error: TidingsError
    delivery: M | None
    carried_bytes: int | None = None

    @property
    def carried_body(self) -> bytes:
        """What the dead-letter queue gets of the body."""
        return self.body if self.carried_bytes is None else self.body[: self.carried_bytes]

    def shorten(self) -> None:
        """Halve what it carries, because the dead-letter queue accepts no message of this size."""
        self.carried_bytes = len(self.carried_body) // 2


class DeadLetterBook(Generic[M]):
    """The letters of one queue. It remembers the keys of the last `remembered_max` confirmed ones."""

    def __init__(self, *, remembered_max: int) -> None:
        self._remembered_max = remembered_max
        self._open: OrderedDict[str, Letter[M]] = OrderedDict()
        self._numbered = 0
        # The open letters whose delivery is forgotten, by the key of their message.
        self._undelivered: dict[str, deque[Letter[M]]] = {}
        self._sent: set[str] = set()
        self._confirmed: list[Letter[M]] = []
        self._remembered: OrderedDict[str, None] = OrderedDict()
        self.waiting_bytes = 0

    def __len__(self) -> int:
        """How many letters the dead-letter queue does not have yet."""
        return len(self._open)

    def add(self, letter: Letter[M], *, redelivered: bool) -> None:
        """Add a letter. One that was redelivered replaces its earlier delivery, or is confirmed at once."""
        if redelivered:
            known = self._pop_undelivered(letter.key)
            if known is not None:
                known.delivery = letter.delivery
                return
            if letter.key in self._remembered:
                self._confirmed.append(letter)
                return
        # Messages with the same id and body are letters of their own.
        if letter.key in self._open:
            self._numbered += 1
            letter.key += f"{_NUMBER_MARK}{self._numbered}"
        self._open[letter.key] = letter
        self.waiting_bytes += len(letter.body) + LETTER_BYTES

    def take(self, *, count_max: int, bytes_max: int) -> list[Letter[M]]:
        """The next letters to send, in order: at least one if any waits, and no more than both limits allow."""
        taken: list[Letter[M]] = []
        total_bytes = 0
        for key, letter in self._open.items():
            if key in self._sent:
                continue
            total_bytes += len(letter.body)
            if taken and (len(taken) >= count_max or total_bytes > bytes_max):
                break
            taken.append(letter)
        self._sent.update(letter.key for letter in taken)
        return taken

    def put_back(self, letters: Sequence[Letter[M]]) -> None:
        """Let letters wait again that the dead-letter queue does not have."""
        self._sent.difference_update(letter.key for letter in letters)
        self._drop_undelivered()

    def confirm(self, letters: Sequence[Letter[M]]) -> None:
        """Record that the dead-letter queue has these letters."""
        for letter in letters:
            self._sent.discard(letter.key)
            if not self._close(letter):
                continue
            self._confirmed.append(letter)
            self._remembered[_message_key(letter)] = None
            if len(self._remembered) > self._remembered_max:
                self._remembered.popitem(last=False)

    def pop_confirmed(self) -> list[Letter[M]]:
        """The letters that were confirmed since the last call. Those with a `delivery` are to be acknowledged."""
        confirmed, self._confirmed = self._confirmed, []
        return confirmed

    def forget_deliveries(self) -> None:
        """Forget what to acknowledge: the connection has broken, and the queue delivers the messages again."""
        self._undelivered = {}
        for letter in self._open.values():
            letter.delivery = None
            self._undelivered.setdefault(_message_key(letter), deque()).append(letter)
        for letter in self._confirmed:
            letter.delivery = None
        self._drop_undelivered()

    def _drop_undelivered(self) -> None:
        for letter in list(self._open.values()):
            if letter.delivery is None and letter.key not in self._sent:
                self._close(letter)

    def _close(self, letter: Letter[M]) -> bool:
        if self._open.pop(letter.key, None) is None:
            return False
        self.waiting_bytes -= len(letter.body) + LETTER_BYTES
        return True

    def _pop_undelivered(self, key: str) -> Letter[M] | None:
        """The oldest open letter of this message whose delivery is forgotten."""
        letters = self._undelivered.get(key, ())
        while letters:
            letter = letters.popleft()
            if not letters:
                del self._undelivered[key]
            if self._open.get(letter.key) is letter:
                return letter
        return None


def _message_key(letter: Letter[M]) -> str:
    return letter.key.partition(_NUMBER_MARK)[0]
