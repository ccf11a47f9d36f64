"""One Helm for all tests of the chart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helm.charts import Helm


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Helm]:
    with Helm(tmp_path_factory.mktemp("home")) as helm:
        yield helm
