"""The tables. ``links`` is the record and append-only; looks, observations and rounds are an index rebuilt from it.

Accounts, sessions and runs of the web are ordinary tables. Times are text of one form (``chain.stamp``), so they
sort as text in every database. It holds no query.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

STAMP = String(27)
DIGEST = String(64)

links = Table(
    "links",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", STAMP, nullable=False),
    Column("kind", String(32), nullable=False, index=True),
    Column("digest", DIGEST, nullable=False),
    Column("prev", DIGEST, nullable=False),
    Column("seal", DIGEST, nullable=False),
    UniqueConstraint("prev"),  # two writers cannot both put their link after the same one
)

rounds = Table(
    "rounds",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("opened_seq", Integer, nullable=False),
    Column("seq", Integer, nullable=True, unique=True),
    Column("state", String(16), nullable=False),  # running | done | interrupted
    Column("started_at", STAMP, nullable=False),
    Column("ended_at", STAMP, nullable=True, index=True),
    Column("only", Text, nullable=False),  # JSON list
    Column("looks", Text, nullable=False),  # JSON outcome -> count
    Column("summary", Text, nullable=False),  # JSON verdict -> scored criteria
    Column("as_of", String(10), nullable=True),
    Column("catalog", DIGEST, nullable=False),
    Column("inventory", DIGEST, nullable=False),
    Column("findings", DIGEST, nullable=True),
    Column("scorecard", DIGEST, nullable=True),
)

looks = Table(
    "looks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("round_id", String(40), ForeignKey("rounds.id"), nullable=False, index=True),
    Column("asset", String(128), nullable=False),
    Column("transport", String(16), nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("at", STAMP, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("collector", String(32), nullable=False),
    Column("detail", Text, nullable=False),
    Index("ix_looks_asset_transport_at", "asset", "transport", "at"),
)

observations = Table(
    "observations",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("asset", String(128), nullable=False),
    Column("fact", String(96), nullable=False),
    Column("transport", String(16), nullable=False),
    Column("answered", Boolean, nullable=False),
    Column("latest", Boolean, nullable=False),  # the newest of its asset, fact and lane
    Column("outcome", String(32), nullable=False),
    Column("value", Text, nullable=False),  # canonical JSON
    Column("unit", String(96), nullable=False),
    Column("raw_digest", DIGEST, nullable=True),
    Column("asked", Text, nullable=False),
    Column("collector", String(32), nullable=False),
    Column("detail", Text, nullable=False),
    Column("first_seen_at", STAMP, nullable=False),
    Column("seen_at", STAMP, nullable=False),
    Index("ix_observations_asset_fact_answered_first_seen_at", "asset", "fact", "answered", "first_seen_at"),
    Index("ix_observations_latest", "latest"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("opened_seq", Integer, nullable=False),
    Column("seq", Integer, nullable=True, unique=True),
    Column("play", String(64), nullable=False),
    Column("mode", String(16), nullable=False),  # preview | apply
    Column("state", String(16), nullable=False),
    Column("started_at", STAMP, nullable=False, index=True),
    Column("ended_at", STAMP, nullable=True),
    Column("hosts", Text, nullable=False),  # JSON list
    Column("dossier", DIGEST, nullable=True),
    Column("envelope", DIGEST, nullable=True),  # the hospital's signature over the dossier
    Column("by", String(64), nullable=True),
    Column("preview", String(40), nullable=True),  # the run whose preview this apply carries out
    Column("resumes", String(40), nullable=True),  # the run whose hosts this one finishes
    Column("approval", String(16), nullable=True),  # of a preview: requested | approved | refused
    Column("cancelled_by", String(64), nullable=True),
    Column("applied_at", STAMP, nullable=True),  # when the play itself ended on the hosts
)

declarations = Table(  # a person's word, one row per criterion it is about; an index like the tables above
    "declarations",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),  # the link it was kept with
    Column("criterion", String(96), primary_key=True),
    Column("at", STAMP, nullable=False),
    Column("latest", Boolean, nullable=False),  # the newest word about its criterion
    Column("raw_digest", DIGEST, nullable=True),  # the first document it names
    Column("value", Text, nullable=False),  # canonical JSON
    Index("ix_declarations_latest", "latest"),
)

accounts = Table(
    "accounts",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("password_hash", String(256), nullable=False),  # argon2id
    Column("must_change", Boolean, nullable=False),  # a one-time password: the first log-in sets another
    Column("disabled", Boolean, nullable=False),
    Column("created_at", STAMP, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("locked_until", STAMP, nullable=True),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_digest", DIGEST, primary_key=True),  # SHA-256 of the cookie: a stolen database opens no session
    Column("account", String(64), ForeignKey("accounts.name"), nullable=False, index=True),
    Column("csrf", String(64), nullable=False),
    Column("created_at", STAMP, nullable=False),
    Column("expires_at", STAMP, nullable=False),
)
