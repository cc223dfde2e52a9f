"""Ask the driver of a run to do something, and what became of that.

Shapes questions and answers; the requests are files in `control/` of the run, as the command line
leaves them (`matensemble.control`). The driver validates each of them again and is the only one to
carry it out. Nothing is taken unless the dashboard was started with that allowed.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from matensemble.control import (
    REQUEST_ID,
    Request,
    Selection,
    Verb,
    leave_request,
    make_request,
    read_answer,
    request_path,
)
from matensemble.dashboard.catalog import Catalog
from matensemble.dashboard.schemas import Problem
from matensemble.errors import FormatError, InvalidOptionError, RunDirectoryError
from matensemble.model import NICE_RANGE, Reason, parse_duration
from matensemble.report import quote_path
from matensemble.runs import why_undriven
from matensemble.workdir import RunDir

MAX_NAMES = 1000
"""Chores or groups that may be named in one request; its body is bounded anyway."""

Name = Annotated[str, Field(min_length=1, max_length=255)]
Names = Annotated[list[Name], Field(max_length=MAX_NAMES)]
_OF_THE_WHOLE_RUN = (Verb.PAUSE, Verb.UNPAUSE)


class ActionRequest(BaseModel):
    """What to do, and with which chores: named ones, or all of some kind."""

    model_config = ConfigDict(extra="forbid")

    verb: Verb
    chores: Names = []
    """Ids."""
    groups: Names = []
    """Every chore of these groups."""
    failed: bool = False
    """Every chore that failed by itself."""
    reason: Reason | None = None
    """Every chore that failed with this reason."""
    everything: bool = False
    """The whole run; for `cancel` also what it would still add."""
    nice: Annotated[int, Field(ge=NICE_RANGE[0], le=NICE_RANGE[1])] | None = None
    """For `prioritise`, and needed there: lower runs first."""
    duration: Annotated[float, Field(gt=0, allow_inf_nan=False)] | Name | None = None
    """For `add-time`, and needed there: seconds, or text like `30m`."""


class ActionAcceptedResponse(BaseModel):
    """A request was left for the driver."""

    id: str
    """By which to ask what became of it."""
    note: str
    """Why no driver will see it soon; empty where one is at work."""
    command: str | None
    """The command that starts one, ready to be copied into a shell; None where one is at work."""


class ActionState(StrEnum):
    """What became of a request."""

    WAITING = "waiting"
    """No driver has answered yet."""
    DONE = "done"
    REFUSED = "refused"
    """Nothing was done."""


class ActionResponse(BaseModel):
    """What became of a request, kept for a day."""

    id: str
    state: ActionState
    text: str
    """What was done, or why nothing was; one or a few lines. Empty while it waits."""
    num_chores: NonNegativeInt
    """How many chores it changed."""
    chores: list[str]
    """The first of them."""


def action_routes(catalog: Catalog, *, allow_actions: bool) -> APIRouter:
    """Return the routes about actions."""
    router = APIRouter(prefix="/runs/{run_id}/actions")

    def check_allowed() -> None:
        if not allow_actions:
            raise HTTPException(
                HTTPStatus.FORBIDDEN,
                "This dashboard only shows. To act from it, start it with "
                f"`matensemble dashboard {quote_path(catalog.root)} --allow-actions`, or the run "
                'with `submit(dashboard={"allow_actions": True})`.',
            )

    @router.post(
        "",
        operation_id="act",
        summary="Ask the driver of a run to do something",
        description="Needs the header `X-MatEnsemble: 1`, and a dashboard that allows actions.",
        status_code=HTTPStatus.ACCEPTED,
        dependencies=[Depends(check_allowed)],
        responses=_REFUSALS,
    )
    def act(run_id: str, action: ActionRequest) -> ActionAcceptedResponse:
        request = _request_of(action)
        look, run = catalog.look(run_id).look, catalog.place(run_id)
        problem = "its files cannot be read" if look is None else why_undriven(look)
        if problem is not None and not action.verb.can_wait:
            raise HTTPException(HTTPStatus.CONFLICT, f"Nothing was done: {problem}.")
        try:
            leave_request(run, request)
        except RunDirectoryError as error:
            raise HTTPException(HTTPStatus.CONFLICT, f"Nothing was done: {error}") from error
        return ActionAcceptedResponse(
            id=request.id,
            note=problem or "",
            command=None if problem is None else _start_command(run),
        )

    @router.get("/{action_id}", operation_id="readAction", summary="What became of a request")
    def read_action(
        run_id: str,
        action_id: Annotated[str, Path(pattern=f"^{REQUEST_ID}$", max_length=80)],
    ) -> ActionResponse:
        run = catalog.find(run_id)
        answer = read_answer(run, action_id)
        # A driver writes its answer before it removes the request.
        if answer is None and not request_path(run, action_id).exists():
            answer = read_answer(run, action_id)
            if answer is None:
                raise HTTPException(HTTPStatus.NOT_FOUND, "There is no request of that id.")
        if answer is None:
            return ActionResponse(
                id=action_id, state=ActionState.WAITING, text="", num_chores=0, chores=[]
            )
        return ActionResponse(
            id=action_id,
            state=ActionState.DONE if answer.done else ActionState.REFUSED,
            text=answer.text,
            num_chores=max(answer.num_chores, 0),
            chores=list(answer.chores),
        )

    return router


_REFUSALS: dict[int | str, dict[str, Any]] = {
    HTTPStatus.FORBIDDEN: {
        "model": Problem,
        "description": "Actions are not allowed, or it was sent by another page",
    },
    HTTPStatus.CONFLICT: {"model": Problem, "description": "There is no driver to do it"},
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: {"model": Problem, "description": "Larger than 64 KiB"},
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: {"model": Problem, "description": "No JSON"},
}


def _request_of(action: ActionRequest) -> Request:
    """Return the request, checked by the rules that the driver has; raises HTTPException."""
    selection = Selection(
        chores=tuple(action.chores),
        groups=tuple(action.groups),
        failed=action.failed,
        reason=action.reason,
        everything=action.everything,
    )
    is_selected = bool(selection.to_json())
    try:
        if is_selected and action.verb in _OF_THE_WHOLE_RUN:
            raise InvalidOptionError("verb", action.verb.value, "about the whole run, no chores")
        if not is_selected and action.verb not in _OF_THE_WHOLE_RUN:
            raise InvalidOptionError("verb", action.verb.value, "given with the chores it is about")
        seconds = None if action.duration is None else parse_duration(action.duration)
        made = make_request(action.verb, selection, nice=action.nice, seconds=seconds)
        request = replace(made, by={**made.by, "through": "dashboard"})
        return Request.from_json(request.to_json(), "the request")
    except (InvalidOptionError, FormatError) as error:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error


def _start_command(run: RunDir) -> str:
    verb = "resume" if run.journal_path.exists() else "run"
    return f"matensemble {verb} {quote_path(run.root)}"
