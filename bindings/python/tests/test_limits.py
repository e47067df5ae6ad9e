"""Many kernels, and few descriptors."""

from conftest import run


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
