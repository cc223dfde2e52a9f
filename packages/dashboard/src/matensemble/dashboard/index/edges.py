"""The edges between some chores, however many lead elsewhere from each.

Owns that one query. Called by `graph` and `whole` with a connection of `schema.open_for_reading`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping


def read_edges_within(
    database: sqlite3.Connection, num_upstream: Mapping[int, int]
) -> Iterator[tuple[int, int]]:
    """Yield the edges, upstream first, of which both ends are among some chores.

    Parameters
    ----------
    database
        The index.
    num_upstream
        By the number of each chore, how many edges lead to it.
    """
    # Of a chore with few edges all are read and looked up among the shown, of one with many each of
    # the shown is sought. The sign keeps the planner from seeking.
    select = (
        "WITH shown AS (SELECT value FROM json_each(:shown)) SELECT upstream, downstream "
        "FROM json_each(:some) AS some CROSS JOIN edges ON downstream = some.value "
        "WHERE {}upstream IN (SELECT value FROM shown)"
    )
    shown = json.dumps(list(num_upstream))
    many = [number for number, count in num_upstream.items() if count > len(num_upstream)]
    few = [number for number, count in num_upstream.items() if 0 < count <= len(num_upstream)]
    for sign, some in (("+", few), ("", many)):
        asked = {"shown": shown, "some": json.dumps(some)}
        yield from database.execute(select.format(sign), asked)
