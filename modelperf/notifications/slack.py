"""The `slack` channel: incoming webhooks of Slack, and of others that take the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

import msgspec

from modelperf.notifications.base import Envelope, Kind, register
from modelperf.notifications.posting import check_url, post
from modelperf.notifications.rendering import Condition, foot, parts, subject
from modelperf.templatetags.presentation import whole

MOST_BLOCKS: Final = 50
MOST_OF_A_TEXT: Final = 3000
MOST_OF_A_HEADER: Final = 150
_MOST_OF_NAMES: Final = 1200
_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_JOINER: Final = "\u200d"  # has no width
_LIVE: Final = re.compile(r"@|\](?=\()|:(?=//)|www(?=\.)", re.IGNORECASE)
_ALIKE: Final = str.maketrans({"*": "∗", "`": "ˋ", "~": "∼"})
_MARKS: Final = {"critical": ":red_circle:", "warning": ":large_yellow_circle:"}

Block = dict[str, Any]


@register("slack")
class Slack(Kind, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An incoming webhook, whose address is a secret: `{"url": ".."}`."""

    url: str
    secret: ClassVar[tuple[str, ...]] = ("url",)
    example: ClassVar[Mapping[str, Any]] = {"url": "https://hooks.slack.com/services/T0/B0/x"}

    def check(self) -> None:
        """Refuse what is no address."""
        check_url(self.url)

    def send(self, envelope: Envelope, at: datetime) -> str:
        """Send it."""
        content = msgspec.json.encode(document(envelope))
        return post(self.url, content, at=at, headers={})


def document(envelope: Envelope) -> dict[str, Any]:
    """Return a message within Slack's limits; what does not fit is counted, with a link."""
    told: list[Block] = []
    for heading, some in parts(envelope):
        if heading:
            told.append(_section(f"*{heading}*"))
        told.extend(_section(_said(one)) for one in some)
    room = MOST_BLOCKS - 2  # for the header and the foot
    if len(told) > room:
        left = len(told) - room + 1
        told = [*told[: room - 1], _section(_more(left, envelope.public_url))]
    title = subject(envelope)
    header = {"type": "plain_text", "text": _cut(dead(title), MOST_OF_A_HEADER), "emoji": False}
    return {
        "text": plain(title, MOST_OF_A_TEXT),
        "blocks": [
            {"type": "header", "text": header},
            *told,
            {"type": "context", "elements": [_words(plain(foot(envelope), MOST_OF_A_TEXT))]},
        ],
        "unfurl_links": False,
    }


def plain(text: str, most: int) -> str:
    """Return what others wrote so that it is shown and does nothing: cut, dead, escaped."""
    return escaped(dead(text), most)


def dead(text: str) -> str:
    """Return a text in which nothing mentions, links or formats.

    Others that take the same know `@channel`, bare addresses and `[..](..)` without any `<`. A
    joiner breaks these; of signs that format there is no escape, but there are some like them.
    """
    return _LIVE.sub(rf"\g<0>{_JOINER}", text).translate(_ALIKE)


def escaped(text: str, most: int) -> str:
    """Return a text in which Slack sees no link and no mention, cut between two signs."""
    signs = [_ESCAPES.get(sign, sign) for sign in text]
    while sum(map(len, signs)) > most:
        signs = [*signs[: min(len(signs) - 2, most)], "…"]
    return "".join(signs)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _section(text: str) -> Block:
    return {"type": "section", "text": _words(text)}


def _words(text: str) -> dict[str, Any]:
    """Return words in which Slack makes no links of its own, as `verbatim` has it."""
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _said(condition: Condition) -> str:
    mark = "" if condition.is_over else _MARKS.get(condition.severity, "")
    lines = [f"{mark} {plain(condition.headline, 900)}".strip()]
    if condition.figures:
        lines.append(plain(condition.figures, 400))
    if condition.members:
        lines.append(_names(condition.members))
    if condition.link:
        lines.append(f"<{escaped(condition.link, 400)}|Open the alert>")
    return "\n".join(lines)


def _names(members: tuple[str, ...]) -> str:
    """Return how many machines there are and as many of their names as there is room for."""
    shown: list[str] = []
    length = 0
    for name in members:
        shown.append(plain(name, 100))
        length += len(shown[-1]) + 2
        if length > _MOST_OF_NAMES:
            break
    left = len(members) - len(shown)
    more = f" and {whole(left)} more" if left else ""
    return f"{whole(len(members))} machines: {', '.join(shown)}{more}"


def _more(left: int, public_url: str) -> str:
    said = f"And {whole(left)} more"
    if not public_url:
        return f"{said}."
    return f"{said}: <{escaped(public_url, 400)}/admin/modelperf/alert/|all alerts>."
