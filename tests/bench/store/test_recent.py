"""Recently used values: bounded by their total size, made once, safe from many threads."""

from concurrent.futures import ThreadPoolExecutor

from bench.store.recent import RecentItems


def test_the_least_recently_used_value_is_dropped() -> None:
    items = RecentItems[str, bytes](100, size=len)
    for name in "ab":
        items.add(name, bytes(40))
    assert items.find("a") is not None
    items.add("c", bytes(40))
    assert [name for name in "abc" if items.find(name)] == ["a", "c"]


def test_the_newest_value_is_kept_even_above_the_limit() -> None:
    items = RecentItems[str, bytes](100, size=len)
    items.add("small", bytes(10))
    items.add("large", bytes(500))
    assert items.find("large") is not None and items.find("small") is None


def test_without_a_size_the_limit_counts_values() -> None:
    items = RecentItems[int, str](2)
    for i in range(5):
        items.get(i, lambda: "x")
    assert [i for i in range(5) if items.find(i)] == [3, 4]


def test_of_several_threads_that_make_a_value_all_get_the_same() -> None:
    items = RecentItems[str, object](10)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: items.get("key", object), range(200)))
    assert found == {items.find("key")}
