"""HTTP headers, origin checks and the image route."""

from leaderboard.web.headers import SecurityHeaders
from leaderboard.web.origin import OwnOrigin
from leaderboard.web.pictures import picture_address, picture_routes

__all__ = ["OwnOrigin", "SecurityHeaders", "picture_address", "picture_routes"]
