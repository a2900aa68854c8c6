"""Statistics on arrays and sums; none of them knows about judges."""
