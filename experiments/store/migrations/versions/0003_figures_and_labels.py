"""Figures of results as columns the database computes, so that tables sort without reading documents; tags and notes."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

FIGURES = {
    "size_bytes": ("size", "bytes"),
    "size_ratio": ("size", "ratio"),
    "top1": ("quality", "top1"),
    "agreement": ("quality", "agreement"),
    "drop_pp": ("quality", "drop_pp"),
    "p50_ms": ("latency", "p50_ms"),
    "speedup": ("latency", "speedup"),
}
LONG = ("model", "technique", "stage")


def upgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    for name, (section, figure) in FIGURES.items():
        # SQLite cannot add a stored column to a table; there the index below holds the computed values.
        if postgresql:
            computed = sa.Computed(f"(result #>> '{{{section},{figure}}}')::double precision", persisted=True)
        else:
            computed = sa.Computed(f"json_extract(result, '$.{section}.{figure}')", persisted=False)
        op.add_column("run", sa.Column(name, sa.Float, computed))
        op.create_index(f"run_by_{name}", "run", [name])
    op.create_index("run_by_created", "run", ["created"])
    if postgresql:
        # SQLite ignores lengths, PostgreSQL refuses what is longer.
        for name in LONG:
            op.alter_column("run", name, type_=sa.Text)
    op.add_column("run", sa.Column("notes", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "run_tag",
        sa.Column("run_id", sa.String(32), sa.ForeignKey("run.id"), primary_key=True),
        sa.Column("tag", sa.String(100), primary_key=True),
    )
    op.create_index("run_tag_by_tag", "run_tag", ["tag"])


def downgrade() -> None:
    op.drop_table("run_tag")
    op.drop_index("run_by_created", "run")
    op.drop_column("run", "notes")
    for name in FIGURES:
        op.drop_index(f"run_by_{name}", "run")
        op.drop_column("run", name)
