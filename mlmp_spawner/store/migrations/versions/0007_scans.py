"""Scans: what the jobs of one array have in common. A job belongs to it by its batch, and its place is its row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the table."""
    op.create_table(
        "mlmp_scan",
        sa.Column("id", sa.String(30), primary_key=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("owner_id", sa.Integer, sa.ForeignKey("users.id", ondelete="SET NULL")),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("rows", sa.JSON, nullable=False),
        sa.Column("at_once", sa.Integer, sa.CheckConstraint("at_once > 0")),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("cancelled_at", sa.BigInteger),
    )
    op.create_index("mlmp_scan_owner", "mlmp_scan", ["owner", "created_at"])
    op.create_index("mlmp_scan_owner_id", "mlmp_scan", ["owner_id"])


def downgrade() -> None:
    """Removes it; the jobs stay."""
    op.drop_table("mlmp_scan")
