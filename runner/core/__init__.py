"""What several rooms share and that knows none of them."""
