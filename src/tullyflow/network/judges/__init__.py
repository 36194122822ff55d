"""Would an eye use a velocity field, and is it a disc? Two small networks, and what they learn from: classes by eye, and particles."""
