"""The address holds what was chosen, by clicking too, and nonsense in it is ignored."""

from streamlit.testing.v1 import AppTest


def script() -> None:
    from types import SimpleNamespace

    import streamlit as st

    from pages._ui import url_state

    st.text(",".join(url_state.read_list("runs")))
    url_state.follow("layer_choice", "layer", ["conv1", "dense"], "dense")
    st.selectbox("Layer", ["conv1", "dense"], key="layer_choice")
    clicked = st.session_state.get("click")
    if clicked is not None:
        st.session_state["chart"] = SimpleNamespace(selection=SimpleNamespace(points=clicked))
        url_state.choose_clicked("chart", "layer")


def run(**query: str) -> AppTest:
    page = AppTest.from_function(script)
    page.query_params.update(query)
    return page.run()


def test_a_list_keeps_its_order_and_each_value_once() -> None:
    assert run(runs="b,a,,b").text[0].value == "b,a"


def test_a_choice_follows_the_address_when_it_is_possible() -> None:
    assert run(layer="conv1").selectbox[0].value == "conv1"
    assert run(layer="nonsense").selectbox[0].value == "dense"


def test_a_click_puts_what_the_mark_carries_into_the_address() -> None:
    for carried in ("conv1", ["conv1"]):
        page = run()
        page.session_state["click"] = [{"customdata": carried}]
        page.run()
        assert page.query_params["layer"] == "conv1"
        page.session_state["click"] = []
        page.run()
        assert page.query_params["layer"] == "conv1"
