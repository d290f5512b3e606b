"""Moving MNIST: digits, how they move, sequences by number, fixed sets with their checksums."""
