"""Lets the test modules of this directory import the contract suite beside them."""

import sys
from pathlib import Path

import pytest

pytest.register_assert_rewrite("contract")
sys.path.append(str(Path(__file__).parent))
