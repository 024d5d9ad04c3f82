"""First form: the record, its index, accounts and sessions. Written out, so that it never changes with tables.py."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

STAMP, DIGEST = sa.String(27), sa.String(64)


def upgrade() -> None:
    """Make every table, and the triggers that keep ``links`` append-only."""
    _record()
    _index()
    _people()
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER links_no_{verb.lower()} BEFORE {verb} ON links "
                "BEGIN SELECT RAISE(ABORT, 'links are append-only'); END"
            )


def _record() -> None:
    op.create_table(
        "links",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", STAMP, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("prev", DIGEST, nullable=False),
        sa.Column("seal", DIGEST, nullable=False),
        sa.UniqueConstraint("prev", name="uq_links_prev"),
    )
    op.create_index("ix_links_kind", "links", ["kind"])


def _index() -> None:
    op.create_table(
        "rounds",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("opened_seq", sa.Integer, nullable=False),
        sa.Column("seq", sa.Integer, nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started_at", STAMP, nullable=False),
        sa.Column("ended_at", STAMP, nullable=True),
        sa.Column("only", sa.Text, nullable=False),
        sa.Column("looks", sa.Text, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("as_of", sa.String(10), nullable=True),
        sa.Column("catalog", DIGEST, nullable=False),
        sa.Column("inventory", DIGEST, nullable=False),
        sa.Column("findings", DIGEST, nullable=True),
        sa.Column("scorecard", DIGEST, nullable=True),
        sa.UniqueConstraint("seq", name="uq_rounds_seq"),
    )
    op.create_index("ix_rounds_ended_at", "rounds", ["ended_at"])
    op.create_table(
        "looks",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("round_id", sa.String(40), sa.ForeignKey("rounds.id"), nullable=False),
        sa.Column("asset", sa.String(128), nullable=False),
        sa.Column("transport", sa.String(16), nullable=False),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("at", STAMP, nullable=False),
        sa.Column("duration_ms", sa.Integer, nullable=False),
        sa.Column("collector", sa.String(32), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_index("ix_looks_round_id", "looks", ["round_id"])
    op.create_index("ix_looks_asset_transport_at", "looks", ["asset", "transport", "at"])
    op.create_table(
        "observations",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("asset", sa.String(128), nullable=False),
        sa.Column("fact", sa.String(96), nullable=False),
        sa.Column("transport", sa.String(16), nullable=False),
        sa.Column("answered", sa.Boolean, nullable=False),
        sa.Column("latest", sa.Boolean, nullable=False),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("unit", sa.String(96), nullable=False),
        sa.Column("raw_digest", DIGEST, nullable=True),
        sa.Column("asked", sa.Text, nullable=False),
        sa.Column("collector", sa.String(32), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("first_seen_at", STAMP, nullable=False),
        sa.Column("seen_at", STAMP, nullable=False),
    )
    op.create_index(
        "ix_observations_asset_fact_answered_first_seen_at",
        "observations",
        ["asset", "fact", "answered", "first_seen_at"],
    )
    op.create_index("ix_observations_latest", "observations", ["latest"])
    op.create_table(
        "runs",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("opened_seq", sa.Integer, nullable=False),
        sa.Column("seq", sa.Integer, nullable=True),
        sa.Column("play", sa.String(64), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started_at", STAMP, nullable=False),
        sa.Column("ended_at", STAMP, nullable=True),
        sa.Column("hosts", sa.Text, nullable=False),
        sa.Column("dossier", DIGEST, nullable=True),
        sa.UniqueConstraint("seq", name="uq_runs_seq"),
    )
    op.create_index("ix_runs_started_at", "runs", ["started_at"])


def _people() -> None:
    op.create_table(
        "accounts",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("password_hash", sa.String(256), nullable=False),
        sa.Column("must_change", sa.Boolean, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("created_at", STAMP, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("locked_until", STAMP, nullable=True),
    )
    op.create_table(
        "sessions",
        sa.Column("token_digest", DIGEST, primary_key=True),
        sa.Column("account", sa.String(64), sa.ForeignKey("accounts.name"), nullable=False),
        sa.Column("csrf", sa.String(64), nullable=False),
        sa.Column("created_at", STAMP, nullable=False),
        sa.Column("expires_at", STAMP, nullable=False),
    )
    op.create_index("ix_sessions_account", "sessions", ["account"])
