import pytest
import torch

from experiments.confusions import plot_confusions
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
    assert [axes.get_ylabel() for axes in figure.axes] == ["a", "", "b", ""]
    assert figure.get_supxlabel() == "who drew it"


def test_search_frames_what_is_correct():
    images = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    correct = torch.tensor([[True, False]])
    figure = plot_search(["a"], images, torch.tensor([[0, 1]]), correct)
    assert [axes.spines["top"].get_linewidth() for axes in figure.axes] == [2, 0.5]
    unknown = plot_search(["a"], images, torch.tensor([[0, 1]]))
    assert [axes.spines["top"].get_linewidth() for axes in unknown.axes] == [0.5, 0.5]


def shown_in(figure) -> list[tuple[str, int]]:
    return [(axes.get_ylabel(), axes.images[0].get_array()[0, 0, 0].item()) for axes in figure.axes]


def test_confusions_are_the_most_frequent_ones_with_their_pictures():
    images = torch.arange(12, dtype=torch.uint8)[:, None, None, None].expand(12, 3, 2, 2)
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2])
    predictions = torch.tensor([2, 0, 2, 2, 2, 2, 2, 0, 0, 1, 2, 0])
    expected = [("cat\ncalled owl, 6 times", 0), *(("", i) for i in (2, 3, 4, 5))]  # five of the six
    expected += [("dog\ncalled cat, 2 times", 7), ("", 8)]
    names = ["cat", "dog", "owl"]
    assert shown_in(plot_confusions(images, labels, predictions, names, count=2)) == expected
    everything = plot_confusions(images, labels, predictions, names, notice="who drew it")
    assert shown_in(everything) == [*expected, ("owl\ncalled cat, 1 times", 11)]
    assert everything.get_supxlabel() == "who drew it"
    assert shown_in(plot_confusions(images, labels, labels, names)) == [("nothing is confused", 0)]


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([0, 3], [0, 1], r"labels\[1\] is 3, outside \[0, 3\)"),
        ([0, 1], [-1, 1], r"predictions\[0\] is -1"),
        ([0, 1, 1], [0, 1], r"labels \[3\] must be \[N\], one for each of the 2 rows"),
    ],
)
def test_confusions_name_the_bad_input(labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        plot_confusions(
            torch.zeros(2, 3, 2, 2, dtype=torch.uint8), torch.tensor(labels), torch.tensor(predictions), ["a", "b", "c"]
        )


def test_a_figure_that_cannot_be_saved_leaves_nothing(tmp_path):
    class Broken:
        def savefig(self, path, **kwargs):
            path.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_figure(Broken(), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
