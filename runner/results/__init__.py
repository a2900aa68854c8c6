"""Where rows go, and how what is there is found again: journal segments, closed parts, one line per sample."""
