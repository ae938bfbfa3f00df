"""The tables. Times are seconds since the epoch; `progress` is 0 to 1; JSON columns hold the documents of the command line."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, FetchedValue, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

FIGURES = {
    "size_bytes": ("size", "bytes"),
    "size_ratio": ("size", "ratio"),
    "top1": ("quality", "top1"),
    "agreement": ("quality", "agreement"),
    "drop_pp": ("quality", "drop_pp"),
    "p50_ms": ("latency", "p50_ms"),
    "speedup": ("latency", "speedup"),
}
"""Columns of a run that the database computes from its result: by name, the section and the key of the document."""


def _words(length: int) -> String:
    """Text whose length is not ours to limit: SQLite ignores the number, and PostgreSQL would refuse what is longer."""
    return String(length).with_variant(Text, "postgresql")


experiments = Table(
    "experiment",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("created", Float, nullable=False),
)

runs = Table(
    "run",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("experiment_id", String(32), ForeignKey("experiment.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("model", _words(200), nullable=False),
    Column("backend", String(40), nullable=False),
    Column("technique", _words(2000), nullable=False),
    Column("status", String(20), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("stage", _words(200), nullable=False, default=""),
    Column("progress", Float, nullable=False, default=0.0),
    Column("cancel", Boolean, nullable=False, default=False),
    Column("pid", Integer),
    Column("phase", String(20), nullable=False, server_default="quantize"),
    Column("phase_started", Float),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("lease_owner", String(32)),
    Column("live", JSON),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("finished", Float),
    Column("deleted", Float),
    Column("result", JSON),
    Column("error", JSON),
    Column("files", JSON),
    Column("notes", Text, nullable=False, server_default=""),
    *(Column(name, Float, FetchedValue()) for name in FIGURES),
    Index("run_by_status", "status"),
    Index("run_by_experiment", "experiment_id"),
    Index("run_by_created", "created"),
    *(Index(f"run_by_{name}", name) for name in FIGURES),
)

run_tags = Table(
    "run_tag",
    metadata,
    Column("run_id", String(32), ForeignKey("run.id"), primary_key=True),
    Column("tag", String(100), primary_key=True),
    Index("run_tag_by_tag", "tag"),
)

# A worker is alive while its beat goes up; who watches compares beats with a clock of his own, so no clocks are compared.
workers = Table(
    "worker",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("seat", String(200), nullable=False),
    Column("beat", Integer, nullable=False),
)

# Layers are many times larger than the rest of a result and are never needed to list runs.
run_layers = Table(
    "run_layers",
    metadata,
    Column("run_id", String(32), ForeignKey("run.id"), primary_key=True),
    Column("layers", JSON, nullable=False),
)
