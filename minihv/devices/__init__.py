"""Device models. They know register offsets, never addresses, IRQ numbers, engines or the host."""
