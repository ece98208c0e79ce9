"""Claims about addresses on the site."""

import pytest

from leaderboard.ui.address import site_root


@pytest.mark.parametrize(
    ("url", "page", "root"),
    [
        ("http://host:8501/", "", "http://host:8501"),
        ("http://host:8501/plugin", "plugin", "http://host:8501"),
        ("https://host/xbench", "", "https://host/xbench"),
        ("https://host/xbench/", "", "https://host/xbench"),
        ("https://host/xbench/plugin", "plugin", "https://host/xbench"),
        ("https://host/plugin", "", "https://host/plugin"),  # a site under that path
        (None, "plugin", "http://localhost"),
    ],
)
def test_the_root_is_the_site_s_own_address_also_under_a_path(
    url: str | None, page: str, root: str
) -> None:
    assert site_root(url, page) == root
