"""Many kernels at one client: few descriptors, and news that come late."""

from conftest import run
from trunkline._kernels import _Cell, _Kernel


def test_an_old_note_of_the_roster_does_not_give_back_an_input_that_is_lost():
    kernel = _Kernel("one", None, None)
    list(kernel.hear(("roster", 1, 1, True)))
    assert kernel.has_input
    stream = []
    kernel.cells.append(_Cell(1, stream))
    assert [said.kind for _, said in kernel.hear(("deaf",))] == ["refused"]
    # It was written before, and the loss is told at once.
    list(kernel.hear(("roster", 1, 1, True)))
    assert kernel.deaf and not kernel.has_input


def test_kernels_that_find_no_descriptor_are_told_and_none_of_them_is_left():
    code = """
        import os, resource
        from trunkline import Kernels
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, most))
        # Other processes do not have these.
        fillers = [os.open("/dev/null", os.O_RDONLY) for _ in range(96)]
        with Kernels() as kernels:
            try:
                kernels.start(*(f"kernel {i}" for i in range(40)))
            except OSError as error:
                print(error)
            print(kernels.names)
            for filler in fillers:
                os.close(filler)
            kernels.start("one")
            print(kernels.run("6 * 7")["one"].stdout)
    """
    done = run(code)
    assert done.status == 0, done.err
    said, names, value = done.out.split("\n")[:3]
    assert "a descriptor of this process" in said and "ulimit -n" in said
    assert (names, value) == ("[]", "42")
