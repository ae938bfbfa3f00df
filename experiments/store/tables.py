"""The tables. Times are seconds since the epoch; `progress` is 0 to 1; JSON columns hold the documents of the command line."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table

metadata = MetaData()

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
    Column("model", String(200), nullable=False),
    Column("backend", String(40), nullable=False),
    Column("technique", String(2000), nullable=False),
    Column("status", String(20), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("stage", String(200), nullable=False, default=""),
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
    Index("run_by_status", "status"),
    Index("run_by_experiment", "experiment_id"),
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
