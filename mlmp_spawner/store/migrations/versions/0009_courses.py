"""Courses, and who is in them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the tables."""
    op.create_table(
        "mlmp_course",
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("profile", sa.String(255), nullable=False),
        sa.Column("image", sa.Text),
        sa.Column("units", sa.Integer, sa.CheckConstraint("units > 0")),
        sa.Column("seats", sa.Integer, sa.CheckConstraint("seats > 0"), nullable=False),
        sa.Column("nodes", sa.JSON, nullable=False),
        sa.Column("setup", sa.BigInteger, nullable=False),
        sa.Column("grace", sa.BigInteger, nullable=False),
        sa.Column("files", sa.JSON),
        sa.Column("data", sa.Text),
        sa.Column("hand_in", sa.Boolean, nullable=False),
        sa.Column("self_study", sa.Float),
        sa.Column("guests", sa.Integer, nullable=False),
        sa.Column("look_in", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_table(
        "mlmp_course_member",
        sa.Column("course", sa.String(40), sa.ForeignKey("mlmp_course.name", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column(
            "role", sa.String(10), sa.CheckConstraint("role IN ('instructor', 'student', 'guest')"), nullable=False
        ),
        sa.Column("added_at", sa.BigInteger, nullable=False),
        sa.Column("agreed_at", sa.BigInteger),
    )
    op.create_index("mlmp_course_member_name", "mlmp_course_member", ["name"])
    op.create_table(
        "mlmp_course_group",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("made_at", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Removes them; the groups of the hub stay."""
    op.drop_table("mlmp_course_group")
    op.drop_table("mlmp_course_member")
    op.drop_table("mlmp_course")
