"""Claims about tokens and blinding."""

import stat
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from itsdangerous import TimestampSigner

from bench.errors import UserError
from leaderboard.study.tokens import SECRET_VARIABLE, Blinding, is_id, load_blinding
from tests.leaderboard.studies import BLINDING

OTHER = Blinding(b"another secret, also long enough to do")


def test_a_token_names_its_rater_and_every_browser_gets_another():
    token, other = BLINDING.new_token(), BLINDING.new_token()
    rater = BLINDING.rater_of(token)
    assert rater is not None and is_id(rater)
    assert rater == BLINDING.rater_of(token) != BLINDING.rater_of(other)


@pytest.mark.parametrize("token", [None, "", "x", "a.b.c", "0" * 32, "é" * 40, "\0", "." * 9000])
def test_an_invalid_token_has_no_rater(token):
    assert BLINDING.rater_of(token) is None


def test_forged_changed_and_old_tokens_name_nobody(monkeypatch):
    token = BLINDING.new_token()
    assert OTHER.rater_of(token) is None
    assert BLINDING.rater_of(("1" if token[0] == "0" else "0") + token[1:]) is None
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _self: 1_500_000_000)
    old = BLINDING.new_token()
    monkeypatch.undo()
    assert BLINDING.rater_of(old) is None


def test_picture_keys_differ_by_secret_and_reveal_nothing():
    key = BLINDING.picture_key("study", "plugin-xadapter-0.9", "plugin")
    assert is_id(key)
    assert key != OTHER.picture_key("study", "plugin-xadapter-0.9", "plugin")
    assert key != BLINDING.picture_key("study", "plugin-sdedit-0.9", "plugin")


def test_sides_are_fixed_for_a_rater_and_even_over_raters_and_pairs():
    assert BLINDING.left_of("r", "p") == BLINDING.left_of("r", "p")
    by_rater = Counter(BLINDING.left_of(f"r{i}", "p") for i in range(2000))
    by_pair = Counter(BLINDING.left_of("r", f"p{i}") for i in range(2000))
    for sides in (by_rater, by_pair):
        assert 900 < sides["first"] < 1100  # 4.5 standard deviations


def test_the_secret_is_made_once_for_its_owner_alone(tmp_path, monkeypatch):
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)
    path = tmp_path / "new" / "secret"
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: load_blinding(path).secret, range(16)))
    assert found == {load_blinding(path).secret}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_secret_that_others_can_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)
    path = tmp_path / "secret"
    load_blinding(path)
    path.chmod(0o644)
    with pytest.raises(UserError, match="can be read by others"):
        load_blinding(path)


def test_the_variable_comes_first_and_must_be_long(tmp_path, monkeypatch):
    monkeypatch.setenv(SECRET_VARIABLE, "k" * 32)
    assert load_blinding(tmp_path / "secret").secret == b"k" * 32
    monkeypatch.setenv(SECRET_VARIABLE, "short")
    with pytest.raises(UserError, match="has 5 characters"):
        load_blinding(tmp_path / "secret")
    assert not (tmp_path / "secret").exists()


def test_the_secret_is_never_shown():
    assert "secret of the tests" not in f"{BLINDING} {BLINDING!r}"


def test_an_address_counts_as_its_network_and_cannot_be_read_back():
    code = BLINDING.address_code
    assert code("2001:db8:1:2::9") == code("2001:db8:1:2:3:4:5:6") != code("2001:db8:1:3::9")
    assert code("10.0.0.1") == code("::ffff:10.0.0.1") != code("10.0.0.2")
    assert len({code("a proxy's word"), code(""), code("10.0.0.1")}) == 3
    assert "10.0.0.1" not in code("10.0.0.1") != OTHER.address_code("10.0.0.1")
