"""What operators see: Flower, with rows that are made of our records."""
