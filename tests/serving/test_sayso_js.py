"""``sayso.js``, the module for anybody's page, in a real browser against the service."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from pathlib import Path
from typing import Any

from browser import LEAD_S, SPOKEN, Page, chromium, recording
from live_service import serving, timeless

from sayso.core.result import Result
from sayso.serving.auth import hashed, new_key


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Somebody else's web server, which tells nobody what it serves."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


MODULE = """(async () => {
  const {Client, SaysoError, decode, microphone, pcm16} = await import('/page/sayso.js');
  const client = new Client(location.origin, OPTIONS);
  const code = async (work) => { try { await work(); return 'none'; } catch (error) { return error.code; } };
  BODY
})()"""


def module(page: Page, body: str, options: str = "{}") -> Any:
    """What a piece of a script that uses the module returns."""
    return page.run(MODULE.replace("OPTIONS", options).replace("BODY", body))


@chromium
def test_the_module_streams_two_on_one_connection(page: Page, truth: dict[str, Result]) -> None:
    """A file chosen, decoded here and sent in pieces: the whole result is that of the bundle."""
    names = ["lock-the-front-door", SPOKEN]
    page.run("document.body.append(Object.assign(document.createElement('input'), {type: 'file', id: 'mine'}))")
    page.run("globalThis.heard = []")
    for name in names:
        page.choose("#mine", recording(name))
        page.run("globalThis.heard.push(document.querySelector('#mine').files[0])")
    found = module(
        page,
        """
        const connection = await client.connect();
        const all = [];
        for (const file of heard) {
          const stream = connection.start({sample_rate: 16000});
          await stream.sendAll(await decode(file));
          stream.end();
          stream.end();
          const messages = [];
          for await (const message of stream) messages.push(message);
          stream.send(new Float32Array(10));
          all.push(messages);
        }
        connection.close();
        return all;
        """,
    )
    for messages, name in zip(found, names, strict=True):
        assert [message["type"] for message in messages[:-1]] == ["partial"] * (len(messages) - 1)
        assert messages[-1]["type"] == "result"
        assert timeless(Result.model_validate(messages[-1]["result"])) == timeless(truth[name])


@chromium
def test_the_module_hears_the_microphone(page: Page, truth: dict[str, Result]) -> None:
    heard = module(
        page,
        """
        const connection = await client.connect();
        let stream = null, rate = null, sent = 0;
        const mic = await microphone((samples) => { sent += samples.length; stream?.send(samples); });
        stream = connection.start({sample_rate: mic.sampleRate, endpoint: 'once', partials: false});
        const result = await stream.result();
        await mic.stop();
        await mic.stop();
        const after = sent;
        await new Promise((resolve) => setTimeout(resolve, 300));
        return {result, seconds: sent / mic.sampleRate, silent: sent === after};
        """,
    )
    assert heard["result"]["text"] == truth[SPOKEN].text and heard["silent"]
    assert heard["seconds"] > LEAD_S + truth[SPOKEN].timing.audio_s - 0.5


@chromium
def test_the_module_says_why(page: Page) -> None:
    codes = module(
        page,
        """
        const open = async (options) => (await client.connect()).start(options).result();
        const forgotten = (await client.connect()).start();
        forgotten.cancel();
        const left = [];
        for await (const message of forgotten) left.push(message);
        const closing = await client.connect();
        const cut = closing.start();
        closing.close();
        return [
          (await client.bundles())[0].name,
          await code(() => open({bundle: 'hoem'})),
          await code(() => open({sample_rate: 1})),
          await code(() => cut.result()),
          await code(() => new Client('http://127.0.0.1:9/').connect()),
          await code(() => new Client(location.origin + '/page').bundles()),
          await code(() => decode(new Blob(['no sound']))),
          left.length,
          [...pcm16(new Float32Array([0, 1, -1, 0.5, 2]))],
        ];
        """,
    )
    assert codes == ["home", "not_found", "bad_message", "closed", "unreachable", "http", "bad_file", 0,
                     [0, 32767, -32768, 16384, 32767]]  # fmt: skip


@chromium
def test_the_module_reads_what_a_browser_hides(tab: Page) -> None:
    """Why an upgrade was refused: no key, a wrong key, no room."""
    key, _ = new_key("panel")
    keys = {"keys": [{"name": "panel", "hash": hashed(key)}]}
    with serving(engines=1, auth=keys, limits={"connections_per_key": 1}) as guarded:
        tab.open(f"{guarded.url}/page/icon.svg")
        assert module(tab, "return code(() => client.connect());") == "unauthorized"
        assert module(tab, "return code(() => client.connect());", "{key: 'sayso-wrong'}") == "unauthorized"
        body = "const one = await client.connect(); return code(() => client.connect());"
        assert module(tab, body, json.dumps({"key": key})) in ("too_many", "overloaded")


@chromium
def test_a_page_of_another_origin(tab: Page, tmp_path: Path) -> None:
    """It may use the module and the service where its origin is listed, with a key, and else may not."""
    (tmp_path / "index.html").write_text("<!doctype html><title>panel</title>")
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as panel:
        threading.Thread(target=panel.serve_forever, daemon=True).start()
        origin = f"http://127.0.0.1:{panel.server_port}"
        key, _ = new_key("panel")
        auth = {"origins": [origin], "keys": [{"name": "panel", "hash": hashed(key)}]}
        with serving(engines=1, auth=auth) as guarded:
            use = f"""import('{guarded.url}/page/sayso.js').then(async (module) => {{
              const client = new module.Client('{guarded.url}', {{key: {json.dumps(key)}}});
              const stream = (await client.connect()).start();
              stream.end();
              const wrong = new module.Client('{guarded.url}', {{key: 'sayso-wrong'}});
              const why = await wrong.connect().catch((error) => error.code);
              return [(await client.bundles())[0].name, (await stream.result()).decision, why];
            }}).catch((error) => error.name)"""
            tab.open(origin)
            assert tab.run(use) == ["home", "reject", "unauthorized"]
            tab.open(origin.replace("127.0.0.1", "localhost"))
            assert tab.run(use) == "TypeError"
        panel.shutdown()
