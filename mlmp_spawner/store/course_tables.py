"""The tables of courses. What their columns mean: :mod:`mlmp_spawner.rules.courses`."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    text,
)

from mlmp_spawner.store.tables import metadata

course = Table(
    "mlmp_course",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("title", Text, nullable=False),
    Column("profile", String(255), nullable=False),
    Column("image", Text),
    Column("units", Integer, CheckConstraint("units > 0")),  # null: the profile's own number
    Column("seats", Integer, CheckConstraint("seats > 0"), nullable=False),
    Column("nodes", JSON, nullable=False),
    Column("setup", BigInteger, nullable=False),
    Column("grace", BigInteger, nullable=False),
    Column("files", JSON),
    Column("data", Text),
    Column("hand_in", Boolean, nullable=False),
    Column("self_study", Float),
    Column("guests", Integer, nullable=False),
    Column("look_in", Boolean, nullable=False),
    Column("guest_jobs", Float),
    Column("created_at", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
)

course_member = Table(
    "mlmp_course_member",
    metadata,
    # By name, not by the hub's id: people are on a roster before the hub knows them.
    Column("course", String(40), ForeignKey("mlmp_course.name", ondelete="CASCADE"), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("role", String(10), CheckConstraint("role IN ('instructor', 'student', 'guest')"), nullable=False),
    Column("added_at", BigInteger, nullable=False),
    Column("agreed_at", BigInteger),
    Index("mlmp_course_member_name", "name"),
)

course_group = Table(
    "mlmp_course_group",
    metadata,
    # The groups of the hub that MLMP made, so that it never touches another's, and removes its own with the course.
    Column("name", String(255), primary_key=True),
    Column("made_at", BigInteger, nullable=False),
)

_UNSETTLED = text("settled_at IS NULL")

course_class = Table(
    "mlmp_class",
    metadata,
    # What a class is beside its row in mlmp_reservation. It names its course even when there is none any more.
    Column("reservation", String(30), ForeignKey("mlmp_reservation.id", ondelete="CASCADE"), primary_key=True),
    Column("course", String(40), nullable=False),
    Column("begins", BigInteger, nullable=False),
    Column("seats", Integer, CheckConstraint("seats > 0"), nullable=False),
    Column("settles", BigInteger, nullable=False),
    Column("opened_at", BigInteger),
    Column("settled_at", BigInteger),
    Index("mlmp_class_course", "course", "begins"),
    Index("mlmp_class_unsettled", "reservation", sqlite_where=_UNSETTLED, postgresql_where=_UNSETTLED),
)
