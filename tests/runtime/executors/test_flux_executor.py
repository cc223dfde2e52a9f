"""The Flux executor on real brokers: the contract, and what only it owes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from contract import ExecutorContract

from matensemble.runtime.executors.flux_executor import FluxExecutor

pytestmark = [pytest.mark.flux, pytest.mark.slow]

StartFlux = Callable[..., str]


class TestContractOnOneBroker(ExecutorContract):
    @pytest.fixture
    def executor(self, start_flux: StartFlux) -> FluxExecutor:
        return FluxExecutor(uri=start_flux())


class TestContractOnFourBrokers(ExecutorContract):
    @pytest.fixture
    def executor(self, start_flux: StartFlux) -> FluxExecutor:
        return FluxExecutor(uri=start_flux("--test-size=4"))
