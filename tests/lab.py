"""JupyterLab in a browser without a window, as people use it: for test_jupyterlab.py.

A server of its own on loopback, with the arguments of `make lab`, on a copy of the files: it saves what is open every
two minutes, and no test may change the work tree.
"""

import contextlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCREENSHOTS = ROOT / "runs" / "screenshots"
COPIED = ("notebooks", "assignments", "data", "results", "experiments", "docs", "README.md", "jupytext.toml")
MAC = "/Applications/{0}.app/Contents/MacOS/{0}"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", *map(MAC.format, ("Google Chrome", "Chromium")))
SECONDS = 180  # the longest wait for anything; a slow machine is no failure

PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"
CELL, CODE = f"{PANEL} .jp-Notebook .jp-Cell", f"{PANEL} .jp-Notebook .jp-CodeCell"
IDLE = "/\\| Idle/.test(document.querySelector('#jp-main-statusbar')?.innerText)"
COUNTS = f"[...document.querySelectorAll('{CODE} .jp-InputPrompt')].map(e => e.textContent.trim())"
DRAWN = """(cell => !cell.classList.contains('jp-mod-placeholder')
    && [...cell.querySelectorAll('img')].every(e => e.complete))"""
ERRORS = '[data-mime-type$="jupyter.stderr"], [data-mime-type$="jupyter.error"]'  # JupyterLab 4 draws errors as stderr
READ_CELL = """cell => ({
    code: cell.classList.contains('jp-CodeCell'),
    count: cell.querySelector('.jp-InputPrompt')?.textContent.trim() ?? '',
    errors: [...cell.querySelectorAll('ERRORS')].map(e => e.textContent),
    pictures: [...cell.querySelectorAll('.jp-RenderedImage img')].filter(e => !e.closest('.jupyter-widgets'))
        .filter(e => e.complete && e.naturalWidth > 50 && e.getBoundingClientRect().width > 50).length,
    outputs: cell.querySelector('.jp-Cell-outputArea')?.textContent.trim() ?? '',
})""".replace("ERRORS", ERRORS)


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def need_browser() -> str:
    """The browser, or a skip that says what is missing; a failure where MINCLIP_BROWSER=required, as in CI."""
    browser, reason = find_browser(), None
    if importlib.util.find_spec("playwright") is None:
        reason = "no browser test: the Python package playwright is not installed (it is in the extra `dev`)"
    elif browser is None:
        reason = f"no browser test: none of {', '.join(BROWSERS)} is installed"
    if reason and os.environ.get("MINCLIP_BROWSER") == "required":
        pytest.fail(f"{reason}, and MINCLIP_BROWSER=required", pytrace=False)
    if reason:
        pytest.skip(reason)
    return browser


def copy_files(target: Path) -> None:
    """The notebooks and what is read beside them."""
    ignore = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__", "*.part")
    for path in (ROOT / name for name in COPIED):
        if path.is_dir():
            shutil.copytree(path, target / path.name, ignore=ignore)
        elif path.exists():
            shutil.copy(path, target)


def lab_arguments() -> list[str]:
    """What `make lab` says to JupyterLab."""
    printed = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (command,) = re.findall(r"^\S*/jupyter lab\b.*$", printed, re.MULTILINE)
    return shlex.split(command)[2:]


