"""What a watch must not forget: positions, alarms, messages, and lines that are not written yet.

One SQLite file. What belongs together is one transaction: windows that were scored, where their
streams go on, what the alarm rule remembers, messages of alarms, and the lines of results. So a
process may be killed at any moment; the next one goes on from the last transaction. Lines are
written to their file afterwards; what of them is there already is seen by its content.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from asd_jax.errors import UserError
from asd_jax.runtime.files import disk_errors

_VERSION = "1"
_TABLES = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS streams (
    name TEXT PRIMARY KEY, position TEXT, windows INTEGER, alarm TEXT, alarm_id TEXT
);
CREATE TABLE IF NOT EXISTS done (stream TEXT, number INTEGER, PRIMARY KEY (stream, number));
CREATE TABLE IF NOT EXISTS lines (id INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB);
CREATE TABLE IF NOT EXISTS messages (
    id TEXT, target TEXT, body TEXT, PRIMARY KEY (id, target)
);
"""


class StreamState(NamedTuple):
    """What is known of a stream.

    Attributes:
        position: of its source, see `Window.position`.
        windows: that were made of it so far.
        alarm: what the alarm rule remembers of it, of JSON's types; None before the first window.
        alarm_id: of the alarm that is on; "" without.
    """

    position: Any = None
    windows: int = 0
    alarm: Any = None
    alarm_id: str = ""


class Message(NamedTuple):
    """A message that is to be delivered.

    Attributes:
        id: the same however often it is delivered.
        target: whereto, "command" or "url".
        body: JSON.
    """

    id: str
    target: str
    body: str


class Changes(NamedTuple):
    """What one transaction changes.

    Attributes:
        streams: the new state of streams by their names.
        done: names of streams and numbers of recordings that are done.
        forgotten: likewise of those to be forgotten.
        lines: to be written.
        messages: to be delivered.
        delivered: that were.
        written: number of the last lines that are in their file, and are forgotten; 0 for none.
        settings: to be noted, by name.
    """

    streams: Mapping[str, StreamState] = {}
    done: Sequence[tuple[str, int]] = ()
    forgotten: Sequence[tuple[str, int]] = ()
    lines: bytes = b""
    messages: Sequence[Message] = ()
    delivered: Sequence[Message] = ()
    written: int = 0
    settings: Mapping[str, str] = {}


class WatchState:
    """The state of a watch in a folder, which one process at a time may have.

    Args:
        folder: made if it is not there.

    Raises:
        UserError: it is in use, damaged, of another version, or cannot be written.
    """

    def __init__(self, folder: os.PathLike | str):
        self.path = Path(folder) / "state.sqlite"
        with disk_errors(folder):
            Path(folder).mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(
            self.path, timeout=0.5, isolation_level=None, check_same_thread=False
        )
        try:
            self._execute("PRAGMA locking_mode=EXCLUSIVE")
            self._execute("PRAGMA synchronous=FULL")
            self._execute("BEGIN EXCLUSIVE")
            for statement in filter(None, map(str.strip, _TABLES.split(";"))):
                self._execute(statement)
            self._execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._connection.close()
            if "locked" in str(error):
                raise UserError(
                    f"{folder} is in use by another watch; end it, or give another --state_dir"
                ) from None
            raise UserError(f"cannot write {self.path}: {error}", exit_status=1) from None
        except sqlite3.DatabaseError:
            self._connection.close()
            raise UserError(
                f"{self.path} is damaged; remove it, and the watch begins anew"
            ) from None
        self.check("version", _VERSION, "another version wrote it")

    def check(self, name: str, value: str, what: str) -> None:
        """Compares a setting with the one that the state was made under, or notes it.

        Args:
            name: of the setting.
            value: of the setting.
            what: what to say where it differs.

        Raises:
            UserError: it differs.
        """
        row = self._execute("SELECT value FROM settings WHERE name = ?", name).fetchone()
        if row is None:
            with self._writing():
                self._execute("INSERT INTO settings VALUES (?, ?)", name, value)
        elif row[0] != value:
            raise UserError(
                f"{self.path}: {what} ({name} {row[0]}, now {value}); give the same again, or "
                "another --state_dir"
            )

    def stream(self, name: str) -> StreamState | None:
        """The state of a stream; None of one that is new."""
        row = self._execute(
            "SELECT position, windows, alarm, alarm_id FROM streams WHERE name = ?", name
        ).fetchone()
        if row is None:
            return None
        return StreamState(json.loads(row[0]), row[1], json.loads(row[2]), row[3])

    def done(self, name: str) -> list[int]:
        """Numbers of a stream's recordings that are done, in the order of time."""
        rows = self._execute("SELECT number FROM done WHERE stream = ? ORDER BY rowid", name)
        return [number for (number,) in rows]

    def messages(self) -> list[Message]:
        """Messages that are not delivered, the oldest first."""
        rows = self._execute("SELECT id, target, body FROM messages ORDER BY rowid")
        return [Message(*row) for row in rows]

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Number and content of the lines that may not be written yet, in their order."""
        last = -1
        while True:  # one at a time: there may be many, where the disk was full
            row = self._execute(
                "SELECT id, data FROM lines WHERE id > ? ORDER BY id LIMIT 1", last
            ).fetchone()
            if row is None:
                return
            last = row[0]
            yield last, bytes(row[1])

    def setting(self, name: str) -> str | None:
        """A setting, such as how long the file of lines was; None where it was never set."""
        row = self._execute("SELECT value FROM settings WHERE name = ?", name).fetchone()
        return None if row is None else row[0]

    def commit(self, changes: Changes) -> int | None:
        """Writes changes, all or none.

        Returns:
            Number of its lines, see `Changes.written`; None without lines.

        Raises:
            sqlite3.OperationalError: the disk is full or gone; nothing has changed.
        """
        with self._writing():
            for name, own in changes.streams.items():
                self._execute(
                    "INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?, ?)",
                    name,
                    json.dumps(own.position),
                    own.windows,
                    json.dumps(own.alarm),
                    own.alarm_id,
                )
            many = self._connection.executemany
            many("INSERT OR IGNORE INTO done VALUES (?, ?)", changes.done)
            many("DELETE FROM done WHERE stream = ? AND number = ?", changes.forgotten)
            many("INSERT OR IGNORE INTO messages VALUES (?, ?, ?)", changes.messages)
            delivered = [message[:2] for message in changes.delivered]
            many("DELETE FROM messages WHERE id = ? AND target = ?", delivered)
            if changes.written:
                self._execute("DELETE FROM lines WHERE id <= ?", changes.written)
            many("INSERT OR REPLACE INTO settings VALUES (?, ?)", [*changes.settings.items()])
            if not changes.lines:
                return None
            return self._execute("INSERT INTO lines (data) VALUES (?)", changes.lines).lastrowid

    def close(self) -> None:
        """Gives the folder free."""
        self._connection.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        self._execute("BEGIN")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._execute("ROLLBACK")
            raise

    def _execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        return self._connection.execute(statement, values)
