"""Series, limits that an admin sets, notices and their deliveries, what was used."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer, "sqlite")
FACTS = ("no_show_grace", "occurrence", "announced_at", "offered_at", "idle_since", "idle_warned_at")
TABLES = ("mlmp_use", "mlmp_delivery", "mlmp_notice", "mlmp_person", "mlmp_limits", "mlmp_series")

AUDIT = {"mlmp_history_at": ["at", "id"]} | {
    f"mlmp_history_{column}": [column, "at", "id"] for column in ("owner", "actor", "action")
}


def _name(length: int = 255) -> sa.String:
    return sa.String(length)


def _instant(name: str, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, **options)


def _user(**options: Any) -> sa.Column[Any]:
    return sa.Column("user_id", sa.Integer, sa.ForeignKey("users.id", ondelete="CASCADE"), **options)


def _partial(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    """Adds the columns and tables."""
    for fact in FACTS:
        op.add_column("mlmp_reservation", _instant(fact))
    op.add_column("mlmp_reservation", sa.Column("series", _name(30)))
    op.add_column("mlmp_reservation", sa.Column("wanted_node", _name()))
    columns = ["series", "occurrence"]
    op.create_index("mlmp_reservation_series", "mlmp_reservation", columns, **_partial("series IS NOT NULL"))
    for name, columns in AUDIT.items():
        op.create_index(name, "mlmp_history", columns)
    _create_rules()
    _create_notices()
    _create_use()


def downgrade() -> None:
    """Removes them."""
    for table in TABLES:
        op.drop_table(table)
    for name in AUDIT:
        op.drop_index(name, "mlmp_history")
    op.drop_index("mlmp_reservation_series", "mlmp_reservation")
    for column in ("series", "wanted_node", *FACTS):
        op.drop_column("mlmp_reservation", column)


def _create_rules() -> None:
    op.create_table(
        "mlmp_series",
        sa.Column("id", _name(30), primary_key=True),
        sa.Column("owner", _name(), nullable=False),
        sa.Column("rrule", sa.Text, nullable=False),
        sa.Column("zone", _name(64), nullable=False),
        _instant("start", nullable=False),
        sa.Column("duration", sa.BigInteger, sa.CheckConstraint("duration > 0"), nullable=False),
        sa.Column("except", sa.JSON, nullable=False),
        _instant("created_at", nullable=False),
        sa.Column("replaces", _name(30)),
        sa.Column("version", sa.Integer, nullable=False, server_default=sa.text("1")),
    )
    op.create_index("mlmp_series_owner", "mlmp_series", ["owner"])
    op.create_table(
        "mlmp_limits",
        sa.Column("kind", _name(10), sa.CheckConstraint("kind IN ('everybody', 'group', 'user')"), primary_key=True),
        sa.Column("name", _name(), primary_key=True),
        sa.Column("limits", sa.JSON, nullable=False),
        _instant("changed_at", nullable=False),
        sa.Column("changed_by", _name(), nullable=False),
    )
    op.create_table(
        "mlmp_person",
        _user(primary_key=True, autoincrement=False),
        sa.Column("mail", _name(320)),
        sa.Column("webhook", _name(500)),
        sa.Column("choices", sa.JSON, nullable=False),
        sa.Column("calendar_token", _name(64), unique=True),
        _instant("calendar_token_at"),
    )


def _create_notices() -> None:
    op.create_table(
        "mlmp_notice",
        sa.Column("id", BigId, primary_key=True, autoincrement=True),
        _user(nullable=False),
        sa.Column("kind", _name(20), nullable=False),
        _instant("at", nullable=False),
        sa.Column("reservation", _name(30)),
        sa.Column("details", sa.JSON, nullable=False),
        _instant("planned_at"),
        _instant("read_at"),
    )
    op.create_index("mlmp_notice_user", "mlmp_notice", ["user_id", "id"])
    op.create_index("mlmp_notice_at", "mlmp_notice", ["at"])
    op.create_index("mlmp_notice_unread", "mlmp_notice", ["user_id"], **_partial("read_at IS NULL"))
    op.create_index("mlmp_notice_unplanned", "mlmp_notice", ["id"], **_partial("planned_at IS NULL"))
    notice = sa.ForeignKey("mlmp_notice.id", ondelete="CASCADE")
    op.create_table(
        "mlmp_delivery",
        sa.Column("notice", sa.BigInteger, notice, primary_key=True),
        sa.Column("channel", _name(10), primary_key=True),
        sa.Column("address", _name(500), primary_key=True),
        _instant("due_at", nullable=False),
        sa.Column("tries", sa.Integer, nullable=False, server_default=sa.text("0")),
        _instant("claimed_until"),
        _instant("sent_at"),
        _instant("given_up_at"),
        sa.Column("error", sa.Text),
    )
    undone = _partial("sent_at IS NULL AND given_up_at IS NULL")
    op.create_index("mlmp_delivery_due", "mlmp_delivery", ["due_at"], **undone)


def _create_use() -> None:
    reservation = sa.ForeignKey("mlmp_reservation.id", ondelete="CASCADE")
    op.create_table(
        "mlmp_use",
        sa.Column("reservation", _name(30), reservation, primary_key=True),
        _instant("at", primary_key=True),
        sa.Column("node", _name(), primary_key=True),
        sa.Column("watched", sa.BigInteger, nullable=False),
        sa.Column("busy", sa.BigInteger, nullable=False),
        sa.Column("cpu", sa.BigInteger, nullable=False),
        sa.Column("memory", sa.BigInteger, nullable=False),
    )
    op.create_index("mlmp_use_at", "mlmp_use", ["at"])
