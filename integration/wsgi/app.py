# SPDX-FileCopyrightText: The Minigate Authors
# SPDX-License-Identifier: Apache-2.0

"""An app that knows headers only by their CGI names, as apps in PHP, Ruby and
Python do. It answers with those names and their values as a JSON object, and
prints the port that it serves on.
"""

import json
from wsgiref.simple_server import make_server


def app(environ, start_response):
    """Answer with what the server made of the request's headers."""
    headers = {name: value for name, value in environ.items() if name.startswith("HTTP_")}
    body = json.dumps(headers).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


with make_server("127.0.0.1", 0, app) as server:
    print("serving on port", server.server_port, flush=True)
    server.serve_forever()
