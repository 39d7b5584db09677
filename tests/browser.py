"""A real browser that looks at a page, where this machine has one. Effects: processes."""

import os
import shutil
from contextlib import contextmanager

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]

needs_browser = pytest.mark.skipif(
    CHROMIUM is None,
    reason="NO BROWSER: install Debian's chromium, or name one in CHROMIUM, to have the pages looked at",
)


@contextmanager
def opened(path, **settings):
    """Yield a page of a file, and everything that its console has said by then and will say."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(**settings)
        said = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        page.goto(f"file://{path}")
        yield page, said
        browser.close()
