"""The large studies on a machine that has a GPU, but no network and not much time."""
