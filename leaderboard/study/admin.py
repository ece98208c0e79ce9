"""Administration of the votes, for `xbench votes`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError, shown_path
from bench.store import Row
from leaderboard.escape import quoted
from leaderboard.study.config import votes_place
from leaderboard.study.export import export_votes
from leaderboard.study.moderation import Change, Kind, forget_networks, moderate, origins
from leaderboard.study.tokens import is_id
from leaderboard.study.votes import VotesDatabase


@dataclass(frozen=True)
class VotesAdmin:
    """Export, moderation and deletion of votes in a file or database."""

    place: str

    def export(self, folder: Path, *, study_id: str | None) -> dict[str, int]:
        """Write the tables; return their numbers of rows. `UserError` for an unknown study."""
        with VotesDatabase.open(self.place) as database:
            if study_id is not None:
                _check_study(database, study_id)
            return export_votes(database, folder, study_id=study_id)

    def forget(self, rater_id: str) -> int:
        """Delete all votes and ratings of a rater; return their number."""
        if not is_id(rater_id):
            raise UserError(
                f"{quoted(rater_id)} is not a rater id: the study page shows each rater's own"
            )
        with VotesDatabase.open(self.place) as database:
            return database.forget(rater_id)

    def origins(self, study_id: str) -> list[Row]:
        """Return who answered a study, by network: `moderation.origins`."""
        with VotesDatabase.open(self.place) as database:
            _check_study(database, study_id)
            return origins(database, study_id)

    def moderate(
        self,
        study_id: str,
        changes: Sequence[tuple[Kind, str, bool]],
        *,
        reason: str,
        dry_run: bool,
    ) -> list[Row]:
        """Exclude (or, with False, readmit) raters and networks; return the ranks' changes."""
        listed = [Change(*change) for change in changes]
        with VotesDatabase.open(self.place) as database:
            _check_study(database, study_id)
            return moderate(database, study_id, listed, reason=reason, dry_run=dry_run)

    def forget_networks(self, study_id: str) -> int:
        """Delete the networks of a study's raters; return the number of raters."""
        with VotesDatabase.open(self.place) as database:
            _check_study(database, study_id)
            return forget_networks(database, study_id)


def _check_study(database: VotesDatabase, study_id: str) -> None:
    if database.study(study_id) is None:
        known = ", ".join(database.study_ids()) or "none"
        raise UserError(f"there is no study {quoted(study_id)}: known are {known}")


def open_admin(place: str | None) -> VotesAdmin:
    """Open votes by file or URL, by default those of this server; `UserError` if there are none."""
    place = place or votes_place()
    if "://" not in place and not Path(place).expanduser().is_file():
        raise UserError(
            f"there are no votes in {shown_path(Path(place))}: name the file or URL with --votes"
        )
    return VotesAdmin(place)
