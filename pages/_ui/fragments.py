"""Parts of a page that run by themselves, every so often or when something in them is touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec

import streamlit as st

P = ParamSpec("P")


def fragment(draw: Callable[P, None], *, every: str | float | None = None) -> Callable[P, None]:
    """`draw` as a fragment in a container of its own; with `every` it runs anew after so many seconds, or so long as "1s".

    A bare fragment can overwrite what stands below it. Where its turn comes before the browser has got the page, Streamlit 1.67
    takes the fragment's place out of what is still to be sent (`ForwardMsgQueue.clear`); the browser then drops the old
    fragment, everything below moves up, and the fragment is drawn over its neighbour. In a container it has no neighbours.
    """

    def drawn(*args: P.args, **kwargs: P.kwargs) -> None:
        with st.container():
            st.fragment(draw, run_every=every)(*args, **kwargs)

    return drawn
