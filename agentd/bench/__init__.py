"""The saturation bench: open-loop load on a real server, a check that the work happened, figures that compare."""
