"""HTTP headers, checks of host and origin, time-outs, routes of images and of files of runs."""

from leaderboard.web.connections import TimedConnection
from leaderboard.web.headers import SecurityHeaders
from leaderboard.web.hosts import KnownHosts, host_name
from leaderboard.web.origin import OwnOrigin
from leaderboard.web.pictures import picture_address, picture_routes
from leaderboard.web.site import PageAddresses, RoutePictures, site_routes

__all__ = [
    "KnownHosts",
    "OwnOrigin",
    "PageAddresses",
    "RoutePictures",
    "SecurityHeaders",
    "TimedConnection",
    "host_name",
    "picture_address",
    "picture_routes",
    "site_routes",
]
