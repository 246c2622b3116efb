"""The page and its module in a real browser: what it hears is what the bundle hears, and what goes wrong is said."""

from __future__ import annotations

import fnmatch
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from browser import LEAD_S, SPOKEN, Page, browser, chromium, ready, recording
from live_service import ROOT, Server, Voice, serving
from numpy.typing import NDArray

import sayso
from sayso.audio.decode import read
from sayso.core.result import Result
from sayso.serving.auth import hashed, new_key
from sayso.serving.client import Client, ServiceError

FOLDER = ROOT / "src" / "sayso" / "serving" / "page"
FILES = sorted(path.name for path in FOLDER.iterdir())
LONG = "set-the-thermostat-in-the-living-room-to-twenty-one-degrees"
ACCEPTED, ASKED, REJECTED = SPOKEN, "lock-the-front-door", "the-museum-has-a-new-painting-of-a-ship"
TEXT = "document.querySelector('#text').textContent"
FINAL = "document.querySelector('#live').dataset.phase === 'final' && document.body.dataset.phase === 'idle'"
SHOWN = """(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const seen = (selector) => document.querySelector(selector).checkVisibility();
  return {
    text: document.querySelector('#text').textContent,
    decision: document.querySelector('#decision').dataset.decision,
    word: document.querySelector('#decision').innerText,
    intent: all('#meaning .intent').map((part) => part.textContent)[0] ?? null,
    sure: all('#meaning .sure').map((part) => part.textContent)[0] ?? null,
    slots: all('#meaning tbody tr').map((row) => [...row.children].map((cell) => cell.innerText)),
    prompt: seen('#prompt') ? document.querySelector('#prompt').textContent : null,
    told: document.querySelector('#told').textContent,
  };
})()"""


def drop(page: Page, path: Path) -> None:
    """Drop a recording and wait for what it means."""
    before = page.run("performance.now()")
    page.drop(path)
    page.wait("document.body.dataset.phase !== 'idle' || document.querySelector('#problem').checkVisibility()")
    page.wait(f"{FINAL} && performance.now() > {before}")


def check(shown: dict[str, Any], result: Result, *, same_sound: bool = True) -> None:
    """The page says what ``result`` says. The same sound gives the same confidence."""
    assert shown["text"] == result.text
    assert shown["decision"] == result.decision
    words = {"accept": "Accepted", "clarify": "A question back", "reject": "Not accepted"}
    assert words[result.decision] in shown["word"] and words[result.decision] in shown["told"]
    assert shown["intent"] == (None if result.intent is None else result.intent.name.replace("_", " "))
    assert [row[:1] + row[1].split("“")[:1] for row in shown["slots"]] == [
        [slot.name.replace("_", " "), slot.value] for slot in result.slots
    ]
    assert shown["prompt"] == result.prompt
    if same_sound:
        if result.intent is not None and result.intent.confidence is not None:
            assert shown["sure"] == f"{result.intent.confidence * 100:.0f} % sure"
        times = ["" if slot.start is None else f"{slot.start:.2f}–{slot.end:.2f} s" for slot in result.slots]
        assert [row[2] for row in shown["slots"]] == times


# ---- what is served ----


def test_the_page_brings_everything_and_lets_nothing_else_in(service: Server) -> None:
    with closing(socket.create_connection(("127.0.0.1", service.port))) as link:
        link.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        head, _, body = b"".join(iter(lambda: link.recv(65536), b"")).partition(b"\r\n\r\n")
    text = head.decode().lower()
    assert text.startswith("http/1.1 200") and "content-type: text/html; charset=utf-8" in text
    policy = re.search(r"content-security-policy: (.*)\r", text)
    assert policy is not None and "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1] and "*" not in policy[1]
    assert "x-content-type-options: nosniff" in text and "frame-ancestors 'none'" in text
    assert body == (FOLDER / "index.html").read_bytes()
    linked = set(re.findall(r'(?:src|href)="([^"]*)"', body.decode()))
    assert linked and all(re.fullmatch(r"page/[a-z]+\.[a-z]+", link) for link in linked)
    for name in FILES:
        assert service.client().get(f"/page/{name}").encode() == (FOLDER / name).read_bytes()
    for path in ("/page/nothing.js", "/page/../serve.py", "/page/"):
        with pytest.raises(ServiceError) as none:
            service.client().get(path)
        assert none.value.status == 404
    with pytest.raises(ServiceError, match="keys do not belong in URLs"):
        service.client().get("/?key=sayso-x")


