"""torchvision's own weights: fetched once per node, whoever asks, and checked by the hash in their name."""

import hashlib
import http.server
import subprocess
import sys
import threading

import pytest

from pipeline.errors import StorageError
from pipeline.stages.weights import download

CONTENT = b"weights " * 100_000


@pytest.fixture
def web_server(tmp_path):
    """An HTTP server on loopback that counts its GETs."""
    gets = []

    class Serving(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            gets.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Serving)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", gets
    server.shutdown()
    server.server_close()


def test_many_processes_of_a_node_download_once(web_server, tmp_path, monkeypatch):
    base, gets = web_server
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = f"{base}/resnet50-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"
    script = f"from pipeline.stages.weights import download; print(len(download({url!r}).data))"

    processes = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    sizes = [process.communicate(timeout=60)[0].strip() for process in processes]

    assert sizes == [str(len(CONTENT))] * 3
    assert len(gets) == 1


def test_a_file_that_is_not_what_its_name_says_is_refused_and_not_kept(web_server, tmp_path, monkeypatch):
    base, gets = web_server
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    for _ in range(2):
        with pytest.raises(StorageError, match=r"cannot download .*invalid hash value"):
            download(f"{base}/resnet50-00000000.pth")

    assert len(gets) == 2
