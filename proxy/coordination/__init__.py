"""What may be forgotten at any moment: leases, short-lived shared values."""
