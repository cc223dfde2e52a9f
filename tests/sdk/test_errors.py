"""Every error class: fields survive pickling, messages name the remedy, the tree is one."""

import inspect
import pickle

import pytest

from matensemble import errors
from matensemble.errors import MatEnsembleError

EXAMPLES = [
    errors.InvalidResourcesError("num_tasks", 0, "an integer of at least 1"),
    errors.InvalidOptionError("nice", "x", "an integer"),
    errors.InvalidNameError("a/b", "contains a path separator"),
    errors.DuplicateNameError("energy"),
    errors.UnknownNameError("energi", ["energy", "fit"]),
    errors.InvalidArgumentsError("energy", "(x)", "missing a required argument: 'x'"),
    errors.UnpicklableError("the value", "[0], a lock", "TypeError: no"),
    errors.InvalidCommandError("lmp", "is empty"),
    errors.ReferenceUseError("OutputReference('a')", "iterating it"),
    errors.UnknownReferenceError("chore-a-0001", "chore-b-0002"),
    errors.CycleError(["a", "b", "a"]),
    errors.EmptyPipelineError(),
    errors.PipelineSubmittedError("recording", "/run"),
    errors.NotSubmittedError("the result"),
    errors.RunDirectoryError("/run", "is none"),
    errors.FormatError("/run/workflow.json", "is no JSON"),
    errors.IncompatibleEnvironmentError("Python", "3.11", "3.12"),
    errors.ResultMissingError("chore-a-0001", "/run/out"),
    errors.ResultCorruptError("chore-a-0001", "/run/out", "too short"),
    errors.RuntimeMissingError("/run"),
    errors.MissingExtraError("drawing", "matplotlib", "matensemble-sdk[draw]"),
    errors.ConflictingInstallationError("/site/matensemble/__init__.py"),
    errors.UnknownExecutorError("slurm", ["auto", "local"]),
    errors.ExecutorUnavailableError("flux", "no broker", "Run flux start"),
    errors.ChoreFailedError(
        "chore-a-0001", "exception", exit_code=1, detail="ValueError: x", traceback="Trace\n"
    ),
    errors.RunInterruptedError("/run", "SIGTERM"),
    errors.RunFailedError("/run", "disk full"),
]


def concrete_classes(cls=MatEnsembleError):
    for sub in cls.__subclasses__():
        yield from concrete_classes(sub)
        if sub.__module__ == errors.__name__ and sub is not errors.AuthoringError:
            yield sub


def make(cls):
    """Return an instance with a value for each parameter, by its annotation."""
    values = {"int": 7, "Sequence[str]": ["a", "b"]}
    parameters = inspect.signature(cls).parameters.values()
    return cls(*(values.get(p.annotation, "text") for p in parameters if p.kind != p.KEYWORD_ONLY))


EXAMPLES += [
    make(cls) for cls in concrete_classes() if cls not in {type(example) for example in EXAMPLES}
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_keeps_type_message_and_fields(error, protocol):
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.__dict__ == error.__dict__


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
def test_message_is_text_and_not_a_repr(error):
    text = str(error)
    assert text
    assert not text.startswith(("'", '"', "("))


def test_builtin_bases_let_callers_catch_what_they_expect():
    assert issubclass(errors.InvalidArgumentsError, TypeError)
    assert issubclass(errors.InvalidResourcesError, ValueError)
    assert issubclass(errors.UnknownNameError, LookupError)
    assert issubclass(errors.MissingExtraError, ImportError)


def test_conflicting_installation_names_the_uninstall():
    assert "pip uninstall matensemble" in str(errors.ConflictingInstallationError("/x"))