def test_nothing_on_the_page_is_inline_or_from_elsewhere() -> None:
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\bon\w+=|\bstyle=|<style|<script(?![^>]*\bsrc=)", page)
    for name in FILES:
        text = (FOLDER / name).read_text(encoding="utf-8")
        code = re.sub(r"^ \*.*$|http://www\.w3\.org/2000/svg", "", text, flags=re.M)
        assert not re.search(r"https?://|@import|url\(|innerHTML|eval\(", code), name
        assert text.count("\n") <= 400, name


def test_the_wheel_holds_the_page() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["sayso"]
    assert all(any(fnmatch.fnmatch(f"serving/page/{name}", pattern) for pattern in patterns) for name in FILES)


def test_what_is_written_can_be_read() -> None:
    """Contrast of text and ground by WCAG 2.2: 4.5, and 3 for the large text that may still change."""
    light, dark = re.findall(r":root \{(.*?)\}", (FOLDER / "page.css").read_text(encoding="utf-8"), re.S)

    def luminance(colour: str) -> float:
        digits = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
        parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for scheme in (light, dark):
        colours = dict(re.findall(r"--([\w-]+): #([0-9a-f]+);", scheme))
        pairs = [("ink", "card"), ("ink", "ground"), ("ink", "accent-soft"), ("muted", "card"), ("muted", "ground")]
        pairs += [("accent-ink", "accent"), ("good", "good-soft"), ("ask", "ask-soft"), ("bad", "bad-soft")]
        pairs += [("good", "card"), ("ask", "card"), ("bad", "card"), ("accent-ink", "live")]
        for above, below in [*pairs, ("faint", "card")]:
            one, other = sorted((luminance(colours[above]), luminance(colours[below])))
            least = 3.0 if above == "faint" else 4.5
            assert (other + 0.05) / (one + 0.05) >= least, f"{above} on {below}: {(other + 0.05) / (one + 0.05):.2f}"


# ---- the page ----


@chromium
def test_space_and_speak(page: Page, service: Server, truth: dict[str, Result]) -> None:
    """A tap: the service ends at the pause. Text grows before it, and the latency is there."""
    before = skipped(service)
    page.run("""
      globalThis.grown = [];
      new MutationObserver(() => grown.push([document.querySelector('#live').dataset.phase,
        document.querySelector('#stable').textContent, document.querySelector('#rest').textContent]))
        .observe(document.querySelector('#text'), {subtree: true, childList: true, characterData: true});
    """)
    page.key(" ")
    page.wait("document.body.dataset.phase === 'listening'")
    assert page.run("document.querySelector('#speak').getAttribute('aria-pressed')") == "true"
    page.wait(FINAL)
    check(page.run(SHOWN), truth[SPOKEN], same_sound=False)
    grown = [(stable, stable + rest) for phase, stable, rest in page.run("grown") if phase == "listening"]
    assert any(text for _, text in grown) or skipped(service) > before
    assert all(after.startswith(before) for (before, _), (after, _) in pairwise(grown))
    latency = page.run("document.querySelector('#latency').textContent")
    assert re.fullmatch(r"\d+ msafter the last word, pause included", latency)
    assert page.run("document.querySelector('#speak').getAttribute('aria-pressed')") == "false"
    assert not page.problems


def skipped(service: Server) -> float:
    """Partials that were left out because the machine was behind."""
    found = re.search(r"^slu_partials_skipped_total (\S+)", service.client().get("/metrics"), re.M)
    assert found is not None
    return float(found[1])


@chromium
def test_partials_as_they_are_shown(page: Page, home: sayso.Model) -> None:
    """What will not change is darker than what may; an intent in sight is called one; it is quiet for who listens."""
    stream, samples = home.stream(), read(recording(LONG))
    partials = [stream.accept(samples[place : place + 3200]) for place in range(0, len(samples), 3200)]
    assert any(partial.stable and partial.intent for partial in partials)
    for partial in partials:
        shown = page.run(f"""import('/page/view.js').then((view) => {{
          view.partial({partial.model_dump_json()});
          const [stable, rest] = ['#stable', '#rest'].map((id) => document.querySelector(id));
          const same = getComputedStyle(stable).color === getComputedStyle(rest).color;
          return [stable.textContent, rest.textContent, same];
        }})""")
        assert shown == [partial.stable, partial.text[len(partial.stable) :], False]
        if partial.intent is not None:
            meaning = page.run("document.querySelector('#meaning').innerText")
            assert partial.intent.name.replace("_", " ") in meaning and "so far" in meaning
    assert page.run("document.querySelector('#told').textContent") == ""


