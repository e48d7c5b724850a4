"""Receives webhooks for test-notify.sh: receiver.py ADDRESS PORT FOLDER.

Appends a line to FOLDER/received for each object: the Authorization header, a
blank, the object with its keys sorted; or INVALID and why. While there is a
file FOLDER/hang it never answers, and appends the object to FOLDER/held.
"""

import http.server
import json
import pathlib
import sys
import threading

folder = pathlib.Path(sys.argv[3])
lock = threading.Lock()


def unique(pairs):
    """Returns an object whose names are unique and whose values are strings."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names) or not all(isinstance(v, str) for _, v in pairs):
        raise ValueError(f"not unique names with strings: {pairs}")
    return dict(pairs)


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if (folder / "hang").exists():
            self.note("held", body.decode())
            threading.Event().wait()
        try:
            if self.headers.get_all("Content-Type") != ["application/json"] or self.path != "/hook":
                raise ValueError(f"{self.path}, {self.headers}")
            text = json.dumps(json.loads(body, object_pairs_hook=unique), sort_keys=True)
            self.note("received", f"{self.headers['Authorization']} {text}")
            self.send_response(204)
        except ValueError as err:
            self.note("received", f"INVALID {err!r} {body!r}")
            self.send_response(400)
        self.end_headers()

    def note(self, name, line):
        with lock, open(folder / name, "a") as file:
            file.write(line + "\n")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


Server((sys.argv[1], int(sys.argv[2])), Receiver).serve_forever()
