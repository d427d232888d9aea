"""What the test of a whole Mooring under random orders and faults is made of."""
