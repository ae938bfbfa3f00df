"""Labels never collide with each other or with marks, whatever the data."""

from hypothesis import given
from hypothesis import strategies as some

from pages._ui.charts_labels import MARK_RADIUS, Box, _box, place

WIDTH, HEIGHT = 330.0, 300.0
MARKS = some.lists(some.tuples(some.floats(0, WIDTH), some.floats(0, HEIGHT)), min_size=1, max_size=10)


@given(MARKS)
def test_no_label_overlaps_anything(marks: list[tuple[float, float]]) -> None:
    texts = [f"TFLite · run {number}" for number in range(len(marks))]
    placed = [
        _box(mark, text, where)
        for mark, text, where in zip(marks, texts, place(marks, texts, WIDTH, HEIGHT), strict=True)
        if where
    ]
    around = [Box(x - MARK_RADIUS, x + MARK_RADIUS, y - MARK_RADIUS, y + MARK_RADIUS) for x, y in marks]
    for number, box in enumerate(placed):
        assert box.within(WIDTH, HEIGHT)
        assert not any(box.overlaps(other) for other in [*placed[:number], *around])


@given(MARKS)
def test_the_first_is_labelled_in_any_case(marks: list[tuple[float, float]]) -> None:
    assert place(marks, ["name"] * len(marks), WIDTH, HEIGHT, must=1)[0] is not None


def test_a_mark_with_room_is_labelled_on_its_right() -> None:
    (where,) = place([(50.0, 150.0)], ["Full int8"], WIDTH, HEIGHT)
    assert where is not None
    assert where.anchor == "left"


def test_a_mark_at_the_right_edge_is_labelled_on_its_left() -> None:
    (where,) = place([(WIDTH - 10, 150.0)], ["Full int8"], WIDTH, HEIGHT)
    assert where is not None
    assert where.anchor == "right"
