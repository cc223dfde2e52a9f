"""What a chore printed and left behind: its logs, its records and its declared outputs.

Shapes questions and answers; which files there are and how they are opened is the business of
`matensemble.dashboard.files.artifacts`, text that of `matensemble.dashboard.files.log_text`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Query, Response
from pydantic import BaseModel, NonNegativeInt, PositiveInt
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from matensemble.dashboard.catalog import Catalog
from matensemble.dashboard.files.artifact import MAX_RANGE_BYTES, Artifact
from matensemble.dashboard.files.artifacts import ChoreFiles, Listed
from matensemble.dashboard.files.log_text import MAX_MATCHES, MIN_RANGE_BYTES, find_text, read_text
from matensemble.dashboard.index.chores import find_chore
from matensemble.dashboard.index.feed import Indexes
from matensemble.dashboard.index.header import read_outputs
from matensemble.dashboard.routes.parameters import ChoreId, RunId
from matensemble.errors import RunDirectoryError
from matensemble.workdir import ERROR, METADATA, STDERR, STDOUT

DEFAULT_RANGE_BYTES = 1 << 18
MAX_OFFSET = 1 << 62
MAX_SOUGHT_CHARACTERS = 256

_MAX_FILE_NAME = 150
_OCTETS = "application/octet-stream"
_NOT_CHANGED: dict[int | str, dict[str, Any]] = {
    HTTPStatus.NOT_MODIFIED: {"description": "The file is as it was at that ETag"}
}
_BYTES: dict[int | str, dict[str, Any]] = {
    HTTPStatus.OK: {
        "description": "The bytes as they are",
        "content": {_OCTETS: {"schema": {"type": "string", "format": "binary"}}},
    }
}


class Stream(StrEnum):
    """What a process prints to."""

    STDOUT = STDOUT
    STDERR = STDERR


class FileName(StrEnum):
    """The files that every chore may have."""

    STDOUT = STDOUT
    STDERR = STDERR
    ERROR = ERROR
    METADATA = METADATA


class LogResponse(BaseModel):
    """A range of a log. Offsets are bytes of the file; the text holds whole characters."""

    stream: Stream
    attempt: PositiveInt | None
    """Whose log it is; None where that cannot be told."""
    text: str
    """What was printed, escape sequences included; other control characters, and bytes that are no
    UTF-8, are U+FFFD."""
    start: NonNegativeInt
    end: NonNegativeInt
    """Where the next range begins."""
    size: NonNegativeInt
    """Of the file. Less than what was read before: it was cut."""
    is_complete: bool
    """Whether the text reaches the end of the file as it is now."""
    is_replaced: bool
    """Whether what was read up to the mark is not there any more: this is the beginning."""
    mark: str
    """To go on behind this range with `mark=`."""
    modified_at: float
    """Seconds since 1970, by the clock of the file system."""


class LogMatchesResponse(BaseModel):
    """Where a text stands in a log."""

    stream: Stream
    attempt: PositiveInt | None
    offsets: list[NonNegativeInt]
    """Bytes before each; they rise and do not overlap."""
    next_offset: NonNegativeInt | None
    """Where to go on; None where the end was reached."""
    size: NonNegativeInt


class ArtifactResponse(BaseModel):
    """A file of a chore."""

    name: str
    is_output: bool
    """Whether it is a declared output, asked for by `output=`, and not by `file=`."""
    size: NonNegativeInt | None
    modified_at: float | None
    """Seconds since 1970, by the clock of the file system."""
    problem: str | None
    """Why it cannot be opened."""


class ArtifactListResponse(BaseModel):
    """The files of a chore that can be asked for."""

    artifacts: list[ArtifactResponse]
    num_outputs: NonNegativeInt
    """How many outputs were declared, of which the first are listed."""


class RecordResponse(BaseModel):
    """Content of `error.json` or `metadata.json`, which the chore could have written itself."""

    attempt: PositiveInt | None
    size: NonNegativeInt
    modified_at: float
    content: dict[str, Any]
    """As in the file; any field may be missing or of another kind."""


Attempt = Annotated[
    int | None,
    Query(ge=1, le=MAX_OFFSET, description="From 1; without it, the latest that was prepared"),
]
Offset = Annotated[int, Query(ge=0, le=MAX_OFFSET, description="First byte")]
Length = Annotated[int, Query(ge=MIN_RANGE_BYTES, le=MAX_RANGE_BYTES, description="Bytes")]
Wanted = Annotated[Stream, Query(description="Which of the two")]
FilesOf = Callable[[str, str, int | None], ChoreFiles]


def file_routes(catalog: Catalog, indexes: Indexes) -> APIRouter:
    """Return the routes about what chores left behind."""
    router = APIRouter(prefix="/runs/{run_id}/chores/{chore_id}")

    def files_of(run_id: str, chore_id: str, attempt: int | None) -> ChoreFiles:
        run = catalog.find(run_id)

        def declared() -> Mapping[str, Any]:
            with indexes.open(run_id) as (database, freshness):
                row = find_chore(database, chore_id)
            if row is not None:
                return read_outputs(run, row["id"], row["part"], row["offset"], row["length"])
            if freshness.is_complete:
                raise RunDirectoryError(run_id, "has no chore of that id")
            return {}

        return ChoreFiles(run.root, chore_id, attempt, declared=declared)

    _add_log(router, files_of)
    _add_search(router, files_of)
    _add_records(router, files_of)
    _add_list(router, files_of)
    _add_download(router, files_of)
    return router


def _add_log(router: APIRouter, files_of: FilesOf) -> None:
    @router.get(
        "/log",
        operation_id="readLog",
        summary="A range of what a chore printed",
        response_model=LogResponse,
        responses=_NOT_CHANGED,
    )
    def read_log(
        response: Response,
        run_id: RunId,
        chore_id: ChoreId,
        stream: Wanted = Stream.STDOUT,
        attempt: Attempt = None,
        offset: Annotated[int | None, Query(ge=0, le=MAX_OFFSET, description="First byte")] = None,
        length: Length = DEFAULT_RANGE_BYTES,
        tail: Annotated[
            int | None,
            Query(ge=MIN_RANGE_BYTES, le=MAX_RANGE_BYTES, description="So many last bytes"),
        ] = None,
        mark: Annotated[str | None, Query(max_length=64, description="Go on behind it")] = None,
        is_final: Annotated[bool, Query(description="Nothing more will be printed")] = False,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> LogResponse | Response:
        if sum(given is not None for given in (offset, tail, mark)) > 1:
            raise HTTPException(
                HTTPStatus.UNPROCESSABLE_ENTITY, "Ask by one of offset, tail and mark only."
            )
        with files_of(run_id, chore_id, attempt) as files, files.open(stream.value) as log:
            state = log.look()
            headers = {"etag": f'"{state.etag}"'}
            if if_none_match == headers["etag"]:
                return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
            response.headers.update(headers)
            marked = None if mark is None else log.find_mark(mark)
            if tail is not None:
                length, offset = tail, max(state.size - tail, 0)
            read = read_text(log, marked or offset or 0, length, is_final=is_final)
            # The size of a moment before the text could be less than where the text ends.
            state = log.look()
            return LogResponse(
                stream=stream,
                attempt=log.attempt,
                text=read.text,
                start=read.start,
                end=read.end,
                size=state.size,
                is_complete=read.is_complete,
                is_replaced=mark is not None and marked is None,
                mark=log.mark(read.end),
                modified_at=state.modified_at,
            )


def _add_search(router: APIRouter, files_of: FilesOf) -> None:
    @router.get(
        "/log/search",
        operation_id="searchLog",
        summary="Where a text stands in what a chore printed",
    )
    def search_log(
        run_id: RunId,
        chore_id: ChoreId,
        text: Annotated[str, Query(min_length=1, max_length=MAX_SOUGHT_CHARACTERS)],
        stream: Wanted = Stream.STDOUT,
        attempt: Attempt = None,
        offset: Offset = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_MATCHES)] = 100,
        ignore_case: Annotated[bool, Query(description="Of ASCII letters")] = False,
    ) -> LogMatchesResponse:
        with files_of(run_id, chore_id, attempt) as files, files.open(stream.value) as log:
            found = find_text(log, text, offset, limit=limit, ignore_case=ignore_case)
            return LogMatchesResponse(
                stream=stream,
                attempt=log.attempt,
                offsets=found.offsets,
                next_offset=found.next_offset,
                size=log.look().size,
            )


def _add_records(router: APIRouter, files_of: FilesOf) -> None:
    def read_record(files: ChoreFiles, name: str) -> RecordResponse:
        content, state, attempt = files.read_record(name)
        return RecordResponse(
            attempt=attempt, size=state.size, modified_at=state.modified_at, content=content
        )

    @router.get("/error", operation_id="readError", summary="Why a Python chore failed")
    def read_error(run_id: RunId, chore_id: ChoreId, attempt: Attempt = None) -> RecordResponse:
        with files_of(run_id, chore_id, attempt) as files:
            return read_record(files, ERROR)

    @router.get("/metadata", operation_id="readMetadata", summary="A chore as it was started")
    def read_metadata(run_id: RunId, chore_id: ChoreId, attempt: Attempt = None) -> RecordResponse:
        with files_of(run_id, chore_id, attempt) as files:
            return read_record(files, METADATA)


def _add_list(router: APIRouter, files_of: FilesOf) -> None:
    @router.get("/artifacts", operation_id="listArtifacts", summary="The files of a chore")
    def list_artifacts(
        run_id: RunId, chore_id: ChoreId, attempt: Attempt = None
    ) -> ArtifactListResponse:
        with files_of(run_id, chore_id, attempt) as files:
            listed, num_outputs = files.list_files()
        return ArtifactListResponse(artifacts=list(map(_shape, listed)), num_outputs=num_outputs)


def _add_download(router: APIRouter, files_of: FilesOf) -> None:
    @router.get(
        "/download",
        operation_id="downloadArtifact",
        summary="A file of a chore, or a part of it, to keep",
        response_class=StreamingResponse,
        responses=_BYTES,
    )
    def download(
        run_id: RunId,
        chore_id: ChoreId,
        file: Annotated[FileName | None, Query(description="One of the usual files")] = None,
        output: Annotated[
            str | None, Query(max_length=1000, description="A declared output, by its name")
        ] = None,
        attempt: Attempt = None,
        offset: Offset = 0,
        length: Annotated[
            int | None,
            Query(ge=1, le=MAX_RANGE_BYTES, description="Bytes; without it, up to the end"),
        ] = None,
    ) -> Response:
        with files_of(run_id, chore_id, attempt) as files:
            if file is not None and output is None:
                artifact = files.open(file.value)
            elif output is not None and file is None:
                artifact = files.open_output(output)
            else:
                raise HTTPException(
                    HTTPStatus.UNPROCESSABLE_ENTITY, "Ask by one of file and output."
                )
        return _send(artifact, f"{chore_id}-{artifact.name}", offset, length)


class Download(StreamingResponse):
    """Bytes of a file; where it is cut meanwhile, the connection ends with some of them missing.

    So the receiver knows. A proper end after too few bytes would be a mistake of the server. The
    file is closed however that ends.
    """

    def __init__(self, artifact: Artifact, start: int, end: int, headers: dict[str, str]) -> None:
        length = str(max(end - start, 0))
        super().__init__(
            artifact.stream(start, end),
            media_type=_OCTETS,
            headers=headers | {"content-length": length, "x-content-type-options": "nosniff"},
        )
        self._artifact = artifact

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; whoever goes away amid that leaves no open file behind."""
        with self._artifact:
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """Send what there is, and the end only after all that was announced."""
        missing = int(self.headers["content-length"])
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        async for piece in self.body_iterator:
            missing -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if missing == 0:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _send(artifact: Artifact, name: str, offset: int, length: int | None) -> Response:
    state = artifact.look()
    end = state.size if length is None else min(offset + length, state.size)
    disposition = f'attachment; filename="{safe_name(name)}"'
    headers = {"content-disposition": disposition, "etag": f'"{state.etag}"'}
    return Download(artifact, offset, end, headers)


def safe_name(name: str) -> str:
    """Return a file name that means nothing to a header, a shell or a file system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".-")[-_MAX_FILE_NAME:] or "artifact"


def _shape(listed: Listed) -> ArtifactResponse:
    state = listed.state
    return ArtifactResponse(
        name=listed.name,
        is_output=listed.is_output,
        size=None if state is None else state.size,
        modified_at=None if state is None else state.modified_at,
        problem=listed.problem,
    )
