"""Takes a picture of a page of `eager-lmeval report` in headless Chromium, a document's tree unfolded.

python scripts/screenshot_report.py report.html picture.png --run 3 --document 2 --width 1400
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from browser import Browser, find_chromium


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--run", type=int, default=0, help="place in the page's list of runs, from 0")
    parser.add_argument("--document", type=int, help="doc_id to open and scroll to; default: the top of the page")
    parser.add_argument("--width", type=int, default=1400)
    parser.add_argument("--height", type=int, default=1000)
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    args = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        parser.error(
            "there is no Chromium here: install chromium, chromium-browser or google-chrome and have it in PATH"
        )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(chromium, Path(profile))
        browser.size(args.width, args.height, args.scheme)
        browser.open(args.page)
        browser.value(
            f"document.querySelector('#run').value = '{args.run}'; "
            "document.querySelector('#run').dispatchEvent(new Event('change'))"
        )
        if args.document is not None:
            browser.value(f"document.querySelector('#list [data-id=\"{args.document}\"]').click()")
            browser.wait("document.querySelector('.picture .course') !== null")
            browser.value("document.querySelector('#documents').scrollIntoView()")
        browser.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        browser.screenshot(args.picture)
        browser.close()


if __name__ == "__main__":
    main()
