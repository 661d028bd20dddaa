"""Models of faces for innverse: data alone, which ``innverse.load("faces64")`` finds."""
