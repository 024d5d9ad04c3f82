"""What people declare about criteria, as an index of its own. Written out, so that it never changes with tables.py."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "declarations",
        sa.Column("seq", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("criterion", sa.String(96), nullable=False),
        sa.Column("at", sa.String(27), nullable=False),
        sa.Column("latest", sa.Boolean, nullable=False),
        sa.Column("raw_digest", sa.String(64), nullable=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seq", "criterion", name="pk_declarations"),
    )
    op.create_index("ix_declarations_latest", "declarations", ["latest"])


def downgrade() -> None:
    op.drop_table("declarations")
