"""The dashboard in a real browser, over real trainings: dashboard.py FEEDBACK FOLDER [SCREENSHOTS]."""
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time

from chromium import Chromium

feedback, work = sys.argv[1:3]
screenshots = sys.argv[3] if len(sys.argv) > 3 else None
hostile = "<img src=x onerror=alert(1)>"
loss = ".chart.wide canvas"
points = f"Number(document.querySelector('{loss}').ariaLabel?.match(/training, (\\d+) points/)?.[1] ?? 0)"
processes = []


def start(*arguments):
    process = subprocess.Popen(
        [feedback, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    processes.append(process)
    return process


def train(name, *arguments):
    return start(
        "train", "--data", f"{work}/text.txt", "--layers", "2", "--d-model", "64", "--heads", "4", "--d-ff", "128",
        "--sequence-length", "64", "--batch-size", "16", "--warmup-steps", "20", "--threads", "1", "--quiet",
        "--eval-interval", "100", "--sample-interval", "100", "--checkpoint-interval", "200",
        "--output", f"{work}/{name}", *arguments)


def serve(port=0):
    """The server, and the address that it tells of."""
    process = start("serve", "--dashboard", "--port", str(port))
    text, end = "", time.monotonic() + 30
    while time.monotonic() < end:
        if select.select([process.stdout], [], [], 0.2)[0]:
            text += os.read(process.stdout.fileno(), 4096).decode()
        if found := re.search(r"http://127\.0\.0\.1:\d+", text):
            return process, found[0]
        assert process.poll() is None, f"the server has ended: {text}"
    raise AssertionError(f"the server tells of no address: {text}")


def row(name, what):
    """An expression: does the list show a run's state?"""
    found = f"[...document.querySelectorAll('.run-row')].find((row) => row.innerText.includes({name!r}))"
    return f"{found}?.innerText.includes({what!r})"


def picture(selector=loss):
    return browser.evaluate(f"document.querySelector({selector!r}).toDataURL()")


def shoot(name):
    for kind, width, height, dark in [
        ("dark", 1280, 900, True), ("narrow", 360, 740, False), ("light", 1280, 900, False)]:
        browser.look(width, height, dark)
        time.sleep(0.3)
        wide = browser.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name}, {kind}: {wide} pixels wide in a window of {width}"
        if screenshots:
            browser.screenshot(f"{screenshots}/{name}-{kind}.png", whole=True)


def check_live_run():
    browser.wait("document.querySelector('.empty')?.innerText.includes('feedback train --preset demo')")
    training = train("growing", "--steps", "1000000")
    browser.wait(row("growing", "running"))
    browser.evaluate("window.loadedOnce = true")
    browser.evaluate("document.querySelector('.run-row a').focus()")
    browser.key("Enter")
    browser.wait("document.querySelector('.run h1')?.innerText === 'growing'")
    browser.wait("document.querySelector('.run-header .word').innerText === 'running'")
    before = browser.wait(points), picture()
    browser.wait(f"{points} > {before[0] + 20}")
    assert picture() != before[1], "the curve's picture has not changed"
    browser.wait("document.querySelectorAll('.sample').length >= 2")
    browser.wait("document.querySelectorAll('.bars li').length === 3")
    browser.wait("document.querySelector('.bars .number').innerText.endsWith('%')")
    shares = browser.evaluate(
        "[...document.querySelectorAll('.bars .number')].map((node) => parseFloat(node.innerText))")
    assert abs(sum(shares) - 100) < 0.3, f"softmax(w) is {shares}"
    check_moving()
    check_attention()
    training.send_signal(signal.SIGINT)
    training.wait(20)
    browser.wait("document.querySelector('.run-header .word').innerText === 'interrupted'")
    assert browser.evaluate("window.loadedOnce"), "the page was loaded again"
    shoot("run")


def check_moving():
    """Zoom with mouse, wheel and keys; log scale and smoothing with the keyboard."""
    zoomed = "!document.querySelector('.toolbar button').disabled"
    at = "document.querySelector('.chart.wide .place').innerText"
    browser.drag(loss, 0.3, 0.7)
    browser.wait(zoomed)
    browser.click(loss, clicks=2)
    browser.wait(f"!({zoomed})")
    box = browser.box(loss)
    browser.mouse("mouseMoved", box["x"] + 300, box["y"] + 80)
    browser.mouse("mouseWheel", box["x"] + 300, box["y"] + 80, deltaX=0, deltaY=-200)
    browser.wait(zoomed)
    browser.key("Escape")
    browser.wait(f"!({zoomed})")
    browser.key("Home")
    browser.wait(f"{at} === 'step 1'")
    browser.key("ArrowRight")
    browser.wait(f"{at} === 'step 2'")
    browser.wait("document.querySelector('#announcement').innerText.startsWith('step 2: training ')")
    browser.key("+")
    browser.wait(zoomed)
    browser.key("Escape")
    browser.wait(f"!({zoomed})")
    browser.evaluate("document.querySelector('.toolbar input[type=checkbox]').focus()")
    browser.key(" ")
    assert browser.evaluate("document.activeElement.checked"), "the log scale is not chosen"
    browser.key("Tab")
    smoothing = browser.evaluate("document.activeElement.value")
    browser.key("ArrowLeft")
    assert browser.evaluate("document.activeElement.value") != smoothing, "the smoothing has not changed"
    outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none", "what has the focus cannot be seen"


def check_attention():
    reading = "document.querySelector('.reading').innerText"
    browser.wait("document.querySelector('.attention textarea').value.length > 0")  # a sample's beginning
    browser.evaluate("document.querySelector('.attention textarea').select()")
    browser.type("12 is odd")
    browser.click(".attention button[type=submit]")
    browser.wait("document.querySelectorAll('.heads button').length === 8")
    assert browser.evaluate("document.querySelectorAll('.tokens button').length") == 9
    painted = browser.evaluate(
        "[...document.querySelectorAll('.heads canvas')].every((canvas) =>"
        "canvas.getContext('2d').getImageData(0, 0, 9, 9).data.some((byte) => byte > 0))")
    assert painted, "a head's picture is blank"
    box = browser.box(".tokens button:nth-child(4)")
    browser.mouse("mouseMoved", box["x"] + 5, box["y"] + 5)
    browser.wait(f"{reading}.startsWith('“i” at step 3 looks at “')")
    browser.evaluate("document.querySelector('.map').focus()")
    browser.key("ArrowDown")
    browser.wait(f"{reading}.startsWith('“s” at step 4 looks at')")
    browser.key("ArrowLeft")
    browser.wait(f"{reading}.includes('looks at the memory of “i” at step 3 with')")
    browser.click(".heads button:nth-child(8)")
    browser.wait("document.querySelector('.map-title').innerText === 'Layer 2, head 4'")
    known = len(browser.errors)
    browser.evaluate("document.querySelector('.attention textarea').select()")
    browser.type("12 § 3")
    browser.click(".attention button[type=submit]")
    browser.wait("document.querySelector('.message.wrong')?.innerText.includes('§')")
    browser.evaluate("document.querySelector('.attention textarea').select()")
    browser.type("12 is odd")
    browser.click(".attention button[type=submit]")
    browser.wait("document.querySelector('.message:not(.wrong)')?.innerText.startsWith('9 tokens')")
    forgive(known, "400")


def check_list():
    """Runs appear and end while the list is looked at."""
    browser.click(".brand")
    browser.wait(row("growing", "interrupted"))
    short = train(hostile, "--steps", "300", "--seed", "2")
    browser.wait(row(hostile, "finished"), 40)
    short.wait()
    killed, broken = train("killed", "--steps", "1000000"), train("broken", "--steps", "1000000")
    browser.wait(row("killed", "running"))
    browser.wait(row("broken", "running"))
    killed.kill()
    killed.wait()
    browser.wait(row("killed", "crashed"))
    shutil.rmtree(f"{work}/broken")
    open(f"{work}/broken", "w").close()  # the next checkpoint has no place
    browser.wait(row("broken", "failed"))
    assert browser.evaluate("window.loadedOnce"), "the page was loaded again"
    assert browser.evaluate("document.querySelectorAll('main img').length") == 0, "a run's name has become an element"
    shoot("runs")


def check_compare():
    for name in ("growing", hostile):
        box = json.dumps(f'input[aria-label="Compare {name}"]')
        browser.evaluate(f"document.querySelector({box}).focus()")
        browser.key(" ")
    browser.wait("document.querySelector('.title .button').innerText === 'Compare 2 runs'")
    browser.click(".title .button")
    browser.wait("location.hash === '#/compare/1,2'")
    browser.wait("document.querySelectorAll('.compare .chart.wide .key').length === 2")
    label = f"document.querySelector('{loss}').ariaLabel"
    browser.wait(f"{label}.match(/ points/g).length === 2")
    label = browser.evaluate(label)
    assert f"{hostile}, 300 points" in label, label
    differing = browser.evaluate("document.querySelector('.compare .panel table').innerText")
    assert "seed" in differing and "d-model" not in differing, differing
    browser.evaluate("document.querySelector('.toolbar select').value = 'minutes'")
    browser.evaluate("document.querySelector('.toolbar select').dispatchEvent(new Event('change'))")
    browser.wait("document.querySelector('.chart.wide .place').innerText.endsWith(' min')")
    shoot("compare")
    browser.open("about:blank")
    browser.open(f"{address}/#/compare/2,3")
    browser.wait("document.querySelectorAll('.compare tbody .state').length === 2")


def check_absence(server):
    """An unknown run; a server that goes away and comes back."""
    known = len(browser.errors)
    browser.evaluate("location.hash = '#/runs/999'")
    browser.wait("document.querySelector('[role=alert]')?.innerText.includes('999')")
    browser.evaluate("location.hash = '#/'")
    browser.wait(row("growing", "interrupted"))
    server.terminate()
    server.wait(20)
    browser.wait("document.querySelector('#connection').innerText.includes('away')")
    again, _ = serve(address.rsplit(":", 1)[1])
    browser.wait("document.querySelector('#connection').innerText === 'Live'")
    browser.wait(row("growing", "interrupted"))
    forgive(known, "404", "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET")


def forgive(known, *reasons):
    """Takes out what the browser itself tells of answers that were asked for here."""
    new = [error for error in browser.errors[known:] if not any(reason in error for reason in reasons)]
    browser.errors[known:] = new


browser = Chromium()
try:
    server, address = serve()
    browser.look(1280, 900)
    browser.open(address)
    check_live_run()
    check_list()
    check_compare()
    check_absence(server)
    assert not browser.errors, "the console tells of errors:\n" + "\n".join(browser.errors)
    foreign = [request for request in browser.requests if not request.startswith((address, "about:"))]
    assert not foreign, f"requests left the origin: {foreign}"
    print(f"dashboard: {len(browser.requests)} requests, none to elsewhere; no console errors")
finally:
    browser.close()
    for process in processes:
        process.kill()
        process.wait()
