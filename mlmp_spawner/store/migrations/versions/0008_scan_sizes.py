"""How many rows a scan has and where these write, so that lists of scans need not read the rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns, and fills in the sizes."""
    op.add_column("mlmp_scan", sa.Column("size", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.add_column("mlmp_scan", sa.Column("out", sa.Text))
    scan = sa.table("mlmp_scan", sa.column("size"), sa.column("rows", sa.JSON))
    op.execute(scan.update().values(size=sa.func.json_array_length(scan.c.rows["values"])))


def downgrade() -> None:
    """Removes them."""
    op.drop_column("mlmp_scan", "out")
    op.drop_column("mlmp_scan", "size")
