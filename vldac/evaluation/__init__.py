"""Episodes in a simulator that training never saw, and the pictures and tables made from them."""
