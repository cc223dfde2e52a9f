"""References in text, where nothing can resolve them."""

from __future__ import annotations

import pytest

from matensemble.errors import InvalidOptionError, ReferenceUseError
from matensemble.pipeline import Pipeline


@pytest.fixture
def pipe(tmp_path):
    return Pipeline(tmp_path)


def test_a_reference_that_was_formatted_into_text_is_refused(pipe):
    @pipe.chore
    def give(x):
        return x

    ref = give(1)
    with pytest.raises(ReferenceUseError, match=r"arguments of chore-give-0002.*into text"):
        give(f"T = {ref}")
    with pytest.raises(InvalidOptionError, match=r"inputs\['deck'\].*reference inside"):
        pipe.exec("true", inputs={"deck": f"temperature {ref}"})
    assert give([ref]).chore_id == "chore-give-0002"
