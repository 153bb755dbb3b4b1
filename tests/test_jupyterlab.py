"""The notebooks in JupyterLab, in a browser: they run, draw, answer to a hand on a slider, and stay readable without.

Pictures of what was seen are left in runs/screenshots/. Without playwright or a browser the tests are skipped; with
MINCLIP_BROWSER=required, as in CI, they fail instead.
"""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import lab as helper
import pytest
from lab import CELL, CODE, COUNTS, ERRORS, READ_CELL, Lab

RUN = ("01_pairs_and_tokens", "04_sigmoid_loss", "14_what_a_run_costs")
WIDGETS = ("04_sigmoid_loss", "14_what_a_run_costs")
ASSIGNMENT = "assignments/release/a1_softmax_loss/a1_softmax_loss.ipynb"
INTERACT = ".jp-Notebook .widget-interact"


@pytest.fixture(scope="module")
def browser():
    with helper.open_browser(helper.need_browser()) as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the files, which JupyterLab may change."""
    (helper.SCREENSHOTS / "timeout.png").unlink(missing_ok=True)  # of an earlier failure
    copy = tmp_path_factory.mktemp("minclip")
    helper.copy_files(copy)
    return copy


@pytest.fixture(scope="module")
def address(browser, folder, tmp_path_factory):
    with helper.server(folder, tmp_path_factory.mktemp("jupyter")) as address:
        yield address


@pytest.fixture
def lab(browser, address):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = Lab(context.new_page(), address)
    yield opened
    context.close()
    assert not opened.crashes


def cells_of(notebook: Path) -> list[dict]:
    return json.loads(notebook.read_text())["cells"]


def as_committed(cells: list[dict]) -> list[dict]:
    """What the cells of a notebook that was run should show."""
    shown, count = [], 0
    for cell in cells:
        code = cell["cell_type"] == "code"
        count += code
        pictures = sum("image/png" in output.get("data", {}) for output in cell.get("outputs", ()))
        shown.append({"code": code, "count": f"[{count}]:" if code else "", "pictures": pictures})
    return shown


def check_ran(shown: list[dict], cells: list[dict]) -> None:
    """Every code cell has run, in order, none with an error, and drawn as many pictures as the committed file has."""
    assert not [error for cell in shown for error in cell["errors"]]
    assert [{key: cell[key] for key in ("code", "count", "pictures")} for cell in shown] == as_committed(cells)


def check_readable(shown: list[dict], cells: list[dict]) -> None:
    """All pictures are there, the widget leaves a line of text, and the cells above it show what it would show."""
    assert [cell["pictures"] for cell in shown] == [cell["pictures"] for cell in as_committed(cells)]
    (place,) = [i for i, cell in enumerate(cells) if "widget-view" in json.dumps(cell.get("outputs", ""))]
    assert "Error" not in shown[place]["outputs"], "such as: Error displaying widget"
    above = [cell for cell in shown[place - 6 : place] if cell["code"]]
    assert any(cell["pictures"] or re.search(r"px .* FLOPs .*\$", cell["outputs"]) for cell in above)


def control(lab: Lab, kind: str, label: str):
    """The slider or the dropdown with this label."""
    name = lab.page.locator(f'.widget-label:text-is("{label}")')
    return lab.page.locator(f".jp-Notebook .widget-{kind}").filter(has=name)


def picture(lab: Lab, other: str | None = None) -> str:
    """The picture below the sliders, once there is one that is not `other`."""
    find = "document.querySelector('.jp-Notebook .widget-interact .jp-RenderedImage img')?.src"
    lab.wait(f"other => {find} && {find} !== other", arg=other, seconds=60)
    return lab.page.evaluate(find)


def move_the_sliders(lab: Lab) -> None:
    """`b` with the keyboard, `t` with the mouse, then both back by their numbers: another picture each time."""
    t, b = control(lab, "hslider", "t"), control(lab, "hslider", "b")
    first = picture(lab)
    b.locator(".noUi-handle").press("ArrowRight")
    second = picture(lab, other=first)
    track = t.locator(".noUi-base")
    track.click(position={"x": 0.75 * track.bounding_box()["width"], "y": 2})
    third = picture(lab, other=second)
    assert 70 < float(t.locator(".widget-readout").inner_text()) < 80
    assert third != first
    lab.screenshot("04_sigmoid_loss_sliders_moved", at=lab.page.locator(INTERACT).first)
    for slider, number in ((t, "10"), (b, "-10")):
        slider.locator(".widget-readout").fill(number)
        slider.locator(".widget-readout").press("Enter")
        third = picture(lab, other=third)
    assert third == first, "the same numbers draw the same picture"


def fill_in_the_form(lab: Lab) -> None:
    """Other sizes and models, and back: another bill each time."""
    line = f"{INTERACT} .jp-RenderedText"
    first = lab.page.locator(line).inner_text()
    assert re.match(r"H/14 +70 px .*\$", first)
    changes = (("size", "224", "H/14 +224 px"), ("model", "L/16", "L/16 +224 px"), ("size", "70", "This cannot be"))
    for label, value, answer in (*changes, ("model", "H/14", "H/14 +70 px")):
        control(lab, "dropdown", label).locator("select").select_option(value)
        lab.wait(f"answer => RegExp(answer).test(document.querySelector('{line}')?.innerText)", arg=answer, seconds=60)
        if value == "L/16":
            lab.screenshot("14_what_a_run_costs_form_changed", at=lab.page.locator(INTERACT).first)
    assert lab.page.locator(line).inner_text() == first


def test_the_start_page_of_make_lab(lab):
    """`make lab` shows the README of the notebooks as a page, and a link in it opens a notebook."""
    lab.page.goto(lab.address.format(path=""))
    page = lab.page.locator(".jp-MarkdownViewer")
    page.locator("h1").first.wait_for(timeout=60_000)
    assert "/notebooks/README.md" in lab.page.url
    lab.screenshot("start_page")
    assert not lab.page.get_by_text("Jupyter news").count(), "no question about news covers the page"
    page.locator("a[href*='04_sigmoid_loss.ipynb']").first.click()
    lab.wait_for_kernel()
    assert lab.page.locator(f"{CELL} h1").first.inner_text().startswith("04 · The sigmoid loss")


@pytest.mark.parametrize("name", RUN)
def test_a_notebook_runs(lab, folder, name, capsys):
    cells = cells_of(folder / "notebooks" / f"{name}.ipynb")
    lab.open(f"notebooks/{name}.ipynb")
    lab.screenshot(f"{name}_top")
    seconds = lab.run_all()
    with capsys.disabled():
        print(f"\n{name} in JupyterLab: all cells in {seconds:.0f} s")
    check_ran(lab.read(len(cells)), cells)
    lab.screenshot(f"{name}_figure", at=lab.page.locator(f"{CODE} .jp-RenderedImage").first)
    if name in WIDGETS:
        lab.screenshot(f"{name}_widgets", at=lab.page.locator(INTERACT).first)
        {"04_sigmoid_loss": move_the_sliders, "14_what_a_run_costs": fill_in_the_form}[name](lab)


@pytest.mark.parametrize("name", WIDGETS)
def test_widgets_are_not_missed_without_a_kernel(lab, folder, name):
    """The file as it is committed, in JupyterLab, and nothing runs."""
    cells = cells_of(folder / "notebooks" / f"{name}.ipynb")
    lab.open(f"notebooks/{name}.ipynb")
    lab.menu("Kernel", "Shut Down Kernel")
    check_readable(lab.read(len(cells)), cells)
    lab.screenshot(f"{name}_no_kernel", at=lab.page.locator(CODE, has_text="from ipywidgets").first, block="end")


@pytest.mark.parametrize("name", WIDGETS)
def test_widgets_are_not_missed_on_a_web_page(browser, folder, tmp_path, name):
    """The file as it is committed, made into a web page by nbconvert, read without a network."""
    notebook = folder / "notebooks" / f"{name}.ipynb"
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--output-dir", str(tmp_path), str(notebook)]
    subprocess.run(command, check=True, capture_output=True)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((tmp_path / f"{name}.html").as_uri())
    check_readable(page.locator(".jp-Cell").evaluate_all(f"cells => cells.map({READ_CELL})"), cells_of(notebook))
    at = page.locator(".jp-CodeCell", has_text="from ipywidgets").first
    Lab(page).screenshot(f"{name}_web_page", at=at, block="end")
    page.close()


def test_an_assignment_as_a_student_gets_it(lab, folder):
    """Run the first cell, ask for the hint, and run all before anything is written: an error, and no broken page."""
    cells = cells_of(folder / ASSIGNMENT)
    lab.open(ASSIGNMENT)
    lab.screenshot("a1_top")
    lab.page.locator(f"{CODE} .jp-InputArea-editor").first.click()
    lab.page.keyboard.press("Shift+Enter")
    lab.wait(f"{COUNTS}[0] === '[1]:'")
    assert not [error for cell in lab.read(len(cells)) for error in cell["errors"]]
    hint = lab.page.locator(f"{CELL} details", has_text="Hint").first
    assert not hint.evaluate("e => e.open")
    closed = hint.bounding_box()["height"]
    hint.locator("summary").click()
    lab.wait("hint => hint.open", arg=hint.element_handle(), seconds=60)
    assert hint.bounding_box()["height"] > 1.5 * closed, "now there is something to read"
    lab.screenshot("a1_hint", at=hint)
    lab.run_all()
    shown = [cell for cell in lab.read(len(cells)) if cell["code"]]
    # The first error stops what waits in the kernel's queue; what a slow browser sends after it still runs, and
    # then misses a name that a stopped cell would have set.
    errors = {i: cell["errors"] for i, cell in enumerate(shown) if cell["errors"]}
    assert errors and all("NotImplementedError" in text for text in errors[min(errors)]), errors
    later = [text for texts in errors.values() for text in texts]
    assert all("NotImplementedError" in text or "NameError" in text for text in later), errors
    assert all(re.search(r"\d", cell["count"]) for cell in shown[: min(errors) + 1])
    lab.screenshot("a1_not_written_yet", at=lab.page.locator(ERRORS).first)


@pytest.mark.parametrize("missing", ("playwright", "none of chromium"))
def test_no_browser_is_a_skip_but_a_failure_where_one_is_required(monkeypatch, missing):
    if missing == "playwright":
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    else:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: "found")
        monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.delenv("MINCLIP_BROWSER", raising=False)
    with pytest.raises(pytest.skip.Exception, match=missing):
        helper.need_browser()
    monkeypatch.setenv("MINCLIP_BROWSER", "required")
    with pytest.raises(pytest.fail.Exception, match=missing):
        helper.need_browser()
