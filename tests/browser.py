"""A headless Chromium of our own, driven through its local driver; it fetches nothing by itself."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


def missing() -> str:
    """Why no browser can be started here; empty where one can."""
    absent = [name for name in ("chromedriver",) if not shutil.which(name)]
    if not _chromium():
        absent.insert(0, "chromium")
    if absent:
        return f"{' and '.join(absent)} not installed: sh tests/install_chromium.sh"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "the Python package selenium is not installed: pip install -e '.[dev]'"
    return ""


@contextlib.contextmanager
def chromium(
    profile: Path, *, size: tuple[int, int] = (1440, 1000), arguments: tuple[str, ...] = ()
) -> Iterator[Any]:
    """A WebDriver; ``profile`` is a new empty folder. The browser has ended when the context has."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = _chromium() or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}", *arguments):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_page_load_timeout(180)
    try:
        yield driver
    finally:
        driver.quit()


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")
