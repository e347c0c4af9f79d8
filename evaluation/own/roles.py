"""Roles: which tracks are sampled, which are laid over them, which only stand in the catalogue.

    references     in the catalogue, sampled by queries
    unknown        sampled by sample-free queries, and in no catalogue
    interference   what is laid over a sample; in no catalogue
    distractors    in the catalogue, sampled by none

The first three are shared out by whole families (tracks of one group or artist may share motifs), and distractors are
taken from families without a role, as far as there are enough; where not, single tracks are taken and counted.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from evaluation.own.survey import Track

_SHARED_OUT = ("references", "unknown", "interference")


@dataclass(frozen=True, kw_only=True)
class Need:
    """How many tracks of each role are wanted."""

    references: int
    unknown: int
    interference: int
    distractors: int | None  # None: every track of a family without a role

    @property
    def total(self) -> int:
        return self.references + self.unknown + self.interference + (self.distractors or 0)


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Tracks by role, each in one only."""

    references: tuple[Track, ...]
    unknown: tuple[Track, ...]
    interference: tuple[Track, ...]
    distractors: tuple[Track, ...]

    @property
    def all(self) -> tuple[Track, ...]:
        """Everything that is used."""
        return self.references + self.unknown + self.interference + self.distractors

    @property
    def shared(self) -> dict[str, int]:
        """How many tracks are of a family that has another role as well, which could not be avoided."""
        sampled = {track.family for track in self.references}
        laid = {track.family for track in self.interference}
        return {
            "distractors of a sampled family": sum(track.family in sampled for track in self.distractors),
            "distractors of a family laid over samples": sum(track.family in laid for track in self.distractors),
            "unknown tracks of a sampled family": sum(track.family in sampled for track in self.unknown),
            "interference tracks of a sampled family": sum(track.family in sampled for track in self.interference),
        }


def draw(tracks: Iterable[Track], need: Need, *, seed: int) -> Roles:
    """Share out the tracks, in an order that depends on seed and names alone.

    Raises ValueError where there are too few tracks, or none to lay over a reference that is not of its family.
    """
    tracks = sorted(tracks, key=lambda track: (_place(seed, track.id), track.further))
    own = [track for track in tracks if not track.further]
    missing = need.references + need.unknown + need.interference - len(own)
    if missing > 0 or need.total > len(tracks):
        raise ValueError(_too_few(need, own, tracks))
    shared_out, spare = _by_families(own, need, seed)
    chosen = _filled(shared_out, spare, need)
    used = {id(track) for members in chosen.values() for track in members}
    free = [track for track in tracks if id(track) not in used]
    distractors = _distractors(free, chosen, need.distractors)
    roles = Roles(**{role: tuple(members) for role, members in chosen.items()}, distractors=tuple(distractors))
    _expect_others_to_lay(roles)
    return roles


def _place(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}\n{name}".encode()).hexdigest()


def _too_few(need: Need, own: Sequence[Track], tracks: Sequence[Track]) -> str:
    wanted = f"{need.references} references, {need.interference} of interference and {need.unknown} unknown ones"
    further = f", {len(tracks) - len(own)} further for distractors" if len(tracks) > len(own) else ""
    return (
        f"too few tracks: {wanted}{f', {need.distractors} distractors' if need.distractors else ''} need {need.total}, "
        f"found {len(own)} usable{further}; name more music, or ask for fewer references, queries or distractors"
    )


def _by_families(
    tracks: Sequence[Track], need: Need, seed: int
) -> tuple[dict[str, list[Track]], dict[str, list[Track]]]:
    """Role -> tracks, family by family to the role that lacks most; and what a family had beyond the need."""
    families: dict[str, list[Track]] = defaultdict(list)
    for track in tracks:
        families[track.family].append(track)
    chosen: dict[str, list[Track]] = {role: [] for role in _SHARED_OUT}
    spare: dict[str, list[Track]] = {role: [] for role in (*_SHARED_OUT, "")}
    for family in sorted(families, key=lambda name: _place(seed, name)):
        role = max(_SHARED_OUT, key=lambda role: _lack(chosen, need, role))
        role = role if _lack(chosen, need, role) > 0 else ""
        room = getattr(need, role) - len(chosen[role]) if role else 0
        if role:
            chosen[role] += families[family][:room]
        spare[role] += families[family][room:]
    return chosen, spare


def _lack(chosen: Mapping[str, Sequence[Track]], need: Need, role: str) -> float:
    """Share of a role's tracks that is still to be found."""
    wanted: int = getattr(need, role)
    return 1.0 - len(chosen[role]) / wanted if wanted else 0.0


def _filled(
    chosen: Mapping[str, Sequence[Track]], spare: Mapping[str, Sequence[Track]], need: Need
) -> dict[str, list[Track]]:
    """Roles that whole families did not fill take single tracks; those of their own families would be taken already."""
    order = [track for role in ("", "interference", "unknown", "references") for track in spare[role]]
    filled = {}
    for role in _SHARED_OUT:
        room = getattr(need, role) - len(chosen[role])
        filled[role] = [*chosen[role], *order[:room]]
        order = order[room:]
    return filled


def _distractors(free: Sequence[Track], chosen: Mapping[str, Sequence[Track]], wanted: int | None) -> list[Track]:
    """Tracks of families without a role first; then of families laid over samples, of unknown, of sampled ones."""
    families = {role: {track.family for track in members} for role, members in chosen.items()}

    def closeness(track: Track) -> int:
        ranks = {"references": 3, "unknown": 2, "interference": 1}
        return max((ranks[role] for role, names in families.items() if track.family in names), default=0)

    if wanted is None:
        return [track for track in free if closeness(track) == 0]
    return sorted(free, key=closeness)[:wanted]  # stable: within one closeness the drawn order holds


def _expect_others_to_lay(roles: Roles) -> None:
    laid = {track.family for track in roles.interference}
    for track in (*roles.references, *roles.unknown):
        if laid <= {track.family}:
            raise ValueError(
                f"too few artists: all {len(roles.interference)} tracks of interference are of one group with "
                f"{track.id}, expected another group's; name music of more artists (folders count as artists)"
            )
