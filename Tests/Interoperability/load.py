"""What the server does under load, with nothing but Python's own library: see --help."""
import argparse
import collections
import http.client
import json
import os
import random
import re
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("feedback")
parser.add_argument("model", help="a model folder with a tokenizer of characters")
parser.add_argument("--seconds", type=float, default=60, help="how long the streams last")
parser.add_argument("--streams", type=int, default=64)
parser.add_argument("--threads", default="1", help="the server's")
parser.add_argument("--ratio", type=float, default=4, help="the streams' speed over one stream's, at least")
parser.add_argument("--malformed", type=int, default=10_000)
parser.add_argument("--disconnects", type=int, default=1000)
arguments = parser.parse_args()


class Server:
    def __init__(self, *options):
        self.process = subprocess.Popen(
            [arguments.feedback, "serve", arguments.model, "--port", "0", "--threads", arguments.threads, *options],
            stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        while "listening on" not in line:
            assert line, "the server does not start"
            line = self.process.stderr.readline()
        self.port = int(line.rsplit(":", 1)[1])
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.model = json.loads(self.get("/v1/models"))["data"][0]["id"]

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        body = connection.getresponse().read()
        connection.close()
        return body

    def metric(self, name):
        return int(re.search(rf"^{name}\{{[^}}]*\}} (\d+)$", self.get("/metrics").decode(), re.M)[1])

    def complete(self, **body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request("POST", "/v1/completions", json.dumps({"model": self.model, **body}))
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        return response, answer

    def open(self, stream=True, **body):
        """A request on a socket of its own, unread."""
        body = json.dumps({"model": self.model, "stream": stream, **body})
        opened = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        opened.sendall((head + body).encode())
        return opened

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self):
        """Resident, in MiB."""
        with open(f"/proc/{self.process.pid}/statm") as statistics_file:
            return int(statistics_file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def wait_until_idle(self):
        """Seconds until nothing runs or waits."""
        start = time.monotonic()
        while self.metric("feedback_running_sequences") or self.metric("feedback_queue_depth"):
            assert time.monotonic() - start < 60, "work goes on"
            time.sleep(0.005)
        return time.monotonic() - start

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=60)
        assert status == 143, status


class Stream:
    """Reads server-sent events as they come, and when."""

    def __init__(self, opened):
        self.socket = opened
        self.start = time.monotonic()
        self.rest = b""
        self.text = []
        self.times = []
        self.last = None

    def read(self):
        """Takes what has come; whether there is more to come."""
        more = self.socket.recv(1 << 16)
        now = time.monotonic()
        lines = (self.rest + more).split(b"\n")
        self.rest = lines.pop()
        for line in lines:
            if not line.startswith(b"data: "):
                continue
            self.last = line[6:]
            if self.last.startswith(b'{"id"'):
                for choice in json.loads(self.last)["choices"]:
                    if choice["text"]:
                        self.text.append(choice["text"])
                        self.times.append(now)
        return bool(more) and self.last != b"[DONE]"


def read_all(streams, seconds):
    """Reads from all at once, until they end or the time is over."""
    selector = selectors.DefaultSelector()
    for stream in streams:
        selector.register(stream.socket, selectors.EVENT_READ, stream)
    end = time.monotonic() + seconds
    while selector.get_map() and time.monotonic() < end:
        for key, _ in selector.select(0.1):
            if not key.data.read():
                selector.unregister(key.fileobj)
    selector.close()


def percentiles(values):
    ordered = sorted(values)
    return f"p50 {1000 * statistics.median(ordered):.1f} ms, p99 {1000 * ordered[int(0.99 * (len(ordered) - 1))]:.1f} ms"


# 1. Many streams: each one's text is that of its request alone, and together they are much faster.
server = Server("--max-tokens", "100000", "--batch", str(arguments.streams))
letters = [text for text in "aeiou tn" if server.complete(prompt=text, max_tokens=1)[0].status == 200]
request = {"max_tokens": 100000, "temperature": 0}
streams = [Stream(server.open(prompt=letters[i % len(letters)], **request)) for i in range(arguments.streams)]
begin = time.monotonic()
read_all(streams, arguments.seconds)
took = time.monotonic() - begin
for stream in streams:
    stream.socket.close()
together = sum(len(stream.times) for stream in streams) / took
idle = server.wait_until_idle()
alone = []
for number, letter in enumerate(letters):
    own = [stream for index, stream in enumerate(streams) if index % len(letters) == number]
    longest = max(len(stream.text) for stream in own)
    single = Stream(server.open(prompt=letter, temperature=0, max_tokens=longest))
    read_all([single], 600)
    alone.append((len(single.times) - 1) / (single.times[-1] - single.times[0]))
    for stream in own:
        assert stream.text and "".join(single.text).startswith("".join(stream.text)), "a stream has another's text"
    if number == len(letters) - 1:
        # With the time to its first token, as a client sees it.
        first = single.times[0] - single.start
ratio = together / statistics.median(alone)
print(f"{len(streams)} streams for {took:.0f} s: {together:.0f} tokens/s together, {statistics.median(alone):.0f} alone: "
      f"{ratio:.1f} times; every text is that of its request alone ({min(len(s.text) for s in streams)} tokens or more)")
print("  time to first token:", percentiles([stream.times[0] - stream.start for stream in streams]),
      f"(alone {1000 * first:.1f} ms)")
print("  between tokens:", percentiles([b - a for s in streams for a, b in zip(s.times, s.times[1:])]))
print(f"  nothing runs {1000 * idle:.0f} ms after the streams were closed")
assert ratio >= arguments.ratio, "too slow"

# 2. Clients that go in the middle of a stream, or while they wait for the whole.
def disconnect(count, at_once=50):
    left = count
    while left:
        opened = [server.open(prompt="a", stream=index % 4 > 0, **request) for index in range(min(left, at_once))]
        for index, client in enumerate(opened):
            if index % 4 > 0:
                client.recv(1 << 16)
            client.close()
        left -= len(opened)
    server.wait_until_idle()


disconnect(100)
time.sleep(0.5)
descriptors, memory = server.descriptors(), server.memory()
disconnect(arguments.disconnects)
tokens = server.metric("feedback_generated_tokens_total")
time.sleep(1)
assert server.metric("feedback_generated_tokens_total") == tokens, "work goes on"
# As before: the connection that read the metric has half a second to close.
time.sleep(0.5)
assert server.descriptors() <= descriptors, (descriptors, server.descriptors())
print(f"{arguments.disconnects} clients went: {descriptors} descriptors before, {server.descriptors()} after; "
      f"{memory:.0f} MiB before, {server.memory():.0f} after; no more tokens")
assert server.memory() < memory + 32

# 3. Nonsense.
randomly = random.Random(5)
valid = json.dumps({"model": server.model, "prompt": ["abc", [1, 2]], "max_tokens": 3, "stop": ["é"], "stream_options": {}})


def mutate(text):
    text = bytearray(text)
    for _ in range(randomly.randint(1, 4)):
        at = randomly.randrange(len(text)) if text else 0
        kind = randomly.randrange(5)
        if kind == 0 and text:
            text[at] = randomly.randrange(256)
        elif kind == 1:
            del text[at:at + randomly.randint(1, 8)]
        elif kind == 2:
            text[at:at] = text[at:at + randomly.randint(1, 8)]
        elif kind == 3:
            text[at:at] = randomly.choice([b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"0", b"-", b"e", b"\r\n", b"\xff"])
        else:
            del text[at:]
    return bytes(text) or b"{"


statuses = collections.Counter()
connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
for _ in range(arguments.malformed):
    connection.request("POST", "/v1/completions", mutate(valid.encode()))
    response = connection.getresponse()
    body = response.read()
    assert 400 <= response.status < 500 and json.loads(body)["error"]["message"], (response.status, body)
    statuses[response.status] += 1
print(f"{arguments.malformed} malformed bodies:", dict(statuses))
assert server.complete(prompt="a", max_tokens=1)[0].status == 200

head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(valid.encode())}\r\n\r\n"
statuses.clear()
for _ in range(arguments.malformed // 10):
    client = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    answer, failed = b"", False
    try:
        client.sendall(mutate((head + valid).encode()))
        client.shutdown(socket.SHUT_WR)
        while more := client.recv(1 << 16):
            answer += more
    except OSError:
        failed = True
    client.close()
    # What was refused before all of it was read may have been reset.
    status = int(answer.split(b" ")[1]) if answer.startswith(b"HTTP/1.1 ") else "reset" if failed else 0
    assert status == "reset" or 400 <= status < 500, answer
    statuses[status] += 1
print(f"{arguments.malformed // 10} malformed requests:", dict(statuses))
assert server.complete(prompt="a", max_tokens=1)[0].status == 200

# 4. A reader that does not read.
slow = server.open(prompt="a", max_tokens=2000)
start = time.monotonic()
fast = [Stream(server.open(prompt="a", max_tokens=200, temperature=0)) for _ in range(4)]
read_all(fast, 120)
assert all(stream.last == b"[DONE]" for stream in fast)
print(f"beside a reader that does not read, four streams of 200 tokens take {time.monotonic() - start:.1f} s")
slow.close()
server.stop()

# 5. A full queue.
server = Server("--batch", "2", "--queue", "3", "--max-tokens", "100000")
opened = [server.open(prompt="a", **request) for _ in range(5)]
while server.metric("feedback_queue_depth") < 3:
    time.sleep(0.01)
response, answer = server.complete(prompt="a")
assert response.status == 503 and response.headers["Retry-After"] and answer["error"]["code"] == "queue_full"
for client in opened:
    client.close()
server.wait_until_idle()
assert server.complete(prompt="a")[0].status == 200
server.stop()
print("a full queue is refused with 503 and Retry-After, and taken again when it is not")

# 6. SIGTERM under load: what can finish does, the rest is told.
server = Server("--drain-time", "3", "--max-tokens", "100000")
streams = [
    Stream(server.open(prompt="a", temperature=0, max_tokens=20 if index % 2 else 100000)) for index in range(32)]
while server.metric("feedback_running_sequences") < 16:
    time.sleep(0.01)
start = time.monotonic()
server.process.send_signal(signal.SIGTERM)
read_all(streams, 60)
assert server.process.wait(timeout=60) == 143
took = time.monotonic() - start
for index, stream in enumerate(streams):
    assert (stream.last == b"[DONE]") == bool(index % 2), stream.last
    if not index % 2:
        assert json.loads(stream.last)["error"]["code"] == "shutting_down"
assert took < 6, took
print(f"SIGTERM under load: 16 streams finished, 16 were told, all ended after {took:.1f} s of 3 s drain time")
