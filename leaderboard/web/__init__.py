"""HTTP headers, checks of host and origin, time-outs, routes of images and of files of runs."""

from leaderboard.web.connections import TimedConnection
from leaderboard.web.headers import SecurityHeaders
from leaderboard.web.hosts import KnownHosts, host_name
from leaderboard.web.origin import OwnOrigin
from leaderboard.web.pictures import picture_address, picture_routes
from leaderboard.web.site import page_parts, site_routes

__all__ = [
    "KnownHosts",
    "OwnOrigin",
    "SecurityHeaders",
    "TimedConnection",
    "host_name",
    "page_parts",
    "picture_address",
    "picture_routes",
    "site_routes",
]
