"""How long queries are open: none ends that is read in time, and none that was stopped is ever open again."""

import json
from collections.abc import Collection


class Lifetimes:
    """The queries that a server has opened and was asked to stop, as requests and replies alone tell.

    It takes no time and no limit from the server, so that it notices if one of them is wrong there.

    Attributes:
        wrong: What was wrong, in words.
    """

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self._read: dict[str, float] = {}  # when each was read last
        self._max_idle: dict[str, float] = {}
        self._stopped: set[str] = set()

    def idle_seconds(self, uuid: str, now: float) -> float:
        """Return the seconds since a query was read last.

        Args:
            uuid: The uuid of the query.
            now: The time of the server.
        """
        return now - self._read[uuid]

    def note(self, command: str, content: bytes, status: int, reply: bytes, now: float) -> None:
        """Note that a request was answered, and check whether it could be answered like that.

        Args:
            command: The command of the request.
            content: The body of the request.
            status: The status of the reply.
            reply: The body of the reply.
            now: The time of the server.
        """
        if command == "resumable-query" and status == 200:
            uuid = json.loads(reply)["result"]["uuid"]
            self._read[uuid], self._max_idle[uuid] = now, json.loads(content)["maxIdle"]
            if uuid in self._stopped:
                self.wrong.append(f"{uuid} was stopped, and its start has opened it afterwards")
        elif command == "resumable-query-next":
            uuid = json.loads(content)["uuid"]
            if status == 200:
                self._read[uuid] = now
            elif status == 404 and uuid in self._read and self.idle_seconds(uuid, now) <= self._max_idle[uuid]:
                self.wrong.append(
                    f"{uuid} was read {self.idle_seconds(uuid, now):.0f} s ago, and is not known any more"
                )
        elif command == "resumable-query-end":
            self.end([json.loads(content)["uuid"]])

    def end(self, uuids: Collection[str], *, stopped: bool = True) -> None:
        """Note that queries have ended for a good reason.

        Args:
            uuids: The uuids of the queries.
            stopped: Whether they were stopped, which the server remembers.
        """
        for uuid in uuids:
            self._read.pop(uuid, None)
        if stopped:
            self._stopped.update(uuids)

    def restart(self) -> None:
        """Note that the server has ended, and forgets everything."""
        self._read.clear()
        self._stopped.clear()
