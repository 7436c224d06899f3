"""An index of the open jobs by owner: each submission counts those of its owner, however many others wait."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

OPEN = sa.text("ended_at IS NULL")


def upgrade() -> None:
    """Adds it."""
    op.create_index("mlmp_job_owner_open", "mlmp_job", ["owner"], sqlite_where=OPEN, postgresql_where=OPEN)


def downgrade() -> None:
    """Removes it."""
    op.drop_index("mlmp_job_owner_open", "mlmp_job")
