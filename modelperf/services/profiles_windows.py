"""What a window becomes when it is sent once more, or in parts."""

from __future__ import annotations

import uuid
from hashlib import blake2b
from typing import Final, Literal

from modelperf.models.keys import uuid7
from modelperf.services.errors import ConflictError
from modelperf.services.profiles_store import StoredWindow
from modelperf.stats.profiles import Profile, merge

MOST_PARTS: Final = 1_000
Status = Literal["created", "unchanged", "replaced", "revised", "merged"]


def placed(
    old: StoredWindow | None,
    feature: str,
    reference_id: uuid.UUID,
    profile: Profile,
    part: str | None,
) -> tuple[StoredWindow, Status]:
    """Return what a window becomes, and how that follows from what it was."""
    packed = profile.to_bytes()
    digest = blake2b(packed, digest_size=8).hexdigest()
    parts = {} if part is None else {part: digest}
    new = StoredWindow(uuid7(), feature, reference_id, profile.n, profile.missing, packed, parts, 1)
    if old is None:
        return new, "created"
    revised = new._replace(id=old.id, revision=old.revision + 1)
    if old.reference_id != reference_id:
        return revised, "revised"
    if part is None:
        return (old, "unchanged") if old.profile == packed else (revised, "revised")
    if old.parts.get(part) == digest:
        return old, "unchanged"
    _refuse_part(old, part)
    added = merge([Profile.from_bytes(old.profile), profile])
    merged = old._replace(
        n=added.n, missing=added.missing, profile=added.to_bytes(), parts=old.parts | parts
    )
    return merged, "merged"


def _refuse_part(old: StoredWindow, part: str) -> None:
    again = "Send the whole window again, without merge, to replace it."
    if part in old.parts:
        msg = f"The part {part} of {old.feature} was counted with other content. {again}"
    elif not old.parts:
        msg = f"{old.feature} of this window was sent as a whole, so no part is added. {again}"
    elif len(old.parts) >= MOST_PARTS:
        msg = f"A window has at most {MOST_PARTS} parts. Add up some of them before."
    else:
        return
    raise ConflictError(msg, parts=sorted(old.parts)[:100])
