"""What every figure must be: its texts lie neither on each other nor off the page."""

import pytest
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def assert_legible(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws a figure and asserts that all of its texts can be read."""
    boxes: list[tuple[str, Bbox]] = []
    draw = Text.draw

    def record(text: Text, renderer: RendererBase) -> None:
        if text.get_visible() and text.get_text():
            # That of the text itself: the extent of an annotation has its line too.
            box = Text.get_window_extent(text, renderer)
            boxes.append((text.get_text(), box))
        draw(text, renderer)

    monkeypatch.setattr(Text, "draw", record)
    figure.draw_without_rendering()

    assert len(boxes) > 10
    page = figure.bbox.padded(1)
    for i, (text, box) in enumerate(boxes):
        assert page.containsx(box.x0) and page.containsx(box.x1), text
        assert page.containsy(box.y0) and page.containsy(box.y1), text
        # The boxes of upright numbers have room to spare above and below.
        over = [t for t, b in boxes[:i] if box.padded(-2).overlaps(b.padded(-2))]
        assert not over, text