@contextlib.contextmanager
def server(folder: Path, private: Path):
    """JupyterLab for the files in `folder`, with all that it writes in `private`: gives the address with its token."""
    token = "minclip"
    own = {f"JUPYTER_{kind}_DIR": str(private / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    environment = {**os.environ, **own, "IPYTHONDIR": str(private / "ipython"), "OMP_NUM_THREADS": "1"}
    environment.pop("MPLBACKEND", None)  # another one would leave the notebooks without figures
    arguments = ["--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0"]
    # Where pytest itself is killed, nobody stops the server: then it stops when nothing has happened for a while.
    arguments += ["--MappingKernelManager.cull_idle_timeout=600", "--MappingKernelManager.cull_connected=True"]
    arguments += ["--ServerApp.shutdown_no_activity_timeout=600"]
    command = [sys.executable, "-m", "jupyterlab", *lab_arguments(), *arguments, f"--IdentityProvider.token={token}"]
    log = private / "server.log"
    with open(log, "w") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        end = time.monotonic() + SECONDS
        while not (files := list((private / "runtime").glob("jpserver-*.json"))) or not files[0].stat().st_size:
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-3000:]}", pytrace=False)
            time.sleep(0.1)
        yield f"{json.loads(files[0].read_text())['url']}{{path}}?token={token}"
    finally:
        process.terminate()  # it ends its kernels
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # a kernel without its server ends by itself
            process.wait()


@contextlib.contextmanager
def open_browser(executable: str):
    """Chromium without a window, which can reach nothing but this machine."""
    from playwright.sync_api import sync_playwright

    offline = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--disable-gpu", offline])
        try:
            yield browser
        finally:
            browser.close()


class Lab:
    """A page of JupyterLab, and what people do with it."""

    def __init__(self, page, address: str = ""):
        self.page, self.address, self.crashes = page, address, []
        page.set_default_timeout(1000 * SECONDS)
        page.on("pageerror", lambda error: self.crashes.append(str(error)))
        page.on("crash", lambda _page: self.crashes.append("the page crashed"))

    def screenshot(self, name: str, at=None, block: str = "center") -> None:
        """The window as it is, with the element `at` in the middle, or at the `end`."""
        if at is not None:
            at.evaluate("(e, block) => e.scrollIntoView({block})", block)
        self.page.wait_for_timeout(500)  # the page comes to rest
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def wait(self, expression: str, arg=None, seconds: float | None = None) -> None:
        """Until this is true of the page; if it never is, a screenshot shows what was there instead."""
        from playwright.sync_api import TimeoutError

        seconds = seconds or SECONDS
        try:
            self.page.wait_for_function(expression, arg=arg, timeout=1000 * seconds)
        except TimeoutError:
            self.screenshot("timeout")
            pytest.fail(f"after {seconds} seconds still not true (see timeout.png): {expression}")

    def open(self, path: str) -> None:
        """Open a notebook, and nothing of before, and wait for its kernel: without it, `Run All Cells` does nothing."""
        self.page.goto(self.address.format(path=f"lab/tree/{path}") + "&reset")
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        """The notebook is there and its kernel idle; a dialog instead says what is wrong."""
        self.wait(f"document.querySelector('{CELL}') && {IDLE} || document.querySelector('.jp-Dialog')")
        dialogs = self.page.locator(".jp-Dialog").all_inner_texts()
        assert not dialogs, dialogs

    def menu(self, bar: str, entry: str) -> None:
        self.page.click(f'.lm-MenuBar-itemLabel:text-is("{bar}")')
        self.page.click(f'.lm-Menu-itemLabel:text-is("{entry}")')

    def run_all(self) -> float:
        """Clear the outputs that came with the file, run all cells, and wait until nothing runs: the seconds."""
        self.menu("Edit", "Clear Outputs of All Cells")
        began = time.perf_counter()
        self.menu("Run", "Run All Cells")
        self.wait(f"{COUNTS}.some(text => /\\d/.test(text))")
        self.wait(f"{IDLE} && !{COUNTS}.some(text => text.includes('*'))")
        return time.perf_counter() - began

    def read(self, count: int) -> list[dict]:
        """What each cell shows, by reading from top to bottom: JupyterLab draws a cell when it comes into view."""
        cells = []
        self.wait(f"document.querySelectorAll('{CELL}').length >= {count}")
        for i in range(self.page.locator(CELL).count()):
            cell = self.page.locator(CELL).nth(i)
            cell.scroll_into_view_if_needed()
            self.wait(f"cell => {DRAWN}(cell)", arg=cell.element_handle())
            cells.append(cell.evaluate(READ_CELL))
        return cells
