"""Where trials run: worker processes on this machine, or a Ray cluster."""
