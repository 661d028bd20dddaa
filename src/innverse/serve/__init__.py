"""``innverse serve``: a page in the browser to try it all on, for this machine and without a cloud."""
