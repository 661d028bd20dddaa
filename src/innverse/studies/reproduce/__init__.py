"""Published studies, run again: one declarative table each, cells that resume, one page."""
