"""The tests of pytrace. They mirror the floors; e2e needs root, vm needs qemu."""
