"""GPUs are found in the environment, else by the vendor's tool."""

from __future__ import annotations

from pathlib import Path

import pytest

from matensemble.errors import InvalidOptionError
from matensemble.gpu import Gpus, find_gpus

NVIDIA_SMI = """#!/bin/sh
[ "$1" = -L ] || exit 1
echo "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa)"
echo "  MIG 1g.5gb Device 0: (UUID: MIG-bbbb)"
echo "GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-cccc)"
"""
ROCM_SMI = """#!/bin/sh
echo "============================ ROCm System Management Interface ============"
for i in 0 1 2; do
    printf 'GPU[%s]\\t\\t: Device Name: AMD Instinct MI250X\\n' $i
    printf 'GPU[%s]\\t\\t: Device ID: 0x7408\\n' $i
done
"""
BROKEN = "#!/bin/sh\necho 'GPU 0: but the driver is not loaded'\nexit 9\n"


def tools(directory: Path, **scripts: str) -> dict[str, str]:
    for name, text in scripts.items():
        path = directory / name.replace("_", "-")
        path.write_text(text)
        path.chmod(0o755)
    return {"PATH": str(directory)}


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        ("0,1", ("0", "1")),
        (" 3 , GPU-1f", ("3", "GPU-1f")),
        ("MIG-GPU-1/2/0", ("MIG-GPU-1/2/0",)),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("1,-1,2", ("1",)),
    ],
)
def test_a_variable_names_them(value: str, ids: tuple[str, ...]) -> None:
    assert find_gpus({"CUDA_VISIBLE_DEVICES": value}) == Gpus(ids, "CUDA_VISIBLE_DEVICES")


def test_a_variable_outweighs_the_tool(tmp_path: Path) -> None:
    environ = {**tools(tmp_path, nvidia_smi=NVIDIA_SMI), "CUDA_VISIBLE_DEVICES": "1"}
    assert find_gpus(environ).ids == ("1",)


def test_some_of_those_that_a_variable_names() -> None:
    environ = {"ROCR_VISIBLE_DEVICES": "4,5,6"}
    assert find_gpus(environ, 2) == Gpus(("4", "5"), "ROCR_VISIBLE_DEVICES")
    with pytest.raises(InvalidOptionError, match="at most 3, the devices in ROCR_VISIBLE_DEVICES"):
        find_gpus(environ, 4)


def test_tools_count_them(tmp_path: Path) -> None:
    environ = tools(tmp_path, nvidia_smi=NVIDIA_SMI)
    assert find_gpus(environ) == Gpus(("0", "1"), "CUDA_VISIBLE_DEVICES")
    environ = tools(tmp_path, nvidia_smi=BROKEN, rocm_smi=ROCM_SMI)
    assert find_gpus(environ) == Gpus(("0", "1", "2"), "ROCR_VISIBLE_DEVICES")
    assert find_gpus(environ, 8).ids == tuple("01234567")


def test_none(tmp_path: Path) -> None:
    for environ in ({}, {"PATH": str(tmp_path)}, tools(tmp_path, nvidia_smi=BROKEN)):
        assert find_gpus(environ).ids == ()
    assert find_gpus({}, 0).show([]) == {}


def test_what_a_process_is_shown() -> None:
    gpus = find_gpus({"HIP_VISIBLE_DEVICES": "2,3"})
    assert gpus.show(["3"]) == {"HIP_VISIBLE_DEVICES": "3"}
    assert gpus.show([]) == {"HIP_VISIBLE_DEVICES": "-1"}
