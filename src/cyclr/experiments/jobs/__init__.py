"""What trials do in each framework."""
