"""Tests of a guest that read like any Python test: the pytest plugin of minihv, and what its fixture gives.

    def test_the_kernel_says_hello(vm):
        result = vm.run("build/kernel.elf")
        result.assert_outcome("exit", 0)
        result.assert_console("hello\\n")
        result.assert_budget("io=50,mmio=0")

`vm` is there as soon as minihv is installed beside pytest (entry point `pytest11`). Each test with it runs
once on every engine that works here; `--minihv-engines kvm,interpret` or the marker
`@pytest.mark.minihv_engines("interpret")` choose.
"""
