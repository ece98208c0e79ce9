"""Administration of the votes, for `xbench votes`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError, shown_path
from leaderboard.study.config import votes_place
from leaderboard.study.export import export_votes
from leaderboard.study.tokens import is_id
from leaderboard.study.votes import VotesDatabase


@dataclass(frozen=True)
class VotesAdmin:
    """Export and deletion of votes in a file or database."""

    place: str

    def export(self, folder: Path, *, study_id: str | None) -> dict[str, int]:
        """Write the tables; return their numbers of rows. `UserError` for an unknown study."""
        with VotesDatabase.open(self.place) as database:
            if study_id is not None and database.study(study_id) is None:
                known = ", ".join(database.study_ids()) or "none"
                raise UserError(f"there is no study {study_id!r}: known are {known}")
            return export_votes(database, folder, study_id=study_id)

    def forget(self, rater_id: str) -> int:
        """Delete all votes and ratings of a rater; return their number."""
        if not is_id(rater_id):
            raise UserError(
                f"{rater_id!r} is not a rater id: the study page shows each rater's own"
            )
        with VotesDatabase.open(self.place) as database:
            return database.forget(rater_id)


def open_admin(place: str | None) -> VotesAdmin:
    """Open votes by file or URL, by default those of this server; `UserError` if there are none."""
    place = place or votes_place()
    if "://" not in place and not Path(place).expanduser().is_file():
        raise UserError(
            f"there are no votes in {shown_path(Path(place))}: name the file or URL with --votes"
        )
    return VotesAdmin(place)
