import pytest
import torch

from minclip.plots import plot_curves, plot_search, save_figure


def test_curves_have_labels_units_and_the_baseline():
    history = [{"step": s, "loss": 5.0 - s, "logit_scale": 14.0 + s} for s in (1, 2, 3)]
    left, right = plot_curves(history, 5.5).axes
    assert left.get_xlabel() == "step" and left.get_ylabel() == "loss (nats)" and right.get_ylabel()
    assert list(left.lines[0].get_ydata()) == [4.0, 3.0, 2.0] and left.lines[1].get_ydata()[0] == 5.5
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["training loss", "uninformed model"]


def test_search_shows_the_pictures_asked_for_in_order():
    images = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 3, 2, 2) * 50
    figure = plot_search(["a", "b"], images, torch.tensor([[3, 0], [1, 2]]), notice="who drew it")
    shown = [axes.images[0].get_array()[0, 0, 0].item() for axes in figure.axes if axes.images]
    assert shown == [150, 0, 50, 100]


def test_a_figure_that_cannot_be_saved_leaves_nothing(tmp_path):
    class Broken:
        def savefig(self, path, **kwargs):
            path.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_figure(Broken(), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
