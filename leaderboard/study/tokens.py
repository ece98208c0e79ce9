"""Signed rater tokens, opaque picture keys and shuffled sides, all derived from one secret.

The secret is read from XBENCH_STUDY_SECRET or from a file that only its owner can read. Replicas
must share it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path

from itsdangerous import BadSignature, TimestampSigner

from bench.errors import UserError, disk_error, shown_path
from leaderboard.study.schema import ID_LENGTH, Position

SECRET_VARIABLE = "XBENCH_STUDY_SECRET"
TOKEN_DAYS = 180
_MIN_SECRET_LENGTH = 32
_ID = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")


def is_id(text: str) -> bool:
    """Return True for a well-formed id."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True)
class Blinding:
    """Functions keyed by the secret, which is excluded from `repr`."""

    secret: bytes = field(repr=False)

    def new_token(self) -> str:
        """Create a signed token for a new rater."""
        return self._signer().sign(secrets.token_hex(ID_LENGTH // 2)).decode()

    def rater_of(self, token: str | None) -> str | None:
        """Return the rater of a token; None if it is forged, damaged or expired."""
        if not token:
            return None
        try:
            rater = self._signer().unsign(token, max_age=TOKEN_DAYS * 86_400).decode()
        except (BadSignature, UnicodeDecodeError):
            return None
        return rater if is_id(rater) else None

    def picture_key(self, study_id: str, trial_id: str, plugin: str) -> str:
        """Return the public key of a picture, which cannot be computed without the secret."""
        return self._digest("picture", study_id, trial_id, plugin)

    def left_of(self, rater_id: str, pair_id: str) -> Position:
        """Return the left picture of a pair for a rater: deterministic, balanced over all pairs."""
        return "first" if int(self._digest("side", rater_id, pair_id), 16) & 1 else "second"

    def rank_of(self, rater_id: str, item: str) -> str:
        """Return a sort key that shuffles items per rater."""
        return self._digest("order", rater_id, item)

    def address_code(self, address: str) -> str:
        """Hash a network address for the rate limit.

        Only the first 64 bits of IPv6 count: one visitor owns all addresses with this prefix.
        """
        return self._digest("address", _prefix_of(address, ipv4=32, ipv6=64))

    def network_code(self, study_id: str, address: str) -> str:
        """Return the pseudonym of an address's network (IPv4 /24, IPv6 /56) in one study.

        The key of each study is another one, so pseudonyms of two studies cannot be compared.
        """
        key = Blinding(self._digest("study-network", study_id).encode())
        return key._digest("network", _prefix_of(address, ipv4=24, ipv6=56))

    def _signer(self) -> TimestampSigner:
        return TimestampSigner(self.secret, salt="xbench-rater", digest_method=hashlib.sha256)

    def _digest(self, *parts: str) -> str:
        message = b"\0".join(part.encode() for part in parts)
        return hmac.new(self.secret, message, hashlib.sha256).hexdigest()[:ID_LENGTH]


def _prefix_of(address: str, *, ipv4: int, ipv6: int) -> str:
    """Return the network of an address with prefixes of these lengths in bits."""
    try:
        known = ip_address(address)
    except ValueError:  # a proxy's name for a client
        return address
    known = getattr(known, "ipv4_mapped", None) or known
    length = ipv4 if known.version == 4 else ipv6
    return str(ip_network((known.packed, length), strict=False)).removesuffix("/32")


def load_blinding(path: Path) -> Blinding:
    """Load the secret from XBENCH_STUDY_SECRET, else from the file, which is created if missing.

    `UserError` for a secret that is too short, or a file that others can read.
    """
    given = os.environ.get(SECRET_VARIABLE)
    if given is not None:
        return Blinding(_checked(given, SECRET_VARIABLE))
    try:
        if not path.exists():
            _make_secret(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError):
            raise disk_error(error, path) from error
        raise UserError(f"{shown_path(path)} does not contain a secret: delete it") from error
    if mode & 0o077:
        raise UserError(
            f"{shown_path(path)} can be read by others (mode {mode:o}): chmod 600 it, or delete it "
            "to create a new secret (existing raters then count as new ones)"
        )
    return Blinding(_checked(text.strip(), shown_path(path)))


def _checked(text: str, where: str) -> bytes:
    if len(text) < _MIN_SECRET_LENGTH:
        raise UserError(
            f"the secret in {where} has {len(text)} characters: give at least "
            f"{_MIN_SECRET_LENGTH} random ones, such as: openssl rand -hex 32"
        )
    return text.encode()


def _make_secret(path: Path) -> None:
    """Write a new secret atomically, or keep the one that another process wrote first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        temporary.unlink()
