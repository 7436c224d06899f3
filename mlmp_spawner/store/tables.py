"""The tables of MLMP, in the hub's database but in a MetaData of our own.

Every instant is a BIGINT of milliseconds UTC. ``users`` is the hub's table: only named here, so that rows can refer
to it; the hub makes and changes it.
"""

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
    MetaData,
    String,
    Table,
    Text,
    text,
)

from mlmp_spawner.rules.reservations import LONGEST

metadata = MetaData()

hub_metadata = MetaData()
users = Table("users", hub_metadata, Column("id", Integer, primary_key=True), Column("name", String(255)))

BigId = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only on INTEGER PRIMARY KEY

capacity = Table(
    "mlmp_capacity",
    metadata,
    Column("node", String(255), primary_key=True),
    Column("resource", String(255), primary_key=True),
    Column("units", Integer, CheckConstraint("units >= 0"), nullable=False),
    Column("version", BigInteger, nullable=False, server_default=text("0")),
)

outage = Table(
    "mlmp_outage",
    metadata,
    Column("id", String(30), primary_key=True),
    Column("node", String(255), nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    CheckConstraint('"end" > start'),
    Index("mlmp_outage_node", "node", "start"),
)

_WAITING = text("waiting_reason IS NOT NULL")
_CHILD = text("parent IS NOT NULL")
_SERIES = text("series IS NOT NULL")
_LIVE = text("starting_at IS NOT NULL AND stopped_at IS NULL")

reservation = Table(
    "mlmp_reservation",
    metadata,
    Column("id", String(30), primary_key=True),
    # The name is copied, so that the history outlives the person.
    Column("owner", String(255), nullable=False),
    Column("owner_id", Integer),  # users.id ON DELETE SET NULL; the migration adds the foreign key
    Column("kind", String(20), nullable=False, server_default="session"),
    Column("parent", String(30), ForeignKey("mlmp_reservation.id", ondelete="SET NULL")),
    Column("profile", String(255), nullable=False),
    Column("resource", String(255), nullable=False),
    Column("units", Integer, CheckConstraint("units > 0"), nullable=False),
    Column("node_count", Integer, CheckConstraint("node_count > 0"), nullable=False, server_default=text("1")),
    Column("title", Text, nullable=False, server_default=""),
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("wanted_node", String(255)),  # the one that was asked for by name
    Column("preemptible", Boolean, nullable=False),
    Column("image", Text),  # the name of one of its profile's images; null: the first of them
    Column("server", String(255), nullable=False, server_default=""),
    Column("created_at", BigInteger, nullable=False),
    Column("waitlist_position", BigInteger),
    Column("waiting_reason", String(20)),
    Column("cancelled_at", BigInteger),
    Column("starting_at", BigInteger),
    Column("started_at", BigInteger),
    Column("warned_at", BigInteger),
    Column("stopping_at", BigInteger),
    Column("stopped_at", BigInteger),
    Column("end_reason", String(20)),
    Column("continues", String(30)),
    # What held for its owner when it was booked: later changes of limits change nothing that was promised.
    Column("no_show_grace", BigInteger),
    Column("series", String(30)),
    Column("occurrence", BigInteger),  # the start that the rule of the series gave
    Column("announced_at", BigInteger),
    Column("offered_at", BigInteger),
    Column("idle_since", BigInteger),
    Column("idle_warned_at", BigInteger),
    Column("version", Integer, nullable=False, server_default=text("1")),
    CheckConstraint('"end" > start'),
    Index("mlmp_reservation_owner", "owner", "end"),
    # Both for the foreign keys: without them the deletion of a user would read every booking.
    Index("mlmp_reservation_owner_id", "owner_id"),
    Index("mlmp_reservation_parent", "parent", sqlite_where=_CHILD, postgresql_where=_CHILD),
    Index("mlmp_reservation_end", "end"),
    Index("mlmp_reservation_start", "start"),
    Index("mlmp_reservation_length", text('("end" - start)')),
    Index("mlmp_reservation_series", "series", "occurrence", sqlite_where=_SERIES, postgresql_where=_SERIES),
    # The few that wait, and the few whose server may run, among very many that are over.
    Index("mlmp_reservation_waiting", "waitlist_position", sqlite_where=_WAITING, postgresql_where=_WAITING),
    Index("mlmp_reservation_live", "id", sqlite_where=_LIVE, postgresql_where=_LIVE),
)

LENGTH = reservation.c.end - reservation.c.start
"""How long a reservation is, as its index has it."""

_ROOT = text("root IS NOT NULL")

allocation = Table(
    "mlmp_allocation",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("reservation", String(30), ForeignKey("mlmp_reservation.id", ondelete="CASCADE"), nullable=False),
    # The reservation whose allocation this draws on; null for what counts against the node itself.
    Column("root", String(30)),
    Column("node", String(255), nullable=False),
    Column("resource", String(255), nullable=False),
    Column("units", Integer, CheckConstraint("units > 0"), nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    CheckConstraint(f'"end" > start AND "end" - start <= {LONGEST}'),
    Index("mlmp_allocation_range", "node", "resource", "start", "end", "units", "root"),
    Index("mlmp_allocation_reservation", "reservation"),
    Index("mlmp_allocation_root", "root", sqlite_where=_ROOT, postgresql_where=_ROOT),
)

unit_in_use = Table(
    "mlmp_unit_in_use",
    metadata,
    Column("node", String(255), primary_key=True),
    Column("resource", String(255), primary_key=True),
    Column("unit", String(255), primary_key=True),
    Column("holder", String(30), nullable=False),  # the root reservation
    Column("since", BigInteger, nullable=False),
    Index("mlmp_unit_in_use_holder", "holder"),
)

history = Table(
    "mlmp_history",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("reservation", String(30)),
    Column("owner", String(255)),
    Column("actor", String(255), nullable=False),
    Column("action", String(40), nullable=False),
    Column("details", JSON, nullable=False),
    Index("mlmp_history_reservation", "reservation", "id"),
    # For the audit log: the newest lines, of a person, of an actor, of a kind.
    Index("mlmp_history_at", "at", "id"),
    Index("mlmp_history_owner", "owner", "at", "id"),
    Index("mlmp_history_actor", "actor", "at", "id"),
    Index("mlmp_history_action", "action", "at", "id"),
)

idempotency = Table(
    "mlmp_idempotency",
    metadata,
    Column("owner", String(255), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("reservation", String(30), nullable=False),
    Index("mlmp_idempotency_at", "at"),
)

series = Table(
    "mlmp_series",
    metadata,
    Column("id", String(30), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("rrule", Text, nullable=False),  # RFC 5545, without DTSTART
    Column("zone", String(64), nullable=False),  # IANA
    Column("start", BigInteger, nullable=False),  # from which the rule counts
    Column("duration", BigInteger, CheckConstraint("duration > 0"), nullable=False),
    Column("except", JSON, nullable=False),  # days of the zone that are left out: ["2026-12-25"]
    Column("created_at", BigInteger, nullable=False),
    Column("replaces", String(30)),  # the series that this one carries on from one date on
    Column("version", Integer, nullable=False, server_default=text("1")),
    Index("mlmp_series_owner", "owner"),
)

limits = Table(
    "mlmp_limits",
    metadata,
    Column("kind", String(10), CheckConstraint("kind IN ('everybody', 'group', 'user')"), primary_key=True),
    Column("name", String(255), primary_key=True),  # "" for everybody
    Column("limits", JSON, nullable=False),  # what an admin set; it replaces what the catalog says for the same
    Column("changed_at", BigInteger, nullable=False),
    Column("changed_by", String(255), nullable=False),
)

person = Table(
    "mlmp_person",
    metadata,
    # By the hub's id and gone with it: a namesake of a deleted user gets nothing of theirs.
    Column("user_id", Integer, primary_key=True, autoincrement=False),  # users.id ON DELETE CASCADE, by the migration
    Column("mail", String(320)),
    Column("webhook", String(500)),
    Column("choices", JSON, nullable=False),  # by kind of notice: the channels
    Column("calendar_token", String(64), unique=True),  # its SHA-256
    Column("calendar_token_at", BigInteger),
)

ssh_key = Table(
    "mlmp_ssh_key",
    metadata,
    # Of the hub's id of a person and gone with it, as what they chose; the name is for people who read the table.
    Column("id", String(30), primary_key=True),
    Column("user_id", Integer, nullable=False),  # users.id ON DELETE CASCADE, by the migration
    Column("owner", String(255), nullable=False),
    Column("algorithm", String(60), nullable=False),
    Column("key", Text, nullable=False),  # base64
    Column("fingerprint", String(60), nullable=False),
    Column("title", String(255), nullable=False, server_default=""),
    Column("added_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    # Unique per person only: anyone may register anyone's public key.
    Index("mlmp_ssh_key_user", "user_id", "fingerprint", unique=True),
    Index("mlmp_ssh_key_fingerprint", "fingerprint"),
)

ssh_way = Table(
    "mlmp_ssh_way",
    metadata,
    # The reservation that the server was started under, and the server's own token, which opens no other server.
    Column("server", String(30), ForeignKey("mlmp_reservation.id", ondelete="CASCADE"), primary_key=True),
    Column("token", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)

_UNREAD = text("read_at IS NULL")
_UNPLANNED = text("planned_at IS NULL")

notice = Table(
    "mlmp_notice",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("user_id", Integer, nullable=False),  # users.id ON DELETE CASCADE, by the migration
    Column("kind", String(20), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("reservation", String(30)),
    Column("details", JSON, nullable=False),
    Column("planned_at", BigInteger),  # when its deliveries were written
    Column("read_at", BigInteger),
    Index("mlmp_notice_user", "user_id", "id"),
    Index("mlmp_notice_at", "at"),
    Index("mlmp_notice_unread", "user_id", sqlite_where=_UNREAD, postgresql_where=_UNREAD),
    Index("mlmp_notice_unplanned", "id", sqlite_where=_UNPLANNED, postgresql_where=_UNPLANNED),
)

_UNDONE = text("sent_at IS NULL AND given_up_at IS NULL")

delivery = Table(
    "mlmp_delivery",
    metadata,
    Column("notice", BigInteger, ForeignKey("mlmp_notice.id", ondelete="CASCADE"), primary_key=True),
    Column("channel", String(10), primary_key=True),
    Column("address", String(500), primary_key=True),
    Column("due_at", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("claimed_until", BigInteger),
    Column("sent_at", BigInteger),
    Column("given_up_at", BigInteger),
    Column("error", Text),
    Index("mlmp_delivery_due", "due_at", sqlite_where=_UNDONE, postgresql_where=_UNDONE),
)

use = Table(
    "mlmp_use",
    metadata,
    # What was seen of a booking's server on a node in the few minutes (of old ones: the hour) that begin at ``at``.
    Column("reservation", String(30), ForeignKey("mlmp_reservation.id", ondelete="CASCADE"), primary_key=True),
    Column("at", BigInteger, primary_key=True),
    Column("node", String(255), primary_key=True),
    Column("watched", BigInteger, nullable=False),  # unit-ms
    Column("busy", BigInteger, nullable=False),  # unit-ms of it in which something was done
    Column("cpu", BigInteger, nullable=False),  # ms of CPU time
    Column("memory", BigInteger, nullable=False),  # bytes, the most
    Index("mlmp_use_at", "at"),
)

_OPEN = text("ended_at IS NULL")
_BATCH = text("batch IS NOT NULL")

job = Table(
    "mlmp_job",  # what each means: rules.jobs.Job
    metadata,
    Column("id", String(30), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("owner_id", Integer),  # users.id ON DELETE SET NULL, by the migration
    Column("group", String(255), nullable=False, server_default=""),
    Column("name", String(255), nullable=False),
    Column("batch", String(30)),
    Column("place", Integer, nullable=False, server_default=text("0")),
    Column("profile", String(255), nullable=False),
    Column("resource", String(255), nullable=False),
    Column("units", Integer, CheckConstraint("units > 0"), nullable=False),
    Column("workers", Integer, CheckConstraint("workers > 0"), nullable=False),
    Column("length", BigInteger, CheckConstraint("length > 0"), nullable=False),
    Column("grace", BigInteger, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("preemptible", Boolean, nullable=False),
    Column("inside", String(30), ForeignKey("mlmp_reservation.id", ondelete="SET NULL")),
    Column("manifest", JSON, nullable=False),
    Column("secrets", JSON, nullable=False),
    Column("code", String(64)),
    Column("created_at", BigInteger, nullable=False),
    Column("queued_at", BigInteger, nullable=False),
    Column("front", Boolean, nullable=False),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("faults", Integer, nullable=False, server_default=text("0")),
    Column("cancel_asked_at", BigInteger),
    Column("cancelled_by", String(255)),
    Column("ended_at", BigInteger),
    Column("outcome", String(20)),
    Column("reason", String(20)),
    Column("exit_status", Integer),
    Column("message", Text, nullable=False, server_default=""),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Index("mlmp_job_owner", "owner", "created_at"),
    Index("mlmp_job_owner_id", "owner_id"),
    Index("mlmp_job_created", "created_at", "id"),
    Index("mlmp_job_inside", "inside"),
    Index("mlmp_job_open", "queued_at", sqlite_where=_OPEN, postgresql_where=_OPEN),
    Index("mlmp_job_owner_open", "owner", sqlite_where=_OPEN, postgresql_where=_OPEN),
    Index("mlmp_job_batch", "batch", "place", sqlite_where=_BATCH, postgresql_where=_BATCH),
)

job_attempt = Table(
    "mlmp_job_attempt",
    metadata,
    Column("job", String(30), ForeignKey("mlmp_job.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("reservation", String(30), nullable=False),  # of kind "job": it holds the units
    Column("nodes", JSON, nullable=False),
    Column("places", JSON, nullable=False),  # of each worker: node, physical units
    Column("stop_at", BigInteger, nullable=False),
    Column("kill_at", BigInteger, nullable=False),
    Column("starting_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("stopping_at", BigInteger),
    Column("stop_reason", String(20)),
    Column("ended_at", BigInteger),
    Column("reason", String(20)),
    Column("exit_status", Integer),
    Column("message", Text, nullable=False, server_default=""),
    # One attempt of a job at a time, whoever writes.
    Index("mlmp_job_attempt_live", "job", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN),
    Index("mlmp_job_attempt_reservation", "reservation"),
)

scan = Table(
    "mlmp_scan",  # what each means: rules.scans.Scan. Its jobs: those of its owner whose batch is its id
    metadata,
    Column("id", String(30), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("owner_id", Integer),  # users.id ON DELETE SET NULL, by the migration
    Column("name", String(255), nullable=False),
    Column("rows", JSON, nullable=False),  # {"names": […], "values": [[…], …]}
    Column("size", Integer, nullable=False, server_default=text("0")),
    Column("out", Text),
    Column("at_once", Integer, CheckConstraint("at_once > 0")),
    Column("created_at", BigInteger, nullable=False),
    Column("cancelled_at", BigInteger),
    Index("mlmp_scan_owner", "owner", "created_at"),
    Index("mlmp_scan_owner_id", "owner_id"),
)

job_usage = Table(
    "mlmp_job_usage",  # unit-ms that jobs used, decayed to the instant ``at``
    metadata,
    Column("kind", String(10), CheckConstraint("kind IN ('group', 'user')"), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("used", Float, nullable=False),
    Column("at", BigInteger, nullable=False),
)

job_code = Table(
    "mlmp_job_code",  # the snapshots that are kept as files, so that a quota can be held
    metadata,
    Column("owner", String(255), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),  # when it was last submitted
)
