"""The training loop, and runs that can be killed and go on."""
