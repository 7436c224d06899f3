"""Classes: bookings of many seats for a course."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_UNSETTLED = sa.text("settled_at IS NULL")


def upgrade() -> None:
    """Adds the table."""
    op.create_table(
        "mlmp_class",
        sa.Column(
            "reservation", sa.String(30), sa.ForeignKey("mlmp_reservation.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("course", sa.String(40), nullable=False),
        sa.Column("begins", sa.BigInteger, nullable=False),
        sa.Column("seats", sa.Integer, sa.CheckConstraint("seats > 0"), nullable=False),
        sa.Column("settles", sa.BigInteger, nullable=False),
        sa.Column("opened_at", sa.BigInteger),
        sa.Column("settled_at", sa.BigInteger),
    )
    op.create_index("mlmp_class_course", "mlmp_class", ["course", "begins"])
    op.create_index(
        "mlmp_class_unsettled", "mlmp_class", ["reservation"], sqlite_where=_UNSETTLED, postgresql_where=_UNSETTLED
    )


def downgrade() -> None:
    """Removes it; what was booked stays booked, as that of a course without seats."""
    op.drop_table("mlmp_class")
