"""Who ran a play, what it carries out, who approved or cancelled it. Written out, apart from tables.py."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ADDED = {"envelope": 64, "by": 64, "preview": 40, "resumes": 40, "approval": 16, "cancelled_by": 64, "applied_at": 27}


def upgrade() -> None:
    for name, length in ADDED.items():
        op.add_column("runs", sa.Column(name, sa.String(length), nullable=True))


def downgrade() -> None:
    for name in ADDED:
        op.drop_column("runs", name)
