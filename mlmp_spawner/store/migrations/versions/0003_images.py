"""The image that was chosen for a booking."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column."""
    op.add_column("mlmp_reservation", sa.Column("image", sa.Text))


def downgrade() -> None:
    """Removes it."""
    op.drop_column("mlmp_reservation", "image")
