"""What guests of a course may use in jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column: guests of the courses that there are run no jobs."""
    op.add_column("mlmp_course", sa.Column("guest_jobs", sa.Float))


def downgrade() -> None:
    """Removes it. Jobs of guests that are open go on."""
    with op.batch_alter_table("mlmp_course") as table:
        table.drop_column("guest_jobs")
