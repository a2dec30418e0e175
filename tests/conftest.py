"""Fixtures that several test modules share."""

import os
from collections.abc import Iterator

import pytest
from browser import Browser, find_chromium
from debian import MAY_INSTALL

os.environ["HF_HUB_OFFLINE"] = "1"  # before any test imports huggingface_hub: tests must not depend on a network


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        pytest.skip(f"there is no Chromium here; with {MAY_INSTALL}=1 root has it installed from Debian's packages")
    browser = Browser(path, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
