"""ASGI entry: `streamlit run app.py` from any folder, or `uvicorn app:app`.

`st.navigation` lives in pages/_shell.py and not here: with a `pages/` folder beside the script that calls it, a deep link on a
fresh server would run that page alone, without layout or navigation.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from pages._ui.errors import show_script_error


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[None]:
    threading.Thread(target=_warm_up, daemon=True).start()
    yield


def _warm_up() -> None:
    """Imports what the first page needs while its visitor is still connecting."""
    import pandas  # noqa: F401
    import plotly.graph_objects  # noqa: F401

    import experiments.library  # noqa: F401


ROOT = Path(__file__).parent
app = st.App(
    ROOT / "pages" / "_shell.py",
    lifespan=lifespan,
    # Streamlit's own static serving would look beside the shell, in pages/static.
    routes=[Mount("/app/static", StaticFiles(directory=ROOT / "static"))],
    on_script_error=show_script_error,
)
