"""`jupyter console` at a kernel of trunkline's, on a terminal."""

import pytest

pytest.importorskip("jupyter_console")

from notebooks import install
from test_console import Terminal


@pytest.fixture
def terminal(tmp_path):
    install(tmp_path, "trunkline.jupyter", "trunkline")
    settings = {"JUPYTER_PATH": str(tmp_path / "share/jupyter"), "JUPYTER_CONFIG_DIR": str(tmp_path)}
    settings["IPYTHONDIR"] = str(tmp_path)
    made = Terminal(tmp_path, "--kernel", "trunkline", program=("-m", "jupyter_console"), **settings)
    yield made
    made.close()


def test_a_person_has_results_errors_questions_blocks_and_interrupts(terminal):
    terminal.until(r"In \[1\]: ")
    terminal.type("40 + 2\r")
    terminal.until(r"Out\[1\]: 42")
    terminal.until(r"In \[2\]: ")
    terminal.type("1/0\r")
    terminal.until("ZeroDivisionError: division by zero")
    terminal.until(r"In \[3\]: ")
    terminal.type("name = input('who? ')\r")
    terminal.until(r"\nwho\? ")
    terminal.type("Ada\r")
    terminal.until(r"In \[4\]: ")
    terminal.type("for i in range(2):\rprint(i, name)\r")
    terminal.until(r"print\(i, name\)")
    terminal.type("\r")
    terminal.until("0 Ada\n1 Ada")
    terminal.until(r"In \[5\]: ")
    terminal.type("print('beg' + 'un'); exec('while True: pass')\r")
    terminal.until("begun\n")
    terminal.type("\x03")
    terminal.until("KeyboardInterrupt")
    terminal.until(r"In \[6\]: ")
    terminal.type("exit\r")
    assert terminal.wait() == 0
