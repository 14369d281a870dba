"""An HTTP/2 client upon python3-h2, which shares no code with nghttp2: `http2.py HOST PORT [CA]`, with CA over TLS by
ALPN, else by prior knowledge. It runs a number of checks, prints a line of JSON for each ({"passed": name}, or
{"failed": name, "why": text}), then "drain" is for whoever started it: SIGTERM for the broker; the last check
waits for GOAWAY."""
import json
import socket
import ssl
import sys
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

HOST, PORT = sys.argv[1], int(sys.argv[2])
CA = sys.argv[3] if len(sys.argv) > 3 else None
PATIENCE_S = 30


class Stream:
    def __init__(self):
        self.status, self.body, self.ended, self.reset, self.unread = None, b"", False, None, 0

    def data(self):
        lines = self.body.decode().split("\n")
        return [line[6:] for line in lines if line.startswith("data: ")]


class Client:
    """`window`: of each stream; with `greedy` windows are given back at once, else only by take()."""

    def __init__(self, window=65535, greedy=True):
        sock = socket.create_connection((HOST, PORT))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if CA:
            context = ssl.create_default_context(cafile=CA)
            context.set_alpn_protocols(["h2"])
            sock = context.wrap_socket(sock, server_hostname="localhost")
            assert sock.selected_alpn_protocol() == "h2", "no h2 by ALPN"
        sock.settimeout(0.2)
        self.sock, self.greedy, self.streams, self.goaway, self.closed = sock, greedy, {}, None, False
        self.bytes = b""
        self.conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.conn.local_settings = h2.settings.Settings(client=True, initial_values={
            h2.settings.SettingCodes.ENABLE_PUSH: 0, h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.conn.initiate_connection()
        self.flush()

    def flush(self):
        self.sock.sendall(self.conn.data_to_send())

    def request(self, method, path, body=None, headers=()):
        sid = self.conn.get_next_available_stream_id()
        self.streams[sid] = Stream()
        fields = [(":method", method), (":scheme", "https" if CA else "http"), (":path", path),
                  (":authority", "localhost"), *headers]
        self.conn.send_headers(sid, fields, end_stream=body is None)
        while body is not None:
            room = min(self.conn.local_flow_control_window(sid), self.conn.max_outbound_frame_size, len(body))
            if room or not body:
                piece, body = body[:room], body[room:]
                self.conn.send_data(sid, piece, end_stream=not body)
                if not body:
                    body = None
            self.flush()
            if not room and body:
                self.pump()
        self.flush()
        return sid

    def publish(self, topic, text):
        sid = self.request("POST", f"/events?topic={topic}", text.encode(), [("content-type", "text/plain")])
        self.wait(lambda: self.streams[sid].ended, "the answer to a publish")
        assert self.streams[sid].status == "201", self.streams[sid].status

    def subscribe(self, topic, *headers):
        sid = self.request("GET", f"/events?topic={topic}", headers=[("accept", "text/event-stream"), *headers])
        self.wait(lambda: self.streams[sid].status, "a stream")
        assert self.streams[sid].status == "200", self.streams[sid].status
        return sid

    def take(self, sid):
        """Gives back the window of what has come on it."""
        s = self.streams[sid]
        if s.unread:
            self.conn.acknowledge_received_data(s.unread, sid)
            s.unread = 0
            self.flush()

    def pump(self):
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return
        self.bytes += data
        while len(self.bytes) >= 9 and len(self.bytes) >= 9 + int.from_bytes(self.bytes[:3], "big"):
            n = 9 + int.from_bytes(self.bytes[:3], "big")
            piece, self.bytes = self.bytes[:n], self.bytes[n:]
            self.take_frame(piece)
        self.flush_if_open()

    def take_frame(self, piece):
        for event in self.conn.receive_data(piece):  # raises where the broker breaks the protocol
            s = self.streams.get(getattr(event, "stream_id", None))
            if isinstance(event, h2.events.ResponseReceived):
                s.status = dict(event.headers)[":status"]
            elif isinstance(event, h2.events.DataReceived):
                s.body += event.data
                s.unread += event.flow_controlled_length
                if self.greedy and event.stream_ended is None:
                    self.take(event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                s.ended = True
            elif isinstance(event, h2.events.StreamReset):
                s.reset = event.error_code
            elif isinstance(event, h2.events.ConnectionTerminated):
                # the library takes nothing from then on, although the streams that there are go on (RFC 9113 6.8)
                self.goaway = event
                self.conn.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN

    def flush_if_open(self):
        try:
            self.flush()
        except OSError:  # the end is read next
            pass

    def wait(self, done, what):
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < deadline and not self.closed, f"not in time: {what}"
            self.pump()

    def wait_for(self, sid, texts):
        self.wait(lambda: self.streams[sid].data()[-len(texts):] == texts, f"{len(texts)} events on stream {sid}")

    def drink(self, sid, texts):
        """As wait_for(), for one whose windows are given back as late as possible."""
        def got():
            self.take(sid)
            return self.streams[sid].data()[-len(texts):] == texts
        self.wait(got, f"{len(texts)} events on stream {sid}")


def subscribe_and_publish():
    c = Client()
    sid = c.subscribe("one")
    for i in range(50):
        c.publish("one", f"event {i}")
    c.wait_for(sid, [f"event {i}" for i in range(50)])


def twenty_streams():
    c = Client()
    list_ = [c.subscribe("many") for _ in range(20)]
    for i in range(30):
        c.publish("many", f"event {i}")
    for sid in list_:
        c.wait_for(sid, [f"event {i}" for i in range(30)])


def a_large_body():
    c = Client()
    sid = c.subscribe("large")
    c.publish("large", "x" * 900000)
    c.wait_for(sid, ["x" * 900000])


def tiny_windows():
    c = Client(window=100, greedy=False)
    sid, other = c.subscribe("tiny"), c.subscribe("other")
    publisher = Client()
    expected = [f"{i} " + "y" * 300 for i in range(40)]
    for text in expected:
        publisher.publish("tiny", text)
    s = c.streams[sid]
    c.wait(lambda: s.unread == 100, "a full window")
    publisher.publish("other", "is not held up")
    c.drink(other, ["is not held up"])
    c.drink(sid, expected)


def reset():
    c = Client()
    first, second = c.subscribe("reset"), c.subscribe("reset")
    c.conn.reset_stream(first, h2.errors.ErrorCodes.CANCEL)
    c.flush()
    c.publish("reset", "after it")
    c.wait_for(second, ["after it"])
    assert b"after it" not in c.streams[first].body, c.streams[first].body


def answers():
    c = Client()
    for method, path, status in (("GET", "/nothing", "404"), ("HEAD", "/events", "200"), ("PUT", "/events", "405"),
                                 ("GET", "/events?topic=%zz", "400"), ("OPTIONS", "/events", "204")):
        sid = c.request(method, path)
        c.wait(lambda sid=sid: c.streams[sid].ended, f"{method} {path}")
        assert c.streams[sid].status == status, (method, path, c.streams[sid].status)


def resume():
    c = Client()
    for i in range(20):
        c.publish("resumed", f"event {i}")
    sid = c.subscribe("resumed&last_event_id=earliest")
    c.wait_for(sid, [f"event {i}" for i in range(20)])
    ids = [line[4:] for line in c.streams[sid].body.decode().split("\n") if line.startswith("id: ")]
    again = c.subscribe("resumed", ("last-event-id", ids[-6]))
    c.wait_for(again, [f"event {i}" for i in range(15, 20)])


def goaway():
    c = Client()
    list_ = [c.subscribe("drained") for _ in range(5)]
    print(json.dumps({"drain": True}), flush=True)
    c.wait(lambda: c.goaway, "GOAWAY")
    assert c.goaway.error_code == h2.errors.ErrorCodes.NO_ERROR, c.goaway
    assert c.goaway.last_stream_id == list_[-1], c.goaway
    c.wait(lambda: all(c.streams[sid].ended for sid in list_), "the end of the streams")
    assert all("retry: " in c.streams[sid].body.decode() for sid in list_), "no retry"
    while not c.closed:
        c.pump()


for check in (subscribe_and_publish, twenty_streams, a_large_body, tiny_windows, reset, answers, resume, goaway):
    try:
        check()
        print(json.dumps({"passed": check.__name__}), flush=True)
    except Exception as e:  # of any kind: it is the report
        print(json.dumps({"failed": check.__name__, "why": f"{type(e).__name__}: {e}"}), flush=True)
        sys.exit(1)
