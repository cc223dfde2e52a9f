"""Where the token of the link goes: into a cookie that no script reads, and nowhere else."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

ASK = """async (address) => {
  const outcomes = [];
  for (const options of [
    { credentials: "include" },
    { credentials: "include", mode: "no-cors" },
    { method: "POST", credentials: "include", mode: "no-cors", body: "{}" },
    { method: "POST", credentials: "include", headers: { "X-MatEnsemble": "1" }, body: "{}" },
  ]) {
    try {
      const answer = await fetch(`${address}api/${options.method ? "session" : "status"}`, options);
      outcomes.push(`${answer.type} ${await answer.text()}`);
    } catch {
      outcomes.push("blocked");
    }
  }
  return outcomes;
}"""
expect = pytest.importorskip("playwright.sync_api").expect


@pytest.fixture(scope="module")
def server(start_study, serve):
    study = start_study()
    study.wait_for(failed=2)
    return serve(study.folder)


def test_token_leaves_the_address_and_the_history(server, browser):
    token = server.link.partition("#token=")[2]
    asked: list[str] = []
    context = browser.new_context()
    try:
        page = context.new_page()
        page.on(
            "request",
            lambda request: asked.append(f"{request.url} {request.headers.get('referer') or None}"),
        )
        page.goto(server.link)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert token not in page.url
        expect(page.get_by_role("table").get_by_role("link").first).to_be_visible()
        page.get_by_role("table").get_by_role("link").first.click()
        expect(page.get_by_role("navigation", name="Pages of the run")).to_be_visible()
        page.go_back()  # to the entry that the link had made
        expect(page.get_by_role("table")).to_be_visible()
        assert token not in page.url
        assert len(asked) > 3
        assert not [line for line in asked if token in line]
        assert not [line for line in asked if not line.endswith(" None")], "a Referer was sent"

        (cookie,) = context.cookies()
        assert cookie["value"] == token
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Strict"
        assert cookie["path"] == "/api/"
        assert cookie["expires"] == -1  # gone with the browser
        assert page.evaluate("document.cookie") == ""
        kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
        assert token not in kept
        assert token not in page.content()
    finally:
        context.close()


def test_without_the_token_nothing_is_shown(server, browser):
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(server.address)
        expect(page.get_by_text("Open the link that was printed", exact=False)).to_be_visible()
        assert "matensemble_workflow" not in page.content()
    finally:
        context.close()


class Blank(BaseHTTPRequestHandler):
    """Serves a page without any policy of its own."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>other</title>")

    def log_message(self, *_):
        pass


@pytest.fixture
def other_address():
    """A page at another port of the same host: the browser sends it the same cookies."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Blank) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{other.server_port}/"
        other.shutdown()
        thread.join()


def test_page_at_another_port_can_neither_read_nor_act_nor_frame(server, browser, other_address):
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(server.link)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        other = context.new_page()
        other.goto(other_address)
        codes = []
        other.on("response", lambda response: codes.append((response.url, response.status)))
        tried = other.evaluate(ASK, server.address)
        assert tried == ["blocked"] * 4
        assert {code for url, code in codes if "/api/" in url} <= {403, 405}
        other.set_content(f"<iframe src='{server.address}' name='framed'></iframe>")
        other.wait_for_load_state("networkidle")
        frame = other.frame(name="framed")
        assert frame is not None
        assert frame.get_by_role("heading").count() == 0
        assert frame.evaluate("document.querySelector('#root')") is None
    finally:
        context.close()
