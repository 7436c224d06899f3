"""Capacity, outages, reservations, allocations, units in use, history: and the triggers that keep them true."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from mlmp_spawner.store import triggers

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

LONGEST = 32 * 24 * 60 * 60 * 1000
BigId = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _name(length: int = 255) -> sa.String:
    return sa.String(length)


def _partial(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    """Creates what MLMP needs beside the hub's tables."""
    _create_places()
    _create_reservation()
    _create_allocation()
    _create_records()
    triggers.create(op.get_bind())


def downgrade() -> None:
    """Removes all of it."""
    triggers.drop(op.get_bind())
    for table in ("idempotency", "history", "unit_in_use", "allocation", "reservation", "outage", "capacity"):
        op.drop_table(f"mlmp_{table}")


def _create_places() -> None:
    op.create_table(
        "mlmp_capacity",
        sa.Column("node", _name(), primary_key=True),
        sa.Column("resource", _name(), primary_key=True),
        sa.Column("units", sa.Integer, sa.CheckConstraint("units >= 0"), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    )
    op.create_table(
        "mlmp_outage",
        sa.Column("id", _name(30), primary_key=True),
        sa.Column("node", _name(), nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("end", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.CheckConstraint('"end" > start'),
    )
    op.create_index("mlmp_outage_node", "mlmp_outage", ["node", "start"])


def _create_reservation() -> None:
    op.create_table(
        "mlmp_reservation",
        sa.Column("id", _name(30), primary_key=True),
        sa.Column("owner", _name(), nullable=False),
        sa.Column("owner_id", sa.Integer, sa.ForeignKey("users.id", ondelete="SET NULL")),
        sa.Column("kind", _name(20), nullable=False, server_default="session"),
        sa.Column("parent", _name(30), sa.ForeignKey("mlmp_reservation.id", ondelete="SET NULL")),
        sa.Column("profile", _name(), nullable=False),
        sa.Column("resource", _name(), nullable=False),
        sa.Column("units", sa.Integer, sa.CheckConstraint("units > 0"), nullable=False),
        sa.Column(
            "node_count", sa.Integer, sa.CheckConstraint("node_count > 0"), nullable=False, server_default=sa.text("1")
        ),
        sa.Column("title", sa.Text, nullable=False, server_default=""),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("end", sa.BigInteger, nullable=False),
        sa.Column("pinned", sa.Boolean, nullable=False),
        sa.Column("preemptible", sa.Boolean, nullable=False),
        sa.Column("server", _name(), nullable=False, server_default=""),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("waitlist_position", sa.BigInteger),
        sa.Column("waiting_reason", _name(20)),
        *(
            sa.Column(name, sa.BigInteger)
            for name in ("cancelled_at", "starting_at", "started_at", "warned_at", "stopping_at", "stopped_at")
        ),
        sa.Column("end_reason", _name(20)),
        sa.Column("continues", _name(30)),
        sa.Column("version", sa.Integer, nullable=False, server_default=sa.text("1")),
        sa.CheckConstraint('"end" > start'),
    )
    op.create_index("mlmp_reservation_owner", "mlmp_reservation", ["owner", "end"])
    op.create_index("mlmp_reservation_owner_id", "mlmp_reservation", ["owner_id"])
    op.create_index("mlmp_reservation_parent", "mlmp_reservation", ["parent"], **_partial("parent IS NOT NULL"))
    op.create_index("mlmp_reservation_end", "mlmp_reservation", ["end"])
    op.create_index("mlmp_reservation_start", "mlmp_reservation", ["start"])
    op.create_index("mlmp_reservation_length", "mlmp_reservation", [sa.text('("end" - start)')])
    waiting = _partial("waiting_reason IS NOT NULL")
    op.create_index("mlmp_reservation_waiting", "mlmp_reservation", ["waitlist_position"], **waiting)
    live = _partial("starting_at IS NOT NULL AND stopped_at IS NULL")
    op.create_index("mlmp_reservation_live", "mlmp_reservation", ["id"], **live)


def _create_allocation() -> None:
    op.create_table(
        "mlmp_allocation",
        sa.Column("id", BigId, primary_key=True, autoincrement=True),
        sa.Column("reservation", _name(30), sa.ForeignKey("mlmp_reservation.id", ondelete="CASCADE"), nullable=False),
        sa.Column("root", _name(30)),
        sa.Column("node", _name(), nullable=False),
        sa.Column("resource", _name(), nullable=False),
        sa.Column("units", sa.Integer, sa.CheckConstraint("units > 0"), nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("end", sa.BigInteger, nullable=False),
        sa.CheckConstraint(f'"end" > start AND "end" - start <= {LONGEST}'),
    )
    columns = ["node", "resource", "start", "end", "units", "root"]
    op.create_index("mlmp_allocation_range", "mlmp_allocation", columns)
    op.create_index("mlmp_allocation_reservation", "mlmp_allocation", ["reservation"])
    op.create_index("mlmp_allocation_root", "mlmp_allocation", ["root"], **_partial("root IS NOT NULL"))


def _create_records() -> None:
    op.create_table(
        "mlmp_unit_in_use",
        sa.Column("node", _name(), primary_key=True),
        sa.Column("resource", _name(), primary_key=True),
        sa.Column("unit", _name(), primary_key=True),
        sa.Column("holder", _name(30), nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
    )
    op.create_index("mlmp_unit_in_use_holder", "mlmp_unit_in_use", ["holder"])
    op.create_table(
        "mlmp_history",
        sa.Column("id", BigId, primary_key=True, autoincrement=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("reservation", _name(30)),
        sa.Column("owner", _name()),
        sa.Column("actor", _name(), nullable=False),
        sa.Column("action", _name(40), nullable=False),
        sa.Column("details", sa.JSON, nullable=False),
    )
    op.create_index("mlmp_history_reservation", "mlmp_history", ["reservation", "id"])
    op.create_table(
        "mlmp_idempotency",
        sa.Column("owner", _name(), primary_key=True),
        sa.Column("key", _name(), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("fingerprint", _name(64), nullable=False),
        sa.Column("reservation", _name(30), nullable=False),
    )
    op.create_index("mlmp_idempotency_at", "mlmp_idempotency", ["at"])
