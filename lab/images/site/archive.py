"""The site's mirror of the distributions' archives, for nodes that reach nothing else. It fetches each request from the origin.

    http://archive.lab.internal/http/HOST/PATH   is http://HOST/PATH

It keeps nothing, and nodes need not trust it: apt checks signatures as always. Called by site.py.
"""

import http.server
import re
import shutil
import urllib.error
import urllib.request

PASSED = ("If-Modified-Since", "If-Range", "Range", "User-Agent")
BOUND = 60  # seconds without a byte from the origin


def answer(request: http.server.BaseHTTPRequestHandler) -> None:
    """Answer a request with the origin's response."""
    url = re.sub(r"^/(https?)/", r"\1://", request.path)
    headers = {name: value for name in PASSED if (value := request.headers.get(name))}
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers, method=request.command), timeout=BOUND
        )
    except urllib.error.HTTPError as error:  # 304 and 404 among them
        response = error
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        return request.send_error(502, f"{url}: {error}")
    with response:
        request.send_response(response.status)
        length = response.headers.get("Content-Length")
        for name in ("Content-Type", "Last-Modified", "Content-Range", "ETag"):
            if value := response.headers.get(name):
                request.send_header(name, value)
        if length is None and response.status != 304:  # the end of the connection is its end
            request.close_connection = True
            request.send_header("Connection", "close")
        else:
            request.send_header("Content-Length", length or "0")
        request.end_headers()
        if request.command == "GET":
            shutil.copyfileobj(response, request.wfile)
    return None
