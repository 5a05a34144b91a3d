"""Loaders: image file -> BootPlan. They never touch a machine, an engine or guest memory."""
