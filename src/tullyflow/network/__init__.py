"""The semantic autoencoder of Dawson+2021: two encoders read a disc's parameters, the disc model decodes them."""
