"""Publishing into this process's memory, for tests and for one hub without Redis.

publisher: the publishers. store: the sequence, its retention and idempotency. presence: members of channels.
commands: commands to the nodes of this process, and their replies.
"""
