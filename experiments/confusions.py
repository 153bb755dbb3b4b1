"""Which names a model confuses, as a contact sheet."""

from collections import Counter
from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from minclip.plots import contact_sheet
from minclip.zero_shot import check_labels


def plot_confusions(
    images: Tensor, labels: Tensor, predictions: Tensor, names: Sequence[str], count: int = 6, notice: str = ""
) -> Figure:
    """The most frequent confusions, one a row: the true name, what it was called, how often, up to five pictures.

    images: uint8 `[N, 3, H, W]`; labels, predictions: long `[N]` into names; notice: see `contact_sheet`. Of equally
    frequent ones, those that are met first. Raises ValueError for sizes that differ and labels out of range.
    """
    check_labels(len(images), len(names), labels=labels, predictions=predictions)
    wrong = Counter(both for both in zip(labels.tolist(), predictions.tolist()) if both[0] != both[1])
    rows = []
    for (true, called), number in wrong.most_common(count):
        pictures = images[(labels == true) & (predictions == called)][:5]
        rows.append((f"{names[true]}\ncalled {names[called]}, {number} times", pictures, [False] * 5))
    return contact_sheet(rows or [("nothing is confused", images[:1], [True])], notice)
