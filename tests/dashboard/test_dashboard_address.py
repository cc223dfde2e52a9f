"""Where a dashboard listens: ports, unix sockets, and the lines that lead there."""

from __future__ import annotations

import errno
import os
import socket
import stat

import pytest

from matensemble.dashboard import address
from matensemble.errors import AddressUnavailableError, SocketUnavailableError

TIMEOUT = 30.0


def test_next_free_port_is_taken(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(address, "DEFAULT_PORT", taken.getsockname()[1])
        with address.listen("127.0.0.1", None) as listening:
            assert listening.getsockname()[1] > taken.getsockname()[1]
            # It listens already: who connects now waits for the server, and is not refused.
            with socket.create_connection(listening.getsockname(), timeout=TIMEOUT):
                pass


def test_port_that_was_asked_for_is_not_replaced():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressUnavailableError, match=r"in use.*--port N") as caught:
            address.listen("127.0.0.1", port)
    assert caught.value.host == "127.0.0.1"
    assert caught.value.port == str(port)


@pytest.mark.parametrize("port", [65536, -1])
def test_port_that_cannot_be(port):
    with pytest.raises(AddressUnavailableError, match="from 0 to 65535"):
        address.listen("127.0.0.1", port)


def test_all_ports_taken(monkeypatch):
    def refuse(asked, family):
        raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(AddressUnavailableError, match=r"port 8000 to 8099: .*in use"):
        address.listen("127.0.0.1", None)


def test_other_trouble_is_told_at_once(monkeypatch):
    tried = []

    def refuse(asked, family):
        tried.append(asked)
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(AddressUnavailableError, match=r"port 8000: .*denied"):
        address.listen("127.0.0.1", None)
    assert len(tried) == 1


@pytest.mark.parametrize(
    ("target", "environ", "line"),
    [
        ("127.0.0.1:8001", {}, "ssh -N -L 8001:127.0.0.1:8001 ada@login1.site"),
        ("[::1]:8001", {}, "ssh -N -L 8001:[::1]:8001 ada@login1.site"),
        (
            "127.0.0.1:8001",
            {"SLURM_SUBMIT_HOST": "login7"},
            "ssh -N -J ada@login7 -L 8001:127.0.0.1:8001 ada@login1.site",
        ),
        (
            "127.0.0.1:8001",
            {"SLURM_SUBMIT_HOST": "login1"},
            "ssh -N -L 8001:127.0.0.1:8001 ada@login1.site",
        ),
    ],
)
def test_ssh_line(monkeypatch, target, environ, line):
    monkeypatch.setattr(socket, "gethostname", lambda: "login1.site")
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    assert address.ssh_command(target, 8001, environ) == line


def test_ssh_line_of_a_user_without_a_name(monkeypatch):
    def fail():
        raise KeyError("getpwuid(): uid not found: 1000")

    monkeypatch.setattr(socket, "gethostname", lambda: "box")
    monkeypatch.setattr("getpass.getuser", fail)
    assert address.ssh_command("127.0.0.1:8000", 8000, {}) == "ssh -N -L 8000:127.0.0.1:8000 box"


def test_only_loopback_goes_without_a_warning():
    assert address.warn_if_exposed("127.0.0.1") is None
    assert address.warn_if_exposed("localhost") is None
    assert address.warn_if_exposed("::1") is None
    for host in ("0.0.0.0", "::", "login1", "10.0.0.1"):
        assert host in str(address.warn_if_exposed(host))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A directory of a short relative path: that of a socket is limited to 100 bytes."""
    monkeypatch.chdir(tmp_path)
    return type(tmp_path)("sockets")


def mode_of(path):
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_socket_is_mine_alone_under_any_umask(folder, umask):
    path = folder / "s"
    before = os.umask(umask)
    try:
        listening = address.listen_unix(path)
    finally:
        os.umask(before)
    with listening:
        assert mode_of(folder) == 0o700
        assert mode_of(path) == 0o600
        assert [entry.name for entry in folder.iterdir()] == ["s"]
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_stale_socket_is_replaced(folder):
    path = folder / "s"
    address.listen_unix(path).close()
    stale = path.lstat().st_ino
    with address.listen_unix(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert path.lstat().st_ino != stale or mode_of(path) == 0o600


def test_socket_in_use_is_not_replaced(folder):
    path = folder / "s"
    with address.listen_unix(path):
        with pytest.raises(SocketUnavailableError, match=r"somebody listens.*--socket"):
            address.listen_unix(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


@pytest.mark.parametrize("make", ["file", "link", "directory"])
def test_what_is_no_socket_is_not_replaced(folder, make):
    folder.mkdir(mode=0o700)
    path = folder / "s"
    if make == "file":
        path.write_text("precious")
    elif make == "link":
        path.symlink_to("elsewhere")
    else:
        path.mkdir()
    inode = path.lstat().st_ino
    with pytest.raises(SocketUnavailableError, match="something else"):
        address.listen_unix(path)
    assert path.lstat().st_ino == inode


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o701, 0o777])
def test_directory_open_to_others_is_refused(folder, mode):
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(SocketUnavailableError, match="open to others"):
        address.listen_unix(folder / "s")
    assert not list(folder.iterdir())


def test_directory_of_somebody_else_is_refused(folder, monkeypatch):
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(SocketUnavailableError, match="not to you"):
        address.listen_unix(folder / "s")


def test_link_to_a_directory_is_refused(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SocketUnavailableError, match="is no directory"):
        address.listen_unix(folder / "s")


@pytest.mark.parametrize(("name", "words"), [("s" * 200, "longer than 100"), ("a/b/s", "No such")])
def test_paths_that_cannot_be_are_told(folder, name, words):
    with pytest.raises(SocketUnavailableError, match=words):
        address.listen_unix(folder / name)


def test_no_host_is_not_every_host():
    with pytest.raises(AddressUnavailableError, match="no host"):
        address.listen("", 0)
