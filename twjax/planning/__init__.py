"""What a run will cost, from the compiler, before a device is rented."""
