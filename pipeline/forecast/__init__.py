"""What a run is going to take: time, requests, failures, money. Pure."""
