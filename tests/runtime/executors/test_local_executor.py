"""The local executor: the contract, and what only it owes."""

from __future__ import annotations

import pytest
from contract import ExecutorContract

from matensemble.runtime.executors.local import LocalExecutor


class TestContract(ExecutorContract):
    @pytest.fixture
    def executor(self) -> LocalExecutor:
        return LocalExecutor(cores=2)
