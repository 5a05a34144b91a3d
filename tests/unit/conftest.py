"""Puts this directory on the import path, so that unit tests share `native_fpu`."""
