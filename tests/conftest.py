"""Fixtures that several test modules share: a browser, JupyterLab in it, and a notebook that a test opens, runs and looks at."""
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 180    # seconds for one step: never reached where all is well, and a busy machine is slow
SETTINGS = {      # as in a JupyterLab that has been used before: no question about news, no look for updates
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
}


@pytest.fixture(scope="module")
def browser():
    "Chromium without a window: the system's, or the one that `make browser` fetches."
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    system = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    with playwright.sync_playwright() as p:
        if system is None and not Path(p.chromium.executable_path).exists():
            pytest.skip("no Chromium or Chrome on this machine: make browser")
        chromium = p.chromium.launch(executable_path=system, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def lab_server(tmp_path_factory):
    "A JupyterLab of its own on a free port, as (address, token, folder); it knows nothing of the user's settings."
    home = tmp_path_factory.mktemp("lab")
    folder = home/"notebooks"
    folder.mkdir()
    for name, text in SETTINGS.items():
        file = (home/"config/lab/user-settings/@jupyterlab"/name).with_suffix(".jupyterlab-settings")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    folders = {f"JUPYTER_{name.upper()}_DIR": str(home/name) for name in ("config", "runtime")} | {"IPYTHONDIR": str(home/"ipython")}
    settings = dict(JUPYTER_PREFER_ENV_PATH="1", JUPYTER_TOKEN=token, OMP_NUM_THREADS="1", GOMP_SPINCOUNT="10000")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser", "--ip=127.0.0.1",
               f"--port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"]
    with open(home/"log.txt", "w") as log: server = subprocess.Popen(command, env=os.environ | folders | settings, stdout=log, stderr=log)
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
    try:
        while True:
            try: urllib.request.urlopen(f"{address}/api?token={token}", timeout=5).close(); break
            except OSError:
                assert server.poll() is None and time.monotonic() < end, (home/"log.txt").read_text()
                time.sleep(0.2)
        yield address, token, folder
    finally:
        server.terminate()
        server.wait(PATIENCE)


class Notebook:
    "A notebook in a tab of JupyterLab."
    def __init__(self, page): self.page = page

    def run(self, seconds=PATIENCE):
        "Run all cells and wait until the kernel has answered them. Returns the code cells as the notebook's file has them."
        self.wait("jupyterapp.commands.execute('notebook:run-all-cells')", seconds)
        return self.cells()

    def cells(self):
        "The code cells with their outputs."
        notebook = self.page.evaluate("() => jupyterapp.shell.currentWidget.content.model.toJSON()")
        return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]

    def errors(self):
        "What went wrong in the kernel, a line an error."
        outputs = [output for cell in self.cells() for output in cell["outputs"]]
        return [f"{output['ename']}: {output['evalue']}" for output in outputs if output["output_type"] == "error"]

    def kernel(self, code, seconds=PATIENCE):
        "Run code in the notebook's kernel and return what it prints."
        printed = self.wait("""(async code => {
            const said = [], kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel
            const future = kernel.requestExecute({code, store_history: false})
            future.onIOPub = message => { if (message.header.msg_type == "stream") said.push(message.content.text) }
            const reply = await future.done
            if (reply.content.status != "ok") throw new Error(reply.content.ename + ": " + reply.content.evalue)
            return said.join("")
        })(argument)""", seconds, code)
        return printed.strip()

    def until(self, code, expected, seconds=PATIENCE):
        "Wait until the code prints this. A widget sends one change at a time and holds the next back until the kernel has answered."
        end = time.monotonic() + seconds
        while (printed := self.kernel(code)) != expected:
            assert time.monotonic() < end, f"{printed} instead of {expected}"
            time.sleep(0.1)

    def close(self):
        "Stop the kernel and close the tab."
        self.wait("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.page.close()

    def wait(self, promise, seconds=PATIENCE, argument=None):
        "The value of a promise in the page. `page.evaluate` would wait for ever."
        self.page.evaluate("""([promise, argument]) => {
            const answer = window.answer = {}    // a promise that was waited for in vain may still answer, but to its own
            const end = Promise.resolve(eval(promise)).then(value => { answer.value = value }, error => { answer.error = String(error) })
            end.then(() => { answer.done = true })
        }""", [promise, argument])
        self.page.wait_for_function("() => window.answer.done", timeout=1000*seconds)
        answer = self.page.evaluate("() => window.answer")
        assert "error" not in answer, answer["error"]
        return answer.get("value")


@pytest.fixture(scope="module")
def open_notebook(browser, lab_server):
    """A function: `open_notebook(PATH)` or `open_notebook([CODE, …])` opens a copy, without its outputs, and gives a `Notebook` whose
    kernel is ready. A page may have no uncaught error."""
    address, token, folder = lab_server
    opened, troubles = [], []

    def open(source, name=None):
        if isinstance(source, (str, Path)): notebook, name = nbformat.read(source, 4), name or Path(source).stem
        else: notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in source])
        for cell in notebook.cells:
            if cell.cell_type == "code": cell.outputs, cell.execution_count = [], None
        notebook.metadata = dict(kernelspec=dict(display_name="python3", language="python", name="python3"))
        file = folder/f"{name or 'test'}-{secrets.token_hex(4)}.ipynb"
        nbformat.write(notebook, file)
        page = browser.new_page(viewport=dict(width=1300, height=1000))
        page.set_default_timeout(1000*PATIENCE)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        opened.append(Notebook(page))
        page.goto(f"{address}/lab/tree/{file.name}?reset&token={token}", wait_until="load")
        page.wait_for_function("() => window.jupyterapp && jupyterapp.restored")
        page.wait_for_function("""() => {
            const widget = jupyterapp.shell.currentWidget
            return widget?.context?.isReady && widget.sessionContext.isReady && widget.sessionContext.session?.kernel
        }""")
        return opened[-1]

    yield open
    for notebook in opened: notebook.close()
    assert not troubles, troubles
