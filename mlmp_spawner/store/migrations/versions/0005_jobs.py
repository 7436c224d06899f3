"""Jobs, their attempts, what was used of the machines for the fair share, and the snapshots of code."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

OPEN = sa.text("ended_at IS NULL")
BATCH = sa.text("batch IS NOT NULL")


def upgrade() -> None:
    """Adds the tables."""
    op.create_table(
        "mlmp_job",
        sa.Column("id", sa.String(30), primary_key=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("owner_id", sa.Integer, sa.ForeignKey("users.id", ondelete="SET NULL")),
        sa.Column("group", sa.String(255), nullable=False, server_default=""),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("batch", sa.String(30)),
        sa.Column("place", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("profile", sa.String(255), nullable=False),
        sa.Column("resource", sa.String(255), nullable=False),
        sa.Column("units", sa.Integer, sa.CheckConstraint("units > 0"), nullable=False),
        sa.Column("workers", sa.Integer, sa.CheckConstraint("workers > 0"), nullable=False),
        sa.Column("length", sa.BigInteger, sa.CheckConstraint("length > 0"), nullable=False),
        sa.Column("grace", sa.BigInteger, nullable=False),
        sa.Column("retries", sa.Integer, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("preemptible", sa.Boolean, nullable=False),
        sa.Column("inside", sa.String(30), sa.ForeignKey("mlmp_reservation.id", ondelete="SET NULL")),
        sa.Column("manifest", sa.JSON, nullable=False),
        sa.Column("secrets", sa.JSON, nullable=False),
        sa.Column("code", sa.String(64)),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("queued_at", sa.BigInteger, nullable=False),
        sa.Column("front", sa.Boolean, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("faults", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("cancel_asked_at", sa.BigInteger),
        sa.Column("cancelled_by", sa.String(255)),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("outcome", sa.String(20)),
        sa.Column("reason", sa.String(20)),
        sa.Column("exit_status", sa.Integer),
        sa.Column("message", sa.Text, nullable=False, server_default=""),
        sa.Column("version", sa.Integer, nullable=False, server_default=sa.text("1")),
    )
    op.create_index("mlmp_job_owner", "mlmp_job", ["owner", "created_at"])
    op.create_index("mlmp_job_owner_id", "mlmp_job", ["owner_id"])
    op.create_index("mlmp_job_created", "mlmp_job", ["created_at", "id"])
    op.create_index("mlmp_job_inside", "mlmp_job", ["inside"])
    op.create_index("mlmp_job_open", "mlmp_job", ["queued_at"], sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index("mlmp_job_batch", "mlmp_job", ["batch", "place"], sqlite_where=BATCH, postgresql_where=BATCH)
    op.create_table(
        "mlmp_job_attempt",
        sa.Column("job", sa.String(30), sa.ForeignKey("mlmp_job.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("reservation", sa.String(30), nullable=False),
        sa.Column("nodes", sa.JSON, nullable=False),
        sa.Column("places", sa.JSON, nullable=False),
        sa.Column("stop_at", sa.BigInteger, nullable=False),
        sa.Column("kill_at", sa.BigInteger, nullable=False),
        sa.Column("starting_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("stopping_at", sa.BigInteger),
        sa.Column("stop_reason", sa.String(20)),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("reason", sa.String(20)),
        sa.Column("exit_status", sa.Integer),
        sa.Column("message", sa.Text, nullable=False, server_default=""),
    )
    op.create_index("mlmp_job_attempt_live", "mlmp_job_attempt", ["job"], unique=True, sqlite_where=OPEN,
                    postgresql_where=OPEN)  # fmt: skip
    op.create_index("mlmp_job_attempt_reservation", "mlmp_job_attempt", ["reservation"])
    op.create_table(
        "mlmp_job_usage",
        sa.Column("kind", sa.String(10), sa.CheckConstraint("kind IN ('group', 'user')"), primary_key=True),
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("used", sa.Float, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "mlmp_job_code",
        sa.Column("owner", sa.String(255), primary_key=True),
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Removes them; reservations of jobs stay, as history."""
    op.drop_table("mlmp_job_code")
    op.drop_table("mlmp_job_usage")
    op.drop_table("mlmp_job_attempt")
    op.drop_table("mlmp_job")
