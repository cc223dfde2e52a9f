"""The headers of a draft, which are formatted by hand, against those of the chores themselves."""

import json
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from matensemble.chore import Chore
from matensemble.draft import Draft, Template
from matensemble.model import ChoreType, Resources
from matensemble.place import Place, Tail
from matensemble.policy import ChorePolicy
from matensemble.references import Gather
from matensemble.workdir import ARGUMENTS

NAMES = st.sampled_from(["a", "b.c", "relax_2", "x-y"])
IDS = st.builds(lambda name, number: f"chore-{name}-{number:04d}", NAMES, st.integers(1, 20_000))
TEXTS = st.text(max_size=5)
ENVS = st.none() | st.dictionaries(
    st.text(st.characters(blacklist_characters="=\0", codec="utf-8"), min_size=1, max_size=3),
    st.text(st.characters(blacklist_characters="\0", codec="utf-8"), max_size=3),
    max_size=2,
)
RESOURCES = st.builds(
    Resources,
    num_tasks=st.integers(1, 3),
    gpus_per_task=st.integers(0, 2),
    mpi=st.booleans(),
    env=ENVS,
    inherit_env=st.booleans(),
    duration=st.none() | st.floats(0.1, 1e6),
)
SHARED = {
    "name": NAMES,
    "resources": RESOURCES,
    "nice": st.integers(-5, 5),
    "success_codes": st.sampled_from([(0,), (0, 3), (-9,)]),
    "policy": st.sampled_from([ChorePolicy(), ChorePolicy(3, version='"é')]),
}
PYTHON = st.fixed_dictionaries(
    {**SHARED, "kind": st.just(ChoreType.PYTHON), "callable": NAMES},
)
EXECUTABLE = st.fixed_dictionaries(
    {
        **SHARED,
        "kind": st.just(ChoreType.EXECUTABLE),
        "command": st.lists(TEXTS, min_size=1, max_size=3).map(tuple),
        "outputs": st.dictionaries(TEXTS, TEXTS, max_size=2),
    }
)
CHORES = st.tuples(
    PYTHON | EXECUTABLE,
    st.none() | st.binary(max_size=10),
    st.lists(IDS | st.builds(Gather, NAMES), max_size=3, unique=True).map(tuple),
    st.lists(IDS, max_size=2, unique=True).map(tuple),
    st.integers(0, 2),
)


def template_of(command=None, **fields):
    """Return a template as `Recording` makes it: of a program, with its command put in last."""
    template = Template(**fields)
    return template if command is None else template.with_command(command)


def at(content, place):
    return content[place.offset : place.offset + place.size] if place else b""


@pytest.mark.slow
@given(st.lists(CHORES, max_size=5))
def test_headers_are_those_of_the_chores(recorded):
    draft = Draft(Path("nowhere"))
    places, ids, offset = [], [], 0
    for fields, data, deps, after, _ in recorded:
        ids.append(draft.add(template_of(**fields), data, deps, after))
        places.append(Place(ARGUMENTS, offset, len(data)) if data else None)
        offset += len(data or b"")
    tail = Tail(ARGUMENTS, draft.arguments.size)
    envs = draft.store_env((), tail)
    stages = {chore_id: chore[4] for chore_id, chore in zip(ids, recorded, strict=True)}
    lines = list(draft.headers(range(len(ids)), stages, envs))
    content = b"".join([*draft.arguments.blocks(), *tail.chunks])
    for line, chore_id, place, chore in zip(lines, ids, places, recorded, strict=True):
        fields, data, deps, after, stage = chore
        env = fields["resources"].env
        expected = Chore(
            id=chore_id,
            deps=deps,
            after=after,
            arguments=place,
            env_place=None if env is None else envs[id(env)],
            stage=stage,
            **fields,
        )
        assert json.loads(line) == json.loads(json.dumps(expected.to_header()))
        read = Chore.from_header(json.loads(line))
        assert read.to_header() == expected.to_header()
        assert at(content, read.arguments) == (data or b"")
        assert json.loads(at(content, read.env_place) or "null") == env
