"""Whatever is asked, the answer is one that the published schema promises, and never a fault."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from matensemble.dashboard import create_dashboard_app
from matensemble.dashboard.security import Access

TOKEN = "t" * 43
CHORE = "chore-relax-0003"
BASE_URL = "http://127.0.0.1:8000"
KNOWN = {"authorization": f"Bearer {TOKEN}", "origin": BASE_URL, "x-matensemble": "1"}
UNKNOWN = {"origin": BASE_URL, "x-matensemble": "1"}
ENDLESS = {"followRun"}
"""Answers that have no end."""
REFUSALS = {400, 401, 403, 405, 414, 422}
"""All that who has no token is told: what was wrong with the question, and nothing of a run."""
NUM_EXAMPLES = 400 if os.environ.get("MATENSEMBLE_LONG") else 20


def load_generator():
    path = Path(__file__).parents[2] / "benchmarks" / "runs.py"
    spec = importlib.util.spec_from_file_location("runs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a run that has failures, and a chore that has files."""
    folder = tmp_path_factory.mktemp("contract")
    run = load_generator().make_run(folder, 300)
    files = run.chore_dir(CHORE)
    files.mkdir(parents=True)
    (files / "stdout").write_text("step 1\nstep 2\n")
    (files / "stderr").write_bytes(b"\xff\x1b[31m<b>\0")
    (files / "error.json").write_text(json.dumps({"type": "ValueError", "message": "<b>"}))
    (files / "metadata.json").write_text(json.dumps({"id": CHORE, "outputs": ["a.xyz"]}))
    return folder


@pytest.fixture(scope="module")
def app(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield create_dashboard_app(folder, access=Access(token=TOKEN), allow_actions=True)


@pytest.fixture(scope="module")
def operations(app):
    schema = schemathesis.openapi.from_dict(app.openapi())
    schema.app = app
    found = (result.ok() for result in schema.get_all_operations() if isinstance(result, Ok))
    return {operation.definition.raw["operationId"]: operation for operation in found}


def questions() -> list[tuple[str, GenerationMode]]:
    """Return what is asked how: any text is a name, so only further parameters can be wrong."""
    document = json.loads((Path(__file__).parents[2] / "frontend/openapi.json").read_text())
    asked = []
    for operation in (each for methods in document["paths"].values() for each in methods.values()):
        if operation["operationId"] in ENDLESS:
            continue
        asked.append((operation["operationId"], GenerationMode.POSITIVE))
        places = {parameter["in"] for parameter in operation.get("parameters", [])}
        if "query" in places or "requestBody" in operation:
            asked.append((operation["operationId"], GenerationMode.NEGATIVE))
    return sorted(asked)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mode"), questions())
def test_answers_are_as_promised(operations, folder, name, mode):
    operation = operations[name]
    run_id = next(folder.glob("matensemble_workflow-*")).name

    @settings(
        max_examples=NUM_EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # making a question smaller takes minutes, and tells little more
    )
    @given(operation.as_strategy(generation_mode=mode), st.booleans(), st.booleans())
    def ask(case, is_real, is_known):
        if is_real:  # or all that is asked for would be missing
            real = {"run_id": run_id, "chore_id": CHORE}
            case.path_parameters = {
                key: real.get(key, value) for key, value in (case.path_parameters or {}).items()
            }
        headers = KNOWN if is_known else UNKNOWN
        answer = case.call(base_url=BASE_URL, headers=headers)
        # What the schema cannot say (one of three parameters, no such run) may be refused too.
        assert answer.status_code != 500, answer.text
        assert is_known or answer.status_code in REFUSALS, answer.text
        operation.schema.validate_response(operation, answer, case=case)
        assert str(answer.status_code) in operation.definition.raw["responses"], answer.text

    ask()