@chromium
def test_hold_the_button(page: Page, truth: dict[str, Result]) -> None:
    """It ends when it is let go, not at a pause."""
    page.mouse("#speak", "down")
    heard_s = "Number(document.querySelector('#wave canvas').ariaLabel.match(/[\\d.]+/)?.[0] ?? 0)"
    page.wait(f"{heard_s} > {LEAD_S + truth[SPOKEN].timing.audio_s + 1.5}")
    assert page.run("document.body.dataset.phase") == "listening"
    page.mouse("#speak", "up")
    page.wait(FINAL)
    check(page.run(SHOWN), truth[SPOKEN], same_sound=False)
    assert page.run("document.querySelector('#latency').textContent").endswith("msafter you ended it")
    assert not page.problems


def talk(model: sayso.Model, *recordings: Path) -> dict[str, Result]:
    """What a session in this process makes of them, by name: a visit of the page is one dialogue."""
    session = model.session()
    return {path.stem: session.understand(*as_chromium_decodes(path)) for path in recordings}


def as_chromium_decodes(path: Path) -> tuple[NDArray[np.int16], int]:
    """The samples that the page sends, and their rate. Of 16-bit ones Chromium divides those above zero by 32767, so
    that the loudest is 1; the page multiplies all by 32768. That moves loud ones by one, and a confidence by a little.
    """
    samples, rate = sf.read(path, dtype="int16")
    floats = samples / np.where(samples >= 0, 32767.0, 32768.0)
    return np.clip(np.floor(floats * 32768 + 0.5), -32768, 32767).astype(np.int16), rate


@chromium
def test_drop_recordings(page: Page, home: sayso.Model) -> None:
    """Accepted, asked back, rejected: in words, and as the bundle says it; and again from the list of earlier ones."""
    names = (ACCEPTED, REJECTED, ASKED)  # what follows a question is taken for its answer
    truth = talk(home, *map(recording, names))
    for name in names:
        drop(page, recording(name))
        check(page.run(SHOWN), truth[name])
        assert ("nothing that the bundle understands" in page.run(SHOWN)["word"]) == (name == REJECTED)
    assert [truth[name].decision for name in names] == ["accept", "reject", "clarify"]
    listed = page.run("[...document.querySelectorAll('#earlier li')].map((item) => item.innerText)")
    for text, name in zip(listed, reversed(names), strict=True):
        assert truth[name].text in text and f"{name}.flac" in text
    page.run("document.querySelector('#earlier li:last-child button').click()")
    again = page.run(SHOWN)
    check({**again, "told": again["word"]}, truth[ACCEPTED])
    page.run("document.querySelector('#clear').click()")
    assert not page.run("document.querySelector('#earlier').checkVisibility()")
    assert not page.problems


@chromium
def test_choose_a_file(page: Page, home: sayso.Model) -> None:
    page.choose("#file", recording(ASKED))
    page.wait(FINAL)
    check(page.run(SHOWN), talk(home, recording(ASKED))[ASKED])


@chromium
def test_a_question_is_answered(page: Page, service: Server, voice: Voice, home: sayso.Model) -> None:
    """What the page asks back is answered on the page; who comes again, or beside, begins anew."""
    said = [voice[text] for text in ("unlock the front door", "no the back door", "yes")]
    truth = talk(home, *said)
    for path in said:
        drop(page, path)
        check(page.run(SHOWN), truth[path.stem])
    assert [truth[path.stem].decision for path in said] == ["clarify", "clarify", "accept"]
    ready(page, service.url)
    drop(page, said[1])
    check(page.run(SHOWN), talk(home, said[1])[said[1].stem])


@chromium
def test_the_keyboard_alone(page: Page) -> None:
    """Tab reaches everything in order; Enter speaks, Escape forgets; Space in the list of bundles is the list's."""
    reached = []
    for _ in range(3):
        page.key("Tab")
        reached.append(page.run("document.activeElement.id"))
    assert reached == ["bundle", "file", "speak"]
    page.key("Enter")
    page.wait("document.body.dataset.phase === 'listening'")
    page.key("Escape")
    page.wait("document.body.dataset.phase === 'idle'")
    assert page.run("document.activeElement.id") == "speak" and page.run(TEXT) == ""
    assert page.run("document.querySelector('#told').textContent") == "Cancelled"
    assert not page.run("document.querySelector('#problem').checkVisibility()")
    assert page.run("document.querySelectorAll('#earlier li').length") == 0
    page.run("document.querySelector('#bundle').focus()")
    page.key(" ")
    assert page.run("document.body.dataset.phase") == "idle"


