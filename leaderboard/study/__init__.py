"""The blind human study: design, votes and results."""

from leaderboard.study.config import voting
from leaderboard.study.design import Study
from leaderboard.study.runs import study_of
from leaderboard.study.votes import Vote, VotesDatabase
from leaderboard.study.web import RaterCookie, study_routes

__all__ = ["RaterCookie", "Study", "Vote", "VotesDatabase", "study_of", "study_routes", "voting"]
