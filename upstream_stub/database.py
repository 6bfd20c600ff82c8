"""The users table and its neighbours, on SQLite.

Everything runs in the event loop's thread: a statement takes microseconds, and a handler that does not await
between its statements needs no lock. Every write is one transaction, committed before the method returns.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from upstream_stub.user import User, timestamp, timestamp_after

_SCHEMA = """
CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- an id is never given out twice, even after a delete
    email TEXT NOT NULL COLLATE NOCASE UNIQUE,
    username TEXT NOT NULL UNIQUE,
    phone TEXT UNIQUE,
    display_name TEXT NOT NULL,
    bio TEXT NOT NULL,
    role TEXT NOT NULL,
    is_active INTEGER NOT NULL,
    version INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    hashed_password TEXT NOT NULL
);
CREATE TABLE revoked_tokens (token_id TEXT PRIMARY KEY, expires_at INTEGER NOT NULL);
CREATE TABLE avatars (
    user_id INTEGER PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    svg BLOB NOT NULL,
    updated_at TEXT NOT NULL
);
"""
_COLUMNS = ", ".join(User._fields)
_MARKS = ", ".join("?" * len(User._fields))
_SELECT = f"SELECT {_COLUMNS} FROM users"
_LARGEST_ID = 2**63 - 1


class Taken(Exception):
    """A unique field has the value of another user; `field` names it."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


class Database:
    """One connection. `queries` counts the statements by name; the service shows it in its statistics."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.queries: Counter[str] = Counter()
        # One thread at a time, but not always the one that made it: apps get built here and served there.
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("PRAGMA foreign_keys = ON")
        except sqlite3.Error:
            self._connection.close()
            raise

    def __repr__(self) -> str:
        return f"<Database {self.path} queries={self.queries.total()}>"

    def close(self) -> None:
        """Close the connection; a file keeps what was committed."""
        self._connection.close()

    def fill(self, users: Iterable[User]) -> None:
        """Create the tables and the first users, unless this database has been filled before."""
        # The mark, and not "the table is empty": users that were all deleted must stay deleted.
        with self._transaction():
            if self._connection.execute("PRAGMA user_version").fetchone()[0]:
                return
            for statement in _SCHEMA.split(";\n"):
                self._connection.execute(statement)
            self._connection.executemany(f"INSERT INTO users ({_COLUMNS}) VALUES ({_MARKS})", users)
            self._connection.execute("PRAGMA user_version = 1")

    def count_users(self) -> int:
        """How many users there are."""
        return int(self._connection.execute("SELECT count(*) FROM users").fetchone()[0])

    def user_by_id(self, user_id: int) -> User | None:
        """The user of that id."""
        self.queries["user_by_id"] += 1
        return self._one("id", user_id) if user_id <= _LARGEST_ID else None

    def user_by_email(self, email: str) -> User | None:
        """The user of that e-mail address, whatever its case."""
        self.queries["user_by_email"] += 1
        return self._one("email", email)

    def user_by_username(self, username: str) -> User | None:
        """The user of that username."""
        self.queries["user_by_username"] += 1
        return self._one("username", username)

    def user_by_phone(self, phone: str) -> User | None:
        """The user of that phone number."""
        self.queries["user_by_phone"] += 1
        return self._one("phone", phone)

    def users_by_ids(self, user_ids: Sequence[int]) -> list[User]:
        """The users of those ids that exist, each once, in the order asked for."""
        self.queries["users_by_ids"] += 1
        wanted = [user_id for user_id in dict.fromkeys(user_ids) if user_id <= _LARGEST_ID]
        marks = ", ".join("?" * len(wanted))
        rows = self._connection.execute(f"{_SELECT} WHERE id IN ({marks})", wanted)
        found = {row[0]: User._make(row) for row in rows}
        return [found[user_id] for user_id in wanted if user_id in found]

    def users_after(self, user_id: int, limit: int) -> list[User]:
        """The next users by id."""
        self.queries["users_list"] += 1
        rows = self._connection.execute(
            f"{_SELECT} WHERE id > ? ORDER BY id LIMIT ?", (min(user_id, _LARGEST_ID), limit)
        )
        return [User._make(row) for row in rows]

    def create_user(self, fields: Mapping[str, Any]) -> User:
        """Insert a user; id, version and timestamps are made here."""
        self.queries["user_insert"] += 1
        now = timestamp(datetime.now(UTC))
        fields = {**fields, "version": 1, "created_at": now, "updated_at": now}
        columns, marks = ", ".join(fields), ", ".join("?" * len(fields))
        statement = f"INSERT INTO users ({columns}) VALUES ({marks}) RETURNING {_COLUMNS}"
        with self._transaction():
            return User._make(self._connection.execute(statement, tuple(fields.values())).fetchone())

    def update_users(self, users: Iterable[User], changes: Mapping[str, Any]) -> list[User]:
        """Make the same changes to each of the users: all of them or none."""
        assignments = ", ".join(f"{column} = ?" for column in changes)
        statement = (
            f"UPDATE users SET {assignments}, version = version + 1, updated_at = ? WHERE id = ? "
            f"RETURNING {_COLUMNS}"
        )
        now = datetime.now(UTC)
        updated = []
        with self._transaction():
            for user in users:
                self.queries["user_update"] += 1
                values = (*changes.values(), timestamp_after(now, user.updated_at), user.id)
                row = self._connection.execute(statement, values).fetchone()
                # Gone only where another process shares the file.
                if row is not None:
                    updated.append(User._make(row))
        return updated

    def delete_user(self, user_id: int) -> None:
        """Remove a user, and the avatar with it."""
        self.queries["user_delete"] += 1
        with self._transaction():
            self._connection.execute("DELETE FROM users WHERE id = ?", (user_id,))

    def is_revoked(self, token_id: str) -> bool:
        """Whether the token was logged out."""
        self.queries["token_is_revoked"] += 1
        found = self._connection.execute("SELECT 1 FROM revoked_tokens WHERE token_id = ?", (token_id,))
        return found.fetchone() is not None

    def revoke(self, token_id: str, expires_at: int) -> None:
        """Remember that the token was logged out."""
        self.queries["token_revoke"] += 1
        with self._transaction():
            self._connection.execute(
                "INSERT OR IGNORE INTO revoked_tokens VALUES (?, ?)", (token_id, min(expires_at, _LARGEST_ID))
            )

    def avatar(self, user_id: int) -> tuple[bytes, str] | None:
        """The uploaded picture of a user, and when it was uploaded."""
        self.queries["avatar_read"] += 1
        row = self._connection.execute("SELECT svg, updated_at FROM avatars WHERE user_id = ?", (user_id,))
        found: tuple[bytes, str] | None = row.fetchone()
        return found

    def put_avatar(self, user_id: int, svg: bytes) -> None:
        """Store an uploaded picture."""
        self.queries["avatar_write"] += 1
        row = (user_id, svg, timestamp(datetime.now(UTC)))
        with self._transaction():
            self._connection.execute("INSERT OR REPLACE INTO avatars VALUES (?, ?, ?)", row)

    def _one(self, column: str, value: int | str) -> User | None:
        row = self._connection.execute(f"{_SELECT} WHERE {column} = ?", (value,)).fetchone()
        return None if row is None else User._make(row)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except sqlite3.IntegrityError as error:
            self._connection.execute("ROLLBACK")
            # "UNIQUE constraint failed: users.email"
            raise Taken(str(error).rpartition(".")[2]) from error
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
