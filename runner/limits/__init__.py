"""How fast and how much may be asked: concurrency, request and token rates, the budget."""
