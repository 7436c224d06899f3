"""The public SSH keys that people register, and the tokens by which the gateway enters running servers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the tables."""
    op.create_table(
        "mlmp_ssh_key",
        sa.Column("id", sa.String(30), primary_key=True),
        sa.Column("user_id", sa.Integer, sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("algorithm", sa.String(60), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.String(60), nullable=False),
        sa.Column("title", sa.String(255), nullable=False, server_default=""),
        sa.Column("added_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger),
    )
    op.create_index("mlmp_ssh_key_user", "mlmp_ssh_key", ["user_id", "fingerprint"], unique=True)
    op.create_index("mlmp_ssh_key_fingerprint", "mlmp_ssh_key", ["fingerprint"])
    op.create_table(
        "mlmp_ssh_way",
        sa.Column("server", sa.String(30), sa.ForeignKey("mlmp_reservation.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Removes them."""
    op.drop_table("mlmp_ssh_way")
    op.drop_table("mlmp_ssh_key")
