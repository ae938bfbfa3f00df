"""Phases, priorities, attempts and live data of runs; workers and their beats."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("run") as run:
        run.add_column(sa.Column("phase", sa.String(20), nullable=False, server_default="quantize"))
        run.add_column(sa.Column("phase_started", sa.Float))
        run.add_column(sa.Column("priority", sa.Integer, nullable=False, server_default="0"))
        run.add_column(sa.Column("attempts", sa.Integer, nullable=False, server_default="0"))
        run.add_column(sa.Column("lease_owner", sa.String(32)))
        run.add_column(sa.Column("live", sa.JSON))
    op.create_table(
        "worker",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("seat", sa.String(200), nullable=False),
        sa.Column("beat", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("worker")
    with op.batch_alter_table("run") as run:
        for column in ("phase", "phase_started", "priority", "attempts", "lease_owner", "live"):
            run.drop_column(column)
