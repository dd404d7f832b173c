"""What the tests stand on: a running server, real clients, looks at the host from outside."""
