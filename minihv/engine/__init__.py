"""Engines: what executes the guest's instructions."""
