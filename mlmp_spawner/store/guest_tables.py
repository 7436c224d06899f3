"""The tables of guests: who they are until when, and the codes by which they come."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, String, Table, text

from mlmp_spawner.store.tables import metadata

_LIVE = text("erased_at IS NULL")

guest = Table(
    "mlmp_guest",
    metadata,
    # The row stays: it is the record of what was erased when, and nobody gets the name again.
    Column("name", String(255), primary_key=True),
    Column("course", String(40), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("entered_at", BigInteger),  # null: their code was used, and they are not in yet
    Column("expires_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),  # servers and tokens are gone
    Column("erase_at", BigInteger, nullable=False),
    Column("erased_at", BigInteger),  # files, account and user are gone
    Index("mlmp_guest_live", "expires_at", sqlite_where=_LIVE, postgresql_where=_LIVE),
    Index("mlmp_guest_course", "course"),
)

guest_code = Table(
    "mlmp_guest_code",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("course", String(40), ForeignKey("mlmp_course.name", ondelete="CASCADE"), nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Column("made_by", String(255), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    Column("used_by", String(255)),
    Index("mlmp_guest_code_course", "course"),
    Index("mlmp_guest_code_used_by", "used_by"),
)
