"""Who agreed that who teaches may look into their server, and who does."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the tables. What a roster could say of it nobody ever had said."""
    op.create_table(
        "mlmp_look_in_agreement",
        sa.Column("seat", sa.String(30), sa.ForeignKey("mlmp_reservation.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("owner_id", sa.Integer, nullable=False),
        sa.Column("agreed_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "mlmp_looking_in",
        sa.Column("seat", sa.String(30), primary_key=True),
        sa.Column("viewer", sa.String(255), primary_key=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("server", sa.String(255), nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
    )
    op.drop_column("mlmp_course_member", "agreed_at")


def downgrade() -> None:
    """Removes them: nobody agreed. Shares that the hub still has are to be revoked there."""
    op.add_column("mlmp_course_member", sa.Column("agreed_at", sa.BigInteger))
    op.drop_table("mlmp_looking_in")
    op.drop_table("mlmp_look_in_agreement")
