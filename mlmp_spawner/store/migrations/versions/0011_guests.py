"""Guests, and the codes by which they come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_LIVE = sa.text("erased_at IS NULL")


def upgrade() -> None:
    """Adds the tables."""
    op.create_table(
        "mlmp_guest",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("course", sa.String(40), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("entered_at", sa.BigInteger),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("erase_at", sa.BigInteger, nullable=False),
        sa.Column("erased_at", sa.BigInteger),
    )
    op.create_index("mlmp_guest_live", "mlmp_guest", ["expires_at"], sqlite_where=_LIVE, postgresql_where=_LIVE)
    op.create_index("mlmp_guest_course", "mlmp_guest", ["course"])
    op.create_table(
        "mlmp_guest_code",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("course", sa.String(40), sa.ForeignKey("mlmp_course.name", ondelete="CASCADE"), nullable=False),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("made_by", sa.String(255), nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger),
        sa.Column("used_by", sa.String(255)),
    )
    op.create_index("mlmp_guest_code_course", "mlmp_guest_code", ["course"])
    op.create_index("mlmp_guest_code_used_by", "mlmp_guest_code", ["used_by"])


def downgrade() -> None:
    """Removes them. Guests who are not erased yet stay users of the hub: remove them there."""
    op.drop_table("mlmp_guest_code")
    op.drop_table("mlmp_guest")
