"""What `xbench votes` does."""

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
    """Administration of the votes at a place."""

    place: str

    def export(self, folder: Path, *, study_id: str | None) -> dict[str, int]:
        """Write the tables; how many rows each has. `UserError` for an unknown study."""
        with VotesDatabase.open(self.place) as book:
            if study_id is not None and book.study(study_id) is None:
                known = ", ".join(book.study_ids()) or "none"
                raise UserError(f"there is no study {study_id!r}: known are {known}")
            return export_votes(book, folder, study_id=study_id)

    def forget(self, rater_id: str) -> int:
        """Delete everything of a rater; how many rows that were."""
        if not is_id(rater_id):
            raise UserError(f"{rater_id!r} is no rater: the study page shows each rater's number")
        with VotesDatabase.open(self.place) as book:
            return book.forget(rater_id)


def open_admin(place: str | None) -> VotesAdmin:
    """The votes at a place, by default those of this server; `UserError` where there are none."""
    place = place or votes_place()
    if "://" not in place and not Path(place).expanduser().is_file():
        raise UserError(
            f"there are no votes in {shown_path(Path(place))}: name the file or URL with --votes"
        )
    return VotesAdmin(place)
