"""What looks like a secret by its name is not shown; everything else is."""

import re

import pytest
from hypothesis import given, strategies as st

from matensemble.redaction import is_secret_name, redact_command, redact_text


@pytest.mark.parametrize(
    "text",
    [
        "--password={}",
        "API_KEY={}",
        "api-key: {}",
        "-Dauth.token={}",
        "curl -H 'Authorization: Bearer {}' host",
        '{{"n": 3, "token": "{}"}}',
        "prog --token {} --more",
        "export DB_PASSWORD={}; prog",
        "https://host/x?n=1&access_key={}",
        "postgresql://user:{}@host/db",
        "--password=one --token={}",
    ],
)
def test_secrets_inside_a_text(text):
    shown = redact_text(text.format("hunter2"))
    assert "hunter2" not in shown
    assert shown.endswith("<redacted>")
    assert redact_text(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "-in in.lmp",
        "T=300",
        "https://host:8080/a@b",
        "--password=",
        "--token",
        "token",
        "a token of thanks",
        "",
    ],
)
def test_what_holds_no_secret_is_shown(text):
    assert redact_text(text) == text


def test_options_hide_the_element_behind_them():
    shown = redact_command(["prog", "--token", "a", 3, "--auth", "--passwd", "b", "-n", "c"])
    assert shown == [
        *("prog", "--token", "<redacted>", 3, "--auth", "<redacted>", "<redacted>", "-n", "c")
    ]


def test_names():
    assert is_secret_name("OPENAI_API_KEY")
    assert not is_secret_name("key")
    assert not is_secret_name(3)


@given(st.lists(st.text()))
def test_a_command_keeps_its_length(elements):
    assert len(redact_command(elements)) == len(elements)


@given(st.sampled_from(["--token", "-", "a=", "//", ":", "@", " ", "'"]), st.integers(1, 20_000))
def test_no_text_takes_long(part, times):
    assert redact_text(part * times)[: len(part)] == part


WORDS = st.sampled_from(
    ["lmp", "-in", "T=300", "--token", "hunter2", "API_KEY=x", "-p", "tok", "en=1", "to\0ken=1",
     "ftp://a:b@host", "//", "SECRET", "--secret=1", "auth: x", "-Dauth", "x y", "", "ſecret=1"]
)  # fmt: skip


@given(st.lists(WORDS | st.integers() | st.text(max_size=8), max_size=6))
def test_a_command_is_redacted_element_by_element(elements):
    expected, hide_next = [], False
    for element in elements:
        if not isinstance(element, str):
            expected.append(element)
            hide_next = False
            continue
        expected.append("<redacted>" if hide_next else redact_text(element))
        hide_next = re.fullmatch(r"--?[\w.-]+", element) and is_secret_name(element)
    assert redact_command(elements) == expected
