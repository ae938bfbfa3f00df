"""One design: charts and pages share colours, text can be read on both backgrounds, and nothing is fetched from elsewhere."""

import re
import tomllib
from pathlib import Path

import pytest

from pages._ui.theme import DARK, LIGHT, Palette
from quantizers.schema import Backend

ROOT = Path(__file__).parents[2]
CONFIG = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
BOTH = pytest.mark.parametrize(("palette", "name"), [(LIGHT, "light"), (DARK, "dark")])


def luminance(colour: str) -> float:
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a: str, b: str) -> float:
    """WCAG 2 contrast ratio."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@BOTH
def test_charts_and_pages_share_their_colours(palette: Palette, name: str) -> None:
    theme = CONFIG["theme"][name]
    pairs = {"backgroundColor": palette.background, "secondaryBackgroundColor": palette.surface, "textColor": palette.text}
    pairs |= {
        "greenColor": palette.better,
        "redColor": palette.worse,
        "grayColor": palette.muted,
        "primaryColor": palette.accent,
    }
    assert {key: theme[key] for key in pairs} == pairs


@BOTH
def test_what_is_read_has_a_contrast_of_four_and_a_half(palette: Palette, name: str) -> None:
    inks = [palette.text, palette.muted, palette.better, palette.worse, *palette.backend.values()]
    assert {ink: contrast(ink, palette.background) >= 4.5 for ink in inks} == dict.fromkeys(inks, True)


@BOTH
def test_error_scale_only_gets_darker(palette: Palette, name: str) -> None:
    steps = [luminance(colour) for colour in palette.error]
    assert steps == sorted(steps, reverse=True)


@BOTH
def test_every_backend_has_a_hue_of_its_own(palette: Palette, name: str) -> None:
    assert set(palette.backend) == set(Backend)
    assert len({*palette.backend.values(), palette.better, palette.worse, palette.reference}) == len(Backend) + 3


def test_fonts_are_served_by_the_app() -> None:
    for face in CONFIG["theme"]["fontFaces"]:
        assert (ROOT / face["url"].removeprefix("app/")).is_file()
    assert not re.search(r"https?://", (ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))


def test_the_server_keeps_to_itself() -> None:
    assert CONFIG["server"]["address"] == "127.0.0.1"
    assert CONFIG["browser"]["gatherUsageStats"] is False
    assert CONFIG["client"]["showErrorDetails"] == "none"
