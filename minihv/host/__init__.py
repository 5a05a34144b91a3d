"""The host's terminal, files and memory: besides `engine.kvm`, the only code that talks to the OS."""
