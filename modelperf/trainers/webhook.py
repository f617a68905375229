"""A trainer elsewhere: an orchestrator is asked by a signed POST, and reports back when it is done.

What it gets is a JSON body: `run_id`, `attempt`, `machine`, `model_type`, `data_start`, `data_end`
(exclusive), `hyperparameters`, `previous` (null for a first version), `source` (the policy's
training_source, or null), and `callback` with the `url` below which it reports (`/start`,
`/progress`, `/complete`, `/fail`) and the `token` that it sends there as `Authorization: Bearer`.

How a receiver knows the request is ours: `X-Modelperf-Signature: t=<unix seconds>,v1=<hex>` holds
the HMAC-SHA256 of `<t>.<body>`, the body byte by byte as it came, under the UTF-8 bytes of
MODELPERF_WEBHOOK_SECRET. Where that is empty the secret is derived from MODELPERF_SECRET_KEY, and
`manage.py shell --no-imports -c "from modelperf.outgoing import signatures;
print(signatures.secret())"` (in one line) prints it, and only it. A receiver computes the same,
compares in constant time, and refuses a `t` more than five minutes off.
`Idempotency-Key` is the run's id at every attempt: one that comes again was taken over before.
"""

from __future__ import annotations

import time
import uuid
from datetime import datetime
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import Struct

from modelperf.outgoing import Answer, Limits, RefusedError, UnreachableError, parts_of, send
from modelperf.outgoing.signatures import HEADER, authorization, origins, secret, signature
from modelperf.trainers.base import (
    Callback,
    HandedOver,
    NoLongerWantedError,
    PreviousVersion,
    Trainer,
    TrainingError,
    TrainingRequest,
    UnavailableError,
    Watch,
    register,
)
from modelperf.trainers.passing import is_passing

__all__ = ["Payload", "Webhook", "secret"]

_MOST_OF_AN_ANSWER: Final = 64 * 1024
_MOST_OF_A_LOG: Final = 2_000


class Payload(Struct, frozen=True, kw_only=True):
    """What the orchestrator is told. GitHub takes ten fields and no more as a client_payload."""

    run_id: uuid.UUID
    attempt: int
    machine: dict[str, Any]
    model_type: str
    data_start: datetime
    data_end: datetime
    hyperparameters: dict[str, Any]
    previous: dict[str, Any] | None
    source: dict[str, Any] | None
    callback: dict[str, str]


