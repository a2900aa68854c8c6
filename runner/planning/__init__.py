"""What a run will ask and what that will cost; nothing is sent."""
