"""What the adapters for Python share: a parser of lines, the lines they print, and the loop.

As most such loops do, this one remembers the id of an event that it handed over, and nothing else."""
import json
import sys
import time

NAME, URL = sys.argv[1:3]


class Refused(Exception):
    """A status that will not change by asking again."""


def say(**line):
    print(json.dumps(line), flush=True)


class Stream:
    def __init__(self):
        self.last, self.retry = None, 1.0

    def headers(self):
        say_id = {"Last-Event-ID": self.last} if self.last else {}
        return {"Accept": "text/event-stream", **say_id}

    def opened(self, status):
        if status != 200:
            raise Refused(f"status {status}")
        self.type, self.id, self.data = "", "", []
        say(open=True)

    def line(self, text):
        if text == "":
            if self.data:
                self.last = self.id or self.last
                say(event=self.type or "message", id=self.id, data="\n".join(self.data))
            self.type, self.id, self.data = "", "", []
            return
        field, _, value = text.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if field == "data":
            self.data.append(value)
        elif field == "event":
            self.type = value
        elif field == "id":
            self.id = value
        elif field == "retry":
            self.retry = int(value) / 1000


def loop(read):
    stream = Stream()
    while True:
        try:
            read(stream)
        except Refused as e:
            say(end=str(e))
            return
        except Exception as e:  # each library has errors of its own for a connection that is gone
            say(error=f"{type(e).__name__}: {e}")
        time.sleep(stream.retry)