@register("webhook")
class Webhook(Trainer, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An address that takes trainings over, and reports back within `timeout_seconds`.

    `payload_key` names the field of the body that holds the payload (Airflow: `conf`, GitHub:
    `client_payload`); without one the payload is the body. `extra` are further fields of the body,
    such as GitHub's `event_type`.

    Answers of 2xx hand the training over. 408, 425, 429, 5xx, no connection and no answer in time
    are tried again later; redirects, which are not followed, other answers and addresses that may
    not be asked fail the run.
    """

    url: str
    timeout_seconds: float = 86400.0
    payload_key: str = ""
    extra: dict[str, Any] = msgspec.field(default_factory=dict)

    def check(self) -> None:
        """Refuse what is no address, a wait that never ends, and fields that are there twice."""
        try:
            parts_of(self.url, "The webhook's url")
        except RefusedError as error:
            raise TrainingError(str(error)) from None
        if not 60 <= self.timeout_seconds <= 30 * 86400:
            raise TrainingError("The webhook's timeout_seconds lie between 60 and 30 days.")
        own = {self.payload_key} if self.payload_key else set(Payload.__struct_fields__)
        twice = sorted(own.intersection(self.extra))
        if twice:
            raise TrainingError(
                f"The webhook's extra may not hold {', '.join(twice)}: the payload is there."
                " Choose another payload_key."
            )

    def train(self, request: TrainingRequest, watch: Watch) -> HandedOver:
        """Hand the training over; nobody waits here for what comes of it."""
        if request.callback is None:
            raise TrainingError(
                "A webhook reports back, and there is no address for that. Set"
                " MODELPERF_PUBLIC_URL to where modelperf is reached from outside."
            )
        if not watch.is_wanted():
            raise NoLongerWantedError("The run is no longer wanted: nobody was asked.")
        place = parts_of(self.url, "The webhook's url")
        _refuse_callback_out_of_reach(request.callback, place)
        token = authorization(place)
        watch.progress(None, f"Asks {place.netloc}.")
        answer = self._asked(request, request.callback, token)
        if 200 <= answer.status < 300:
            watch.progress(None, f"{place.netloc} took it over.")
            return HandedOver(timeout_seconds=self.timeout_seconds)
        log = _log(answer, (request.callback.token, token))
        raise _failure(answer.status, f"{place.netloc} answered {answer.status}", place, log)

    def _asked(self, request: TrainingRequest, callback: Callback, token: str) -> Answer:
        body = self._body(request, callback)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "modelperf",
            "Idempotency-Key": str(request.run_id),
            HEADER: signature(body, at=int(time.time())),
        }
        if token:
            headers["Authorization"] = token
        limits = Limits.of_settings(max_bytes=_MOST_OF_AN_ANSWER)
        try:
            return send("POST", self.url, limits=limits, headers=headers, content=body)
        except RefusedError as error:
            raise TrainingError(str(error)) from None
        except UnreachableError as error:
            if error.answer is not None:  # whether it took the training over is known
                return error.answer
            raise UnavailableError(str(error)) from None

    def _body(self, request: TrainingRequest, callback: Callback) -> bytes:
        machine, previous = request.machine, request.previous
        payload = Payload(
            run_id=request.run_id,
            attempt=request.attempt,
            machine={"id": machine.id, "name": machine.name, "metadata": machine.metadata},
            model_type=request.model_type,
            data_start=request.data_start,
            data_end=request.data_end,
            hyperparameters=dict(request.hyperparameters),
            previous=None if previous is None else _told(previous),
            source=None if request.source is None else dict(request.source),
            callback={"url": callback.url, "token": callback.token},
        )
        content = (
            {self.payload_key: payload} if self.payload_key else msgspec.structs.asdict(payload)
        )
        return msgspec.json.encode(content | self.extra)


def _refuse_callback_out_of_reach(callback: Callback, place: SplitResult) -> None:
    """Refuse to be reported to at an address that is another machine's own for whom we ask."""
    own = urlsplit(callback.url).hostname or ""
    if _is_loopback(own) and not _is_loopback(place.hostname or ""):
        raise TrainingError(
            f"{place.netloc} cannot report back to {own}, which is this machine's name for itself."
            " Set MODELPERF_PUBLIC_URL to where modelperf is reached from there."
        )


def _is_loopback(host: str) -> bool:
    """Whether a host is this machine, whoever asks."""
    name = host.removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # another name
        return False


def _told(version: PreviousVersion) -> dict[str, Any]:
    return {
        "id": version.id,
        "model_version": version.model_version,
        "artefact": version.artefact,
    }


def _failure(status: int, said: str, place: SplitResult, log: str) -> TrainingError:
    if is_passing(status):
        return UnavailableError(f"{said}.", log=log)
    if 300 <= status < 400:
        return TrainingError(
            f"{said}, and redirects are not followed. Set the url that it leads to.", log=log
        )
    if status in {401, 403} and not authorization(place):
        hint = f" MODELPERF_WEBHOOK_TOKENS holds nothing for {origins(place)[-1]}."
        return TrainingError(f"{said}.{hint}", log=log)
    return TrainingError(f"{said}.", log=log)


def _log(answer: Answer, secrets: tuple[str, ...]) -> str:
    """Return the beginning of what was answered, readable, without what only it may know."""
    text = answer.content.decode("utf-8", "replace")
    for known in filter(None, secrets):
        text = text.replace(known, "***")
    return "".join(sign for sign in text if sign.isprintable() or sign in "\n\t")[:_MOST_OF_A_LOG]
