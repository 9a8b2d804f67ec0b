"""A headless Chromium, driven over the DevTools protocol through a pipe: Python's own library is all it needs."""
import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time

KEYS = {
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35, "Escape": 27, "Tab": 9,
    "Enter": 13, " ": 32,
}


class Chromium:
    """One page. It keeps every error that the page or the browser has told of, and every address asked for."""

    def __init__(self, program="chromium"):
        self.errors, self.requests = [], []
        self.folder = tempfile.mkdtemp(prefix="chromium-")
        # Chromium reads commands from descriptor 3 and writes answers to 4, each ended by a zero byte.
        from_us, self.input = os.pipe()
        self.output, to_us = os.pipe()
        high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10) for descriptor in (from_us, to_us)]

        def place():
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        arguments = [
            "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--force-color-profile=srgb", "--hide-scrollbars", f"--user-data-dir={self.folder}", "about:blank"]
        self.process = subprocess.Popen(
            [program] + arguments, preexec_fn=place, pass_fds=(3, 4), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for descriptor in (from_us, to_us, *high):
            os.close(descriptor)
        self.number, self.answers, self.arrived = 0, {}, threading.Condition()
        self.session = None
        threading.Thread(target=self._read, daemon=True).start()
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self):
        self.session = None
        try:
            self.send("Browser.close")
            self.process.wait(10)
        except (OSError, RuntimeError, TimeoutError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    # The protocol

    def send(self, method, **parameters):
        self.number += 1
        number = self.number
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.input, json.dumps(message).encode() + b"\0")
        with self.arrived:
            if not self.arrived.wait_for(lambda: number in self.answers, 30):
                raise TimeoutError(f"Chromium has not answered {method} within 30 s")
            answer = self.answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _read(self):
        rest = b""
        while chunk := os.read(self.output, 1 << 16):
            *messages, rest = (rest + chunk).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    with self.arrived:
                        self.answers[message["id"]] = message
                        self.arrived.notify_all()
                else:
                    self._note(message["method"], message["params"])

    def _note(self, method, parameters):
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert", "warning"):
            self.errors.append(" ".join(str(argument.get("value")) for argument in parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")

    # The page

    def open(self, address):
        self.send("Page.navigate", url=address)

    def look(self, width, height, dark=False):
        """The window's size, and whether the system is dark."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def evaluate(self, expression):
        answer = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']['exception']['description']}")
        return answer["result"].get("value")

    def wait(self, expression, seconds=20):
        """Waits until an expression is true, as JavaScript has it, and returns its value."""
        end = time.monotonic() + seconds
        while True:
            value = self.evaluate(expression)
            if value not in (None, False, 0, ""):
                return value
            if time.monotonic() > end:
                text = self.evaluate("document.body.innerText.slice(0, 1500)")
                raise AssertionError(f"not so after {seconds} s: {expression}\nthe page says:\n{text}")
            time.sleep(0.1)

    def screenshot(self, path, whole=False):
        # Two frames: the charts draw with the next one.
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        size = {}
        if whole:
            box = self.send("Page.getLayoutMetrics")["cssContentSize"]
            size = {"clip": {"x": 0, "y": 0, "width": box["width"], "height": box["height"], "scale": 1}}
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **size)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def key(self, key, shift=False):
        event = {"key": key, "modifiers": 8 if shift else 0, "windowsVirtualKeyCode": KEYS.get(key, 0)}
        if key not in KEYS or key in (" ", "Enter"):
            event["text"] = "\r" if key == "Enter" else key
        self.send("Input.dispatchKeyEvent", type="keyDown", **event)
        self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text):
        self.send("Input.insertText", text=text)

    def box(self, selector):
        """Where an element is in the window, after scrolling to it."""
        return self.evaluate(
            f"(() => {{ const node = document.querySelector({json.dumps(selector)}); node.scrollIntoView({{block: 'center'}});"
            "const box = node.getBoundingClientRect(); return {x: box.x, y: box.y, width: box.width, height: box.height} })()")

    def mouse(self, kind, x, y, **more):
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, selector, clicks=1):
        box = self.box(selector)
        place = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        for click in range(1, clicks + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self.mouse(kind, *place, button="left", clickCount=click)

    def drag(self, selector, start, end):
        """Drags from one part of an element's width to another."""
        box = self.box(selector)
        y = box["y"] + box["height"] / 2
        places = [box["x"] + box["width"] * part for part in (start, (start + end) / 2, end)]
        self.mouse("mouseMoved", places[0], y)
        self.mouse("mousePressed", places[0], y, button="left", buttons=1, clickCount=1)
        for x in places[1:]:
            self.mouse("mouseMoved", x, y, button="left", buttons=1)
        self.mouse("mouseReleased", places[2], y, button="left", clickCount=1)
