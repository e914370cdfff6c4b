"""The documents name what there is: links lead somewhere, no counter and no key is left out."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from narfs.cache.chunk_cache import CacheStatistics
from narfs.daemon.config import KEYS
from narfs.daemon.reports.report import MissReport, PathReport, Report
from narfs.engine.means import Counters
from narfs.engine.store import StoreStatistics
from narfs.lake.index_stores import IndexStoresStatistics
from narfs.lake.transport import TransportStatistics
from narfs.lake.upstreams import UpstreamsStatistics
from narfs.mount.statistics import MountStatistics

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *sorted((REPOSITORY / "docs").glob("*.md"))]

_LINK = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def _anchors(text: str) -> set[str]:
    """Name headings as the usual renderers of Markdown do."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target, anchor in _LINK.findall(document.read_text()):
        place = document.parent / target if target else document
        assert place.exists(), target
        assert not anchor or anchor in _anchors(place.read_text()), (target, anchor)


@pytest.mark.parametrize("document", sorted((REPOSITORY / "docs").glob("*.md")), ids=lambda document: document.name)
def test_the_readme_leads_to_every_document(document: Path) -> None:
    assert f"(docs/{document.name})" in (REPOSITORY / "README.md").read_text()


def test_every_counter_of_the_status_is_explained() -> None:
    told = (REPOSITORY / "docs/operations.md").read_text()
    kinds = (
        Counters,
        StoreStatistics,
        CacheStatistics,
        MountStatistics,
        UpstreamsStatistics,
        TransportStatistics,
        IndexStoresStatistics,
    )
    names = {field.name for kind in kinds for field in dataclasses.fields(kind)} - {"counters", "lakes"}
    assert [name for name in sorted(names) if not re.search(rf"[`.]{name}`", told)] == []


def test_every_field_of_a_report_is_explained() -> None:
    told = (REPOSITORY / "docs/operations.md").read_text()
    names = {field.name for kind in (Report, PathReport, MissReport) for field in dataclasses.fields(kind)}
    assert [name for name in sorted(names) if f"`{name}`" not in told] == []


def test_every_key_of_the_configuration_is_explained() -> None:
    told = (REPOSITORY / "docs/configuration.md").read_text()
    assert [key for key in KEYS if f"| `{key}`" not in told] == []