@chromium
def test_a_phone(page: Page, service: Server) -> None:
    """Nothing is wider than the window, at the width of the smallest phones: empty, with a result, with an error."""
    narrow = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    thumb = "document.querySelector('#speak').getBoundingClientRect()"
    for width in (320, 390):
        ready(page, service.url, width=width, height=700)
        assert page.run("innerWidth") == width and page.run(narrow)
        assert page.run(f"{thumb}.height >= 44 && {thumb}.bottom <= innerHeight")
        drop(page, recording(LONG))
        assert page.run("document.querySelectorAll('#meaning tbody tr').length") == 2 and page.run(narrow)
        page.drop(ROOT / "README.md")
        page.wait("document.querySelector('#problem').checkVisibility()")
        assert page.run(narrow)
        page.run("document.querySelector('#keyform').hidden = false")
        assert page.run(narrow)


# ---- what goes wrong ----


def complaint(page: Page) -> str:
    """What the page complains of."""
    page.wait("document.querySelector('#problem').checkVisibility()")
    text: str = page.run("document.querySelector('#problem').innerText")
    return text


@chromium
def test_no_recording(page: Page) -> None:
    page.drop(ROOT / "README.md")
    assert "This file cannot be read" in complaint(page) and "wav, flac" in complaint(page)
    page.wait("document.body.dataset.phase === 'idle'")
    drop(page, recording(ASKED))  # and what comes next is heard, and the complaint gone
    assert not page.run("document.querySelector('#problem').checkVisibility()")


@chromium
def test_no_microphone(service: Server) -> None:
    with browser(None) as page:
        ready(page, service.url)
        page.key(" ")
        assert "No microphone was found" in complaint(page)
        page.wait("document.body.dataset.phase === 'idle'")


@chromium
def test_a_refused_microphone(sound: Path, service: Server) -> None:
    with browser(sound, allow=False) as page:
        ready(page, service.url)
        page.call("Browser.setPermission", permission={"name": "microphone"}, setting="denied", origin=service.url)
        page.key(" ")
        assert "The microphone was refused" in complaint(page)


@chromium
def test_a_key(tab: Page, home: sayso.Model) -> None:
    """It is asked for, a wrong one is told, the right one is used for the list and for the stream."""
    key, _ = new_key("panel")
    with serving(engines=1, auth={"keys": [{"name": "panel", "hash": hashed(key)}]}) as guarded:
        tab.open(f"{guarded.url}/")
        tab.wait("document.querySelector('#keyform').checkVisibility()")
        assert not tab.run("document.querySelector('#problem').checkVisibility()")
        for typed in ("sayso-wrong", key):
            tab.run("document.querySelector('#key').value = ''; document.querySelector('#key').focus()")
            tab.write(typed)
            tab.key("Enter")
            if typed != key:
                assert "The key was not accepted" in complaint(tab) and "not known here" in complaint(tab)
        tab.wait("document.querySelector('#state').dataset.state === 'ready'")
        assert not tab.run("document.querySelector('#keyform').checkVisibility()")
        drop(tab, recording(ASKED))
        check(tab.run(SHOWN), talk(home, recording(ASKED))[ASKED])
        assert key not in tab.run("document.documentElement.outerHTML") and key not in tab.run("location.href")


def process(port: int, folder: Path) -> subprocess.Popen[bytes]:
    """``sayso serve``, answering."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "sayso.cli.main", "serve", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        started = subprocess.Popen(command, stderr=log, stdout=log, env=environment, cwd=folder)
    until = time.monotonic() + 300
    while True:
        try:
            Client(f"http://127.0.0.1:{port}").get("/health/ready")
            return started
        except (OSError, ServiceError):
            assert started.poll() is None and time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.1)


@chromium
def test_the_service_goes_and_comes_back(tab: Page, tmp_path: Path, home: sayso.Model) -> None:
    """Killed in the middle of speech: said at once, with a way back that works by itself."""
    with closing(socket.socket()) as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    running = process(port, tmp_path)
    try:
        ready(tab, f"http://127.0.0.1:{port}")
        tab.key(" ")
        tab.wait("document.body.dataset.phase === 'listening'")
        time.sleep(1.0)  # of the second before the speech
        running.send_signal(signal.SIGKILL)
        running.wait(60)
        assert re.search("The connection was lost|The service does not answer", complaint(tab))
        tab.wait("document.body.dataset.phase === 'idle'")
        assert tab.run("document.querySelector('#state').innerText") == "Not reachable"
        assert tab.run("document.querySelector('#retry').checkVisibility()")
        tab.drop(recording(ASKED))
        tab.wait("document.querySelector('#problem').innerText.includes('The service does not answer')")
        running = process(port, tmp_path)
        tab.wait("document.querySelector('#state').dataset.state === 'ready'")
        assert not tab.run("document.querySelector('#problem').checkVisibility()")
        drop(tab, recording(ASKED))
        check(tab.run(SHOWN), talk(home, recording(ASKED))[ASKED])
    finally:
        running.kill()
        running.wait(60)
