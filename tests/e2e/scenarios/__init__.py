"""What each service's operations do together, told once for every family of clients."""
