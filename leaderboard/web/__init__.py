"""HTTP headers, checks of host and origin, time-outs, and the image route."""

from leaderboard.web.connections import TimedConnection
from leaderboard.web.headers import SecurityHeaders
from leaderboard.web.hosts import KnownHosts, host_name
from leaderboard.web.origin import OwnOrigin
from leaderboard.web.pictures import picture_address, picture_routes

__all__ = [
    "KnownHosts",
    "OwnOrigin",
    "SecurityHeaders",
    "TimedConnection",
    "host_name",
    "picture_address",
    "picture_routes",
]
